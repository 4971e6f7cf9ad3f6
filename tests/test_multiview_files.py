"""Weights of multi-view models that are absent, damaged, of another model, or code.

One sentence, and nothing is run.
"""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_multiview import (
    drawn,
    frames,
    mvdream_weights,
    open_dream,
    open_plus,
    syncdreamer_weights,
    write_mvdream,
    write_zero123plus,
    zero123plus_networks,
)

from gs4d.errors import UserError
from gs4d.prior import open_prior
from gs4d.prior.catalogue import family_of
from gs4d.prior.sampling import Sampling


@pytest.fixture(scope="module")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zero123plus(
        tmp_path_factory.mktemp("models") / "größer plus", zero123plus_networks()
    )


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "image dream"
    return write_mvdream(folder, mvdream_weights(pictures=True), pictures=True)


class Bomb:
    """Writes a file when it is unpickled by somebody careless."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def refused(name: str, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_prior(name, family_of(name).tasks[0])
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


@pytest.mark.parametrize(
    "family", ["zero123plus", "zero123plus-1.2", "mvdream", "imagedream", "syncdreamer"]
)
def test_places_without_weights_are_refused(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(f"{family}:{tmp_path}", str(tmp_path))
    refused(f"{family}:{tmp_path / 'no such'}", "no such")
    refused(f"{family}:somebody/model", "somebody/model", "hub")


def test_a_name_without_weights_asks_for_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("zero123plus-1.2", "sudo-ai/zero123plus-v1.2")
    refused("imagedream", "ashawkey/imagedream-ipmv-diffusers")
    refused("syncdreamer", "syncdreamer-pretrain.ckpt")
    refused("syncdreemer", "did you mean 'syncdreamer'")


@pytest.mark.parametrize(
    "part",
    [
        "unet",
        "vae",
        "text_encoder",
        "vision_encoder",
        "scheduler",
        "tokenizer",
        "feature_extractor_vae",
    ],
)
def test_damaged_parts_of_zero123plus_are_named(plus: Path, tmp_path: Path, part: str):
    folder = copied(plus, tmp_path / "copy")
    for path in (folder / part).iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if part == "tokenizer":
        prior = open_plus(folder)
        with pytest.raises(UserError, match="tokenizer"):
            drawn(prior, frames(1))
        return
    refused(f"zero123plus:{folder}", part)
    for path in (folder / part).iterdir():
        path.unlink()
    refused(f"zero123plus:{folder}", part)
    (folder / part).rmdir()
    refused(f"zero123plus:{folder}", "no Zero123++ model", part)


def test_folders_of_other_models_are_refused(plus: Path, dream: Path, tmp_path: Path):
    refused(f"imagedream:{plus}", "no folder image_encoder")
    refused(f"zero123plus:{dream}", "no folder vision_encoder")
    refused(f"mvdream:{dream}", "ImageDream", "other prior")
    refused(
        f"zero123plus-1.2:{copied(plus, tmp_path / 'zero123plus-v1.1')}",
        "another version",
        "zero123plus:",
    )
    folder = copied(plus, tmp_path / "copy")
    (folder / "model_index.json").write_text("{}")
    refused(f"zero123plus:{folder}", "ramping_coefficients")
    (folder / "model_index.json").write_text(json.dumps({"ramping_coefficients": [0.0, 1.0]}))
    refused(f"zero123plus:{folder}", "do not fit together")
    scheduler = folder / "feature_extractor_vae" / "preprocessor_config.json"
    scheduler.write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [0, 0, 0]}))
    (folder / "model_index.json").write_text((plus / "model_index.json").read_text())
    refused(f"zero123plus:{folder}", "preprocessor_config.json")


def test_wrong_shapes_are_named(plus: Path, dream: Path, tmp_path: Path):
    for source, family, part in (
        (plus, "zero123plus", "vision_encoder"),
        (dream, "imagedream", "unet"),
    ):
        folder = copied(source, tmp_path / family)
        path = next((folder / part).glob("*.safetensors"))
        weights = load_file(path)
        name = next(
            k for k in sorted(weights) if k.endswith(("layer_norm1.weight", "attn2.to_q.weight"))
        )
        save_file({**weights, name: torch.zeros(3)}, path)
        refused(f"{family}:{folder}", name.removeprefix("vision_model."), "(3,)")
        save_file({k: v for k, v in weights.items() if k != name}, path)
        refused(f"{family}:{folder}", "lacks", name.removeprefix("vision_model."))
        save_file({**weights, "another.weight": torch.zeros(3)}, path)
        refused(f"{family}:{folder}", "another.weight")


@pytest.mark.parametrize("family", ["syncdreamer", "imagedream", "mvdream"])
def test_damaged_checkpoints_are_refused_and_their_code_is_not_run(family: str, tmp_path: Path):
    weights = (
        syncdreamer_weights()
        if family == "syncdreamer"
        else mvdream_weights(pictures=family == "imagedream")
    )
    path, exploded = (
        tmp_path / ("model.ckpt" if family == "syncdreamer" else "model.pt"),
        tmp_path / "exploded",
    )
    torch.save(weights, path)
    whole = path.read_bytes()
    for size in (0, len(whole) // 2):
        path.write_bytes(whole[:size])
        refused(f"{family}:{path}", str(path))
    path.write_bytes(pickle.dumps(weights["betas"].tolist()))
    refused(f"{family}:{path}", str(path))
    torch.save({**weights, "callback": Bomb(exploded)}, path)
    refused(f"{family}:{path}", str(path))
    assert not exploded.exists()
    torch.save(list(weights.values()), path)
    refused(f"{family}:{path}", str(path))


def test_a_prompt_needs_a_tokenizer(tmp_path: Path):
    torch.save(mvdream_weights(pictures=True), tmp_path / "model.pt")
    prior = open_dream(tmp_path / "model.pt", prompt="a rose")
    with pytest.raises(UserError, match=r"'a rose.*tokenizer"):
        drawn(prior, frames(1))
    prior.sampling = Sampling(steps=1)
    assert drawn(prior, frames(1)).images.shape == (4, 1, 16, 16, 4)


def test_pictures_are_padded_to_squares(plus: Path):
    flat = frames(1)[:, 2:22]
    padded = torch.nn.functional.pad(flat, (0, 0, 0, 0, 2, 2))
    found, wanted = (drawn(open_plus(plus), some) for some in (flat, padded))
    assert torch.equal(found.images, wanted.images)
