"""Models that draw pictures and videos.

The true pipelines of diffusers, tiny, saved and opened by the path that users take.
"""

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_multiview_files import Bomb
from tiny_pipelines import MAKERS, write_pipeline

from gs4d.errors import UserError
from gs4d.prior import ImagePrior, VideoPrior, open_prior
from gs4d.prior.catalogue import family_of
from gs4d.prior.networks import Place
from gs4d.prior.pipelines import Drawing
from gs4d.prior.video_models import Filming, VideoModel, onto_sheet

# What each model is asked, in the tests' own words: class, width, height, frames, and what else the
# authors' examples say.
FILMS: dict[str, tuple[str, str, int, int, int, dict[str, Any]]] = {
    "svd": (
        "svd",
        "StableVideoDiffusionPipeline",
        32,
        24,
        5,
        {"fps": 7, "motion_bucket_id": 127, "noise_aug_strength": 0.02},
    ),
    "wan": ("wan", "WanImageToVideoPipeline", 32, 16, 9, {}),
    "wan_22": ("wan", "WanImageToVideoPipeline", 16, 32, 5, {}),
    "wan_ti2v": ("wan", "WanImageToVideoPipeline", 32, 32, 9, {}),
    "ltx": (
        "ltx",
        "LTXImageToVideoPipeline",
        64,
        32,
        9,
        {"frame_rate": 25, "decode_timestep": 0.05, "decode_noise_scale": 0.025},
    ),
    "cogvideox": ("cogvideox", "CogVideoXImageToVideoPipeline", 16, 16, 9, {}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every tiny pipeline, in a folder whose name is hard."""
    home = tmp_path_factory.mktemp("models") / "größer models"
    home.mkdir()
    for name in MAKERS:
        write_pipeline(name, home / name)
    return home


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return


def noise(width: int, height: int, seed: int = 3) -> torch.Tensor:
    return torch.randint(
        0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def opened(models: Path, name: str, place: Place | None = None, **filming: Any) -> VideoModel:
    family, _, width, height, length, _ = FILMS[name]
    how = Filming(**{"steps": 2, "width": width, "height": height, "length": length, **filming})
    prior = open_prior(f"{family}:{models / name}", "video", place or Place(), how)
    assert isinstance(prior, VideoModel)
    assert isinstance(prior, VideoPrior)
    return prior


def film(
    prior: Any, image: torch.Tensor, count: int, prompt: str = "a horse walking", seed: int = 1
) -> torch.Tensor:
    return prior.frames(image, prompt, count, torch.Generator().manual_seed(seed))


def by_hand(folder: Path, kind: str, **arguments: Any) -> np.ndarray:
    """What diffusers' own loader and pipeline give."""
    pipeline = getattr(diffusers, kind).from_pretrained(str(folder), local_files_only=True)
    done = pipeline(
        **arguments,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    )
    return (
        (np.asarray(done.images[0] if hasattr(done, "images") else done.frames[0]) * 255)
        .round()
        .astype(np.uint8)
    )


@pytest.mark.parametrize("name", FILMS)
def test_a_video_is_what_diffusers_draws(models: Path, name: str):
    _, kind, width, height, length, told = FILMS[name]
    image = noise(width, height)
    drawn = film(opened(models, name), image, length)
    told = {
        **told,
        "image": Image.fromarray(image.numpy()),
        "width": width,
        "height": height,
        "num_frames": length,
    }
    if name != "svd":
        told["prompt"] = "a horse walking"
    truth = by_hand(models / name, kind, **told)
    assert drawn.shape == (length, height, width, 3)
    assert (drawn.numpy() == truth).all()
    assert truth.std() > 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sdxl", "StableDiffusionXLPipeline"), ("stable_diffusion", "StableDiffusionPipeline")],
)
def test_a_picture_is_what_diffusers_draws(models: Path, name: str, kind: str):
    how = Drawing(steps=2, width=64, height=32, guidance=3.0, avoid="toy")
    prior = open_prior(
        f"{'sdxl' if name == 'sdxl' else 'text2image'}:{models / name}", "image", Place(), how
    )
    assert isinstance(prior, ImagePrior)
    drawn = prior.image("a rose", torch.Generator().manual_seed(1))
    truth = by_hand(
        models / name,
        kind,
        prompt="a rose",
        negative_prompt="toy",
        width=64,
        height=32,
        guidance_scale=3.0,
    )
    assert drawn.shape == (32, 64, 3)
    assert (drawn.numpy() == truth).all()
    other = prior.image("a horse", torch.Generator().manual_seed(1))
    assert not torch.equal(drawn, other)


def test_the_prompt_and_what_to_avoid_are_read(models: Path):
    image = noise(64, 32)
    first = film(opened(models, "ltx"), image, 9)
    assert torch.equal(first, film(opened(models, "ltx"), image, 9))
    assert not torch.equal(first, film(opened(models, "ltx"), image, 9, prompt="a rose"))
    assert not torch.equal(first, film(opened(models, "ltx", avoid="toy"), image, 9))
    assert not torch.equal(first, film(opened(models, "ltx"), image, 9, seed=2))
    still = film(opened(models, "svd"), noise(32, 24), 5)
    assert torch.equal(still, film(opened(models, "svd"), noise(32, 24), 5, prompt="anything"))


def test_frames_are_taken_evenly_and_cut_back_to_the_picture(models: Path):
    image = noise(20, 10)
    image[0], image[-1], image[:, 0], image[:, -1] = (
        torch.tensor([10, 20, 30], dtype=torch.uint8),
    ) * 4
    drawn = film(opened(models, "cogvideox"), image, 3)
    sheet = Image.new("RGB", (20, 20), (10, 20, 30))
    sheet.paste(Image.fromarray(image.numpy()), (0, 5))
    seen = sheet.resize((16, 16), Image.Resampling.LANCZOS)
    told = {"image": seen, "prompt": "a horse walking", "width": 16, "height": 16, "num_frames": 9}
    truth = by_hand(models / "cogvideox", "CogVideoXImageToVideoPipeline", **told)
    assert drawn.shape == (3, 10, 20, 3)
    for frame, number in zip(drawn.numpy(), (0, 4, 8), strict=True):
        back = Image.fromarray(truth[number]).resize(
            (20, 10), Image.Resampling.LANCZOS, box=(0, 4, 16, 12)
        )
        assert (frame == np.asarray(back)).all()


@pytest.mark.parametrize(
    ("size", "aspect", "box"), [((20, 10), 1.0, (0, 5, 20, 15)), ((10, 20), 2.0, (15, 0, 25, 20))]
)
def test_a_picture_lies_in_the_middle_of_its_sheet(
    size: tuple[int, int], aspect: float, box: tuple[int, int, int, int]
):
    picture = Image.fromarray(noise(*size).numpy())
    sheet, place = onto_sheet(picture, aspect)
    assert place == box
    assert sheet.width == round(sheet.height * aspect)
    assert (np.asarray(sheet.crop(place)) == np.asarray(picture)).all()


def test_models_draw_by_themselves_what_their_authors_draw(models: Path):
    def told(name: str, count: int = 4) -> tuple[int, int, int]:
        arguments = opened(models, name, width=0, height=0, length=0).arguments(count)
        return arguments["width"], arguments["height"], arguments["num_frames"]

    assert told("svd") == (1024, 576, 5)  # the tiny one has 5 frames, as its description says
    assert told("wan") == told("wan_22") == (832, 480, 81)
    assert told("wan_ti2v") == (1280, 704, 121)
    assert told("ltx") == (704, 512, 161)
    assert told("cogvideox") == (16, 16, 9)
    assert told("ltx", 163)[2] == 169  # 8k + 1
    assert told("wan", 82)[2] == 85  # 4k + 1


@pytest.mark.parametrize(
    ("name", "count", "filming", "words"),
    [
        ("svd", 6, {}, "svd draws 5 frames, not 6"),
        ("svd", 4, {"length": 14}, "svd draws 5 frames, not 14"),
        ("svd", 4, {"length": 3}, "svd draws 3 frames, not 4"),
        ("svd", 4, {"width": 36}, "multiples of 8, not 36"),
        ("wan", 4, {"length": 8}, "4k . 1 frames, not 8"),
        ("wan", 12, {"length": 9}, "wan draws 9 frames, not 12"),
        ("ltx", 4, {"length": 13}, "8k . 1 frames, not 13"),
        ("ltx", 4, {"height": 48}, "multiples of 32, not 48"),
        ("cogvideox", 4, {"width": 40}, "multiples of 16, not 40"),
    ],
)
def test_what_a_model_does_not_draw_is_said(
    models: Path, name: str, count: int, filming: dict[str, int], words: str
):
    with pytest.raises(UserError, match=words):
        film(opened(models, name, **filming), noise(16, 16), count)


def test_memory_options(models: Path):
    image = noise(32, 24)
    whole = film(opened(models, "svd"), image, 5).int()
    sliced = film(opened(models, "svd", Place(vae_slicing=True)), image, 5).int()
    # its decoder looks along time, so that frames alone come out a little differently
    assert sliced.shape == whole.shape
    with pytest.raises(UserError, match="no tiling; leave out vae_tiling"):
        film(opened(models, "svd", Place(vae_tiling=True)), image, 5)
    tiled = opened(models, "wan", Place(vae_tiling=True, vae_slicing=True, offload=True))
    assert film(tiled, noise(32, 16), 9).shape == (9, 16, 32, 3)
    assert tiled.pipeline.vae.use_tiling
    assert tiled.pipeline.vae.use_slicing
    half = opened(models, "wan", Place(dtype="bfloat16"))
    assert film(half, noise(32, 16), 9).shape == (9, 16, 32, 3)
    assert half.pipeline.vae.dtype == torch.float32
    assert half.pipeline.transformer.dtype == torch.bfloat16
    assert not any(p.requires_grad for p in half.pipeline.text_encoder.parameters())
    with pytest.raises(UserError, match="no GPU cuda:9"):
        opened(models, "wan", Place("cuda:9"))


@pytest.mark.parametrize("name", FILMS)
def test_half_precision_draws_nearly_the_same(models: Path, name: str):
    _, _, width, height, length, _ = FILMS[name]
    image = noise(width, height)
    exact = film(opened(models, name), image, length).float()
    half = film(opened(models, name, Place(dtype="bfloat16")), image, length).float()
    assert (half - exact).abs().mean() < 0.5 * exact.std()


def test_half_precision_twins_are_taken_where_there_is_nothing_else(models: Path, tmp_path: Path):
    pipeline = diffusers.LTXImageToVideoPipeline.from_pretrained(
        str(models / "ltx"), local_files_only=True
    )
    pipeline.save_pretrained(str(tmp_path / "ltx"), variant="fp16")
    assert (tmp_path / "ltx" / "vae" / "diffusion_pytorch_model.fp16.safetensors").exists()
    image = noise(64, 32)
    assert torch.equal(
        film(opened(tmp_path, "ltx"), image, 9), film(opened(models, "ltx"), image, 9)
    )


def test_weights_in_several_files(models: Path, tmp_path: Path):
    pipeline = diffusers.CogVideoXImageToVideoPipeline.from_pretrained(
        str(models / "cogvideox"), local_files_only=True
    )
    pipeline.save_pretrained(str(tmp_path / "cogvideox"), max_shard_size="50KB")
    assert (
        tmp_path / "cogvideox" / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    ).exists()
    image = noise(16, 16)
    assert torch.equal(
        film(opened(tmp_path, "cogvideox"), image, 9), film(opened(models, "cogvideox"), image, 9)
    )
    sorted((tmp_path / "cogvideox" / "transformer").glob("*.safetensors"))[-1].unlink()
    with pytest.raises(
        UserError, match="transformer cannot be loaded as a CogVideoXTransformer3DModel"
    ):
        film(opened(tmp_path, "cogvideox"), image, 9)


def test_tokenizers_are_read_from_sentencepiece_files(models: Path, tmp_path: Path):
    """CogVideoX is published with a spiece.model alone."""
    folder = copied(models / "cogvideox", tmp_path / "cogvideox")
    path = folder / "tokenizer" / "spiece.model"
    with open(path, "wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(
                ["a horse walking, a toy horse", "a walking rose, a toy rose"] * 9
            ),
            model_writer=stream,
            vocab_size=22,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    (folder / "tokenizer" / "tokenizer.json").unlink()
    config = folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(
        json.dumps(
            {
                "tokenizer_class": "T5Tokenizer",
                "extra_ids": 0,
                "eos_token": "</s>",
                "pad_token": "<pad>",
            }
        )
    )
    prior = opened(tmp_path, "cogvideox")
    truth = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode("a toy horse")
    assert prior.pipeline.tokenizer("a toy horse").input_ids == [*truth, 1]
    assert film(prior, noise(16, 16), 3).shape == (3, 16, 16, 3)


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def refused(name: str, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_prior(name, family_of(name).tasks[0])
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("family", ["svd", "wan", "ltx", "cogvideox", "sdxl", "text2image"])
def test_places_without_weights_are_refused(family: str, tmp_path: Path):
    refused(f"{family}:{tmp_path}", str(tmp_path), "model_index.json")
    refused(f"{family}:{tmp_path / 'no such'}", "no such")
    refused(f"{family}:somebody/model", "somebody/model", "hub")


def test_names_are_checked_before_anything_is_opened(models: Path):
    with pytest.raises(
        UserError,
        match="'zero123' cannot turn a picture into a video; "
        "those that can: svd, wan, ltx, cogvideox",
    ):
        open_prior("zero123:x", "video")
    with pytest.raises(
        UserError,
        match="'svd' cannot draw a picture of a sentence; those that can: sdxl, text2image",
    ):
        open_prior("svd:x", "image")
    with pytest.raises(UserError, match="did you mean 'cogvideox'"):
        open_prior("cogvideo:x", "video")
    refused(
        f"svd:{models / 'wan'}",
        "is of a WanImageToVideoPipeline",
        "it opens: StableVideoDiffusionPipeline",
    )
    refused(
        f"sdxl:{models / 'stable_diffusion'}",
        "StableDiffusionPipeline",
        "it opens: StableDiffusionXLPipeline",
    )
    refused("svd", "stabilityai/stable-video-diffusion-img2vid-xt", "hub")


def test_wan_for_text_alone_is_refused(models: Path, tmp_path: Path):
    folder = copied(models / "wan_ti2v", tmp_path / "wan")
    edit(folder / "model_index.json", expand_timesteps=False)
    refused(f"wan:{folder}", "text alone", "Wan-AI/")


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "EvilPipeline"}, ("EvilPipeline", "does not open")),
        ({"_class_name": ["evil", "EvilPipeline"]}, ("evil", "does not open")),
        ({"vae": ["evil", "Evil"]}, ("Evil of evil", "not loaded")),
        ({"vae": ["os", "system"]}, ("system of os", "not loaded")),
        (
            {"vae": ["diffusers", "DiffusionPipeline"]},
            ("DiffusionPipeline of diffusers", "not loaded"),
        ),
        (
            {"tokenizer": ["transformers", "AutoTokenizer"]},
            ("AutoTokenizer of transformers", "not loaded"),
        ),
        ({"scheduler": ["diffusers", "../evil.Scheduler"]}, ("not loaded",)),
        ({"transformer": [None, None]}, ("neither a unet nor a transformer",)),
        ({"more": ["diffusers", "AutoencoderKL"]}, ("no folder more",)),
    ],
)
def test_an_index_cannot_have_anything_imported(
    models: Path, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
):
    folder = copied(models / "ltx", tmp_path / "copy")
    for place in (folder, folder / "vae", folder / "tokenizer"):
        (place / "evil.py").write_text("raise SystemExit('code of the folder was run')")
    edit(folder / "model_index.json", **change)
    refused(f"ltx:{folder}", *words)


def test_code_beside_the_parts_is_not_run(models: Path, tmp_path: Path):
    folder = copied(models / "ltx", tmp_path / "ltx")
    for part in ("vae", "transformer", "text_encoder", "tokenizer"):
        (folder / part / "evil.py").write_text("raise SystemExit('code of the folder was run')")
        name = "tokenizer_config.json" if part == "tokenizer" else "config.json"
        edit(
            folder / part / name,
            auto_map={"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]},
        )
    assert film(opened(tmp_path, "ltx"), noise(64, 32), 9).shape == (9, 32, 64, 3)


@pytest.mark.parametrize("name", ["svd", "wan", "ltx", "cogvideox", "sdxl"])
def test_files_that_are_cut_short_are_named_at_once(models: Path, tmp_path: Path, name: str):
    for k, path in enumerate(sorted((models / name).glob("*/*.safetensors"))):
        folder = copied(models / name, tmp_path / str(k))
        broken = folder / path.relative_to(models / name)
        broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(f"{name}:{folder}", str(broken), "cannot be read")


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_pickles_are_not_opened(models: Path, tmp_path: Path, part: str):
    folder = copied(models / "ltx", tmp_path / "ltx")
    path, exploded = next((folder / part).glob("*.safetensors")), tmp_path / "exploded"
    weights = load_file(path)
    stem = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save({**weights, "callback": Bomb(exploded)}, path.with_name(stem))
    path.unlink()
    refused(f"ltx:{folder}", str(folder / part), "no .safetensors", "unpickling")
    path.write_bytes(pickle.dumps(Bomb(exploded)))
    refused(f"ltx:{folder}", str(path), "cannot be read")
    assert not exploded.exists()


@pytest.mark.parametrize(
    ("part", "end"),
    [
        ("transformer", "attn1.to_q.weight"),
        ("text_encoder", "SelfAttention.q.weight"),
        ("vae", "conv.weight"),
    ],
)
def test_tensors_that_are_missing_or_of_another_shape_are_named(
    models: Path, tmp_path: Path, part: str, end: str
):
    folder = copied(models / "ltx", tmp_path / "ltx")
    path = next((folder / part).glob("*.safetensors"))
    weights = load_file(path)
    name = next(k for k in sorted(weights) if k.endswith(end))
    save_file({k: v for k, v in weights.items() if k != name}, path, {"format": "pt"})
    with pytest.raises(UserError, match=f"{part} lacks the tensor '{name}'"):
        film(opened(tmp_path, "ltx"), noise(64, 32), 9)
    save_file({**weights, name: torch.zeros(3, 3)}, path, {"format": "pt"})
    with pytest.raises(UserError, match=f"{part} cannot be loaded"):
        film(opened(tmp_path, "ltx"), noise(64, 32), 9)


def test_damaged_descriptions_are_named(models: Path, tmp_path: Path):
    folder = copied(models / "ltx", tmp_path / "ltx")
    edit(folder / "transformer" / "config.json", num_layers=10**9)
    refused(f"ltx:{folder}", "num_layers 1000000000")
    (folder / "transformer" / "config.json").write_text("[]")
    refused(f"ltx:{folder}", "no JSON object")
    (folder / "transformer" / "config.json").unlink()
    refused(f"ltx:{folder}", "config.json")
    shutil.rmtree(folder / "transformer")
    refused(f"ltx:{folder}", "no folder transformer")
    (folder / "model_index.json").write_text("{")
    refused(f"ltx:{folder}", "not valid JSON")
    other = copied(models / "ltx", tmp_path / "other" / "ltx")
    (other / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="tokenizer cannot be loaded as a T5Tokenizer"):
        film(opened(other.parent, "ltx"), noise(64, 32), 9)


def test_pictures_of_no_numbers_are_refused(models: Path, tmp_path: Path):
    folder = copied(models / "ltx", tmp_path / "ltx")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({k: v * torch.nan for k, v in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(UserError, match="came out as no numbers"):
        film(opened(tmp_path, "ltx"), noise(64, 32), 9)
