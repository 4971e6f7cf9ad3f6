"""Matting models from local files: the real runtime and the real classes, at tiny size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import over, screen, thing, things

from gs4d.errors import UserError
from gs4d.intake.masks import mask_facts
from gs4d.prior.matting import load_matting, salient_box


def field(number: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def write_onnx(path: Path, side: int, channels: int = 3) -> Path:
    """A network of one layer, whose mask is the mean of the channels: bright things stand out."""

    def tensor(name: bytes, shape: Sequence[int]) -> bytes:
        dims = b"".join(field(1, field(1, n)) for n in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    axes = field(1, b"axes") + field(20, 7) + field(8, 1)
    node = field(1, b"x") + field(2, b"y") + field(4, b"ReduceMean") + field(5, axes)
    places = field(11, tensor(b"x", [1, channels, side, side])) + field(
        12, tensor(b"y", [1, 1, side, side])
    )
    graph = field(1, node) + field(2, b"g") + places
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    return path


@pytest.mark.parametrize(
    ("name", "side"),
    [("u2net.onnx", 320), ("isnet-general-use.onnx", 1024), ("birefnet.onnx", 1024)],
)
def test_matting_with_an_onnx_file(tmp_path: Path, name: str, side: int):
    matting = load_matting(write_onnx(tmp_path / name, side))
    truth = thing(0.2, color=(255, 250, 240))
    dark = over(truth, screen() * 0.2)
    alpha = matting(dark)
    assert alpha.shape == dark.shape[:2]
    assert 0 <= alpha.min() <= alpha.max() <= 1
    bright = (truth[..., :3].min(-1) > 200) & (truth[..., 3] == 255)
    assert alpha[bright].mean() > 0.8
    assert alpha[truth[..., 3] == 0].mean() < 0.4


def test_bad_matting_models_get_one_sentence(tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"hello")
    with pytest.raises(UserError, match="not an intact ONNX model"):
        load_matting(tmp_path / "broken.onnx")
    with pytest.raises(UserError, match="not one RGB picture"):
        load_matting(write_onnx(tmp_path / "deep.onnx", 32, channels=5))
    with pytest.raises(UserError, match="--point only means something to SAM 2"):
        load_matting(tmp_path / "broken.onnx", (0.5, 0.5))
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load_matting(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam2_video"}')
    with pytest.raises(UserError, match="not an intact SAM 2 checkpoint"):
        load_matting(tmp_path)


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real classes of SAM 2 at tiny size with random weights."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=128,
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        image_size=64,
        num_maskmem=3,
        max_object_pointers_in_encoder=4,
        prompt_encoder_config={
            "hidden_size": 128,
            "image_size": 64,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 16,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_attention_downsample_rate=1,
        memory_attention_feed_forward_hidden_size=16,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=16,
    )
    folder = tmp_path_factory.mktemp("sam")
    Sam2VideoModel(config).save_pretrained(folder)
    return folder


def test_sam_follows_frame_by_frame_and_forgets_what_it_need_not_know(tiny_sam: Path):
    matting, elsewhere = load_matting(tiny_sam), load_matting(tiny_sam, (0.05, 0.9))
    masks = [matting(over(truth, screen())) for truth in things(8)]
    assert all(mask.shape == (90, 120) and 0 <= mask.min() <= mask.max() <= 1 for mask in masks)
    assert not np.array_equal(masks[0], elsewhere(over(thing(), screen())))  # the prompt matters
    session = matting.session  # type: ignore[attr-defined]
    assert len(session.processed_frames) == 0
    assert len(session.output_dict_per_obj[0]["non_cond_frame_outputs"]) <= 4


def test_the_first_guess_of_the_object_is_what_stands_out():
    truth = thing(0.2)
    x, y, left, top, right, bottom = salient_box(over(truth, screen()))
    assert truth[int(y * 90), int(x * 120), 3] == 255
    box = mask_facts(truth[..., 3]).box
    assert box is not None
    assert np.abs(np.array([left * 120, top * 90, right * 120, bottom * 90]) - box).max() < 6
    assert salient_box(np.full((50, 50, 3), 9, np.uint8))[:2] == (0.5, 0.5)
