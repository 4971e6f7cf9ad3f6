"""``gs4d doctor``, on an empty and on a filled cache, and the table of priors behind it."""

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import ldm_layout
import multiview_layout as layout
import pytest
import torch
from test_interpolate import VERSIONS, narrowed, random_weights
from test_interpolate import layout as rife_layout
from test_zero123 import networks, save  # noqa: F401
from tiny_multiview import mvdream_weights, write_mvdream
from torch import nn

from gs4d.doctor import main
from gs4d.errors import UserError
from gs4d.prior import models as hub_models
from gs4d.prior import mvdream, syncdreamer
from gs4d.prior.catalogue import FAMILIES, able, default_of, licence_of

ROOT = Path(__file__).parent.parent


def doctor(cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", **environment}
    code = (
        "import sys; from gs4d.cli import main; "
        "sys.argv = ['gs4d', *sys.argv[1:]]; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=settings)


def cached(cache: Path, id: str) -> Path:
    """The folder of a model in a cache laid out as huggingface_hub does it."""
    repo = cache / f"models--{id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    (repo / "blobs").mkdir()
    return repo / "snapshots" / "0123456789abcdef0123456789abcdef01234567"


def section(text: str, family: str) -> str:
    """What is said of one family."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"  {family} "))
    end = next(
        (i for i in range(start + 1, len(lines)) if not lines[i].startswith("    ")), len(lines)
    )
    return "\n".join(lines[start:end])


@pytest.fixture(scope="module")
def zero123(networks: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    cache = tmp_path_factory.mktemp("hub cache größer")
    save(cached(cache, "ashawkey/zero123-xl-diffusers"), networks, "ashawkey")
    return cache


def test_an_empty_cache_is_told_how_to_be_filled(tmp_path: Path):
    done = doctor(tmp_path / "nothing here")
    assert done.returncode == 0, done.stderr
    for words in (
        "gs4d 0.",
        "torch",
        "rasterizer",
        "compiled for",
        "diffusers",
        "not asked: HF_HUB_OFFLINE is set",
    ):
        assert words in done.stdout
    for name, family in FAMILIES.items():
        said = section(done.stdout, name)
        assert family.licence in said
        if family.parameters == 0:
            assert "it needs no weights" in said
        elif family.file is not None and family.file.is_file():
            assert "comes with gs4d" in said
        elif family.hub:
            assert f"missing: hf download {family.hub[0]}" in said
        else:
            assert f"missing: {family.source}; then {name}:PATH" in said
    assert "no commercial use" in section(done.stdout, "stable-zero123")
    assert (
        "1248 million parameters, 2.50 GB in half floats (GPU), 4.99 GB in floats (CPU)"
        in section(done.stdout, "zero123")
    )
    assert "needs about" in section(done.stdout, "svd"), (
        "what was not counted is not said as if it were"
    )
    assert "needs about" not in section(done.stdout, "zero123")


def test_what_the_cache_holds_is_found_and_used(zero123: Path):
    done = doctor(zero123, "--prior", "zero123")
    assert done.returncode == 0, done.stderr
    said = section(done.stdout, "zero123")
    assert "there: zero123:ashawkey/zero123-xl-diffusers (0.00 GB in " in said
    assert "größer" in said
    assert "missing: hf download" in section(done.stdout, "stable-zero123")
    assert (
        "prior zero123 from ashawkey/zero123-xl-diffusers; licence of the weights: MIT"
        in done.stdout
    )
    assert "zero123 can be used: 1 million parameters" in done.stdout


def test_a_cut_download_is_not_taken_for_the_model(tmp_path: Path):
    snapshot = cached(tmp_path, "sudo-ai/zero123plus-v1.2")
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    (snapshot.parent.parent / "blobs" / "abc.incomplete").write_text("half of it")
    said = section(doctor(tmp_path).stdout, "zero123plus-1.2")
    assert "the download was cut, fetch it again: zero123plus-1.2:sudo-ai/zero123plus-v1.2" in said


def test_named_priors_are_opened(zero123: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(random_weights(narrowed("4.25")), tmp_path / "flownet.pkl")
    folder = next(zero123.glob("models--*/snapshots/*"))
    dream = write_mvdream(tmp_path / "dream", mvdream_weights(pictures=False), pictures=False)
    main(["--prior", f"zero123:{folder}", f"rife:{tmp_path}", f"mvdream:{dream}", "inflate"])
    said = capsys.readouterr().out
    assert said.count(" can be used: ") == 4
    (tmp_path / "flownet.pkl").write_bytes(b"no weights")
    with pytest.raises(UserError, match="flownet.pkl cannot be read"):
        main(["--prior", f"rife:{tmp_path}", f"zero123:{folder}"])
    # the others are looked at nevertheless
    assert capsys.readouterr().out.count(" can be used: ") == 1
    with pytest.raises(UserError, match="unknown option --priors .did you mean '--prior'"):
        main(["--priors", "inflate"])


def test_a_wrong_prior_is_one_sentence_and_an_exit_code(tmp_path: Path):
    done = doctor(tmp_path, "--prior", "zero132:folder")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: no prior is named 'zero132' (did you mean 'zero123'?); there are: inflate,"
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_name_server_that_does_not_answer_holds_nobody(monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    asked = []

    def hang(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        time.sleep(1)
        raise OSError

    monkeypatch.setattr(hub_models, "PATIENCE", 0.05)
    monkeypatch.setattr(socket, "create_connection", hang)
    assert hub_models.offline()
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example:8080")
    assert hub_models.offline()
    assert asked == [("huggingface.co", 443), ("mirror.example", 8080)]


# --- the catalog
# u e


def test_every_row_has_its_module_its_task_and_its_line_in_the_table_of_licences():
    licences = (ROOT / "docs/priors.md").read_text()
    for name, family in FAMILIES.items():
        assert callable(getattr(import_module(f"gs4d.prior.{family.module}"), family.opener))
        assert family.tasks
        if family.parameters:
            assert family.how_to_get(name)
            assert f"| {family.title} | {family.licence} |" in licences
    assert set(able("score")) == {"mini", "zero123", "stable-zero123", "mvdream", "imagedream"}
    assert default_of("zero123") == "ashawkey/zero123-xl-diffusers"
    assert "no commercial use" in licence_of("zero123plus")


def count(*shapes: ldm_layout.Shapes) -> int:
    return sum(math.prod(shape) for some in shapes for shape in some.values())


def loaded(load: Callable[[Any, str], Any], shapes: ldm_layout.Shapes) -> int:
    """Parameters of the networks that a published checkpoint fills, on the meta device."""
    parts = vars(load(layout.meta_tensors(shapes), "the checkpoint")).values()
    return sum(
        p.numel() for part in parts if isinstance(part, nn.Module) for p in part.parameters()
    )


def test_sizes_are_those_of_the_published_networks():
    zero123 = count(ldm_layout.unet(), ldm_layout.vae(), ldm_layout.clip_visual()) + 768 * 772 + 768
    unet, visual = (
        layout.with_cameras(layout.unet_2()),
        ldm_layout.clip_visual(1280, 32, 14, 224, 1024),
    )
    text = layout.clip_text()
    sizes = {
        "zero123": zero123,
        "stable-zero123": zero123,
        "mvdream": loaded(
            mvdream.from_checkpoint, layout.mvdream(unet, ldm_layout.vae(), text, None)
        ),
        "imagedream": loaded(
            mvdream.from_checkpoint,
            layout.mvdream(layout.with_pictures(unet), ldm_layout.vae(), text, visual),
        ),
        "syncdreamer": loaded(
            syncdreamer.from_checkpoint,
            layout.syncdreamer(ldm_layout.unet(), ldm_layout.vae(), ldm_layout.clip_visual()),
        ),
        "rife": count(rife_layout(VERSIONS["4.6"])),
        # test_zero123plus_has_the_published_tensors counts CLIP's halves.
        "zero123plus": count(layout.unet_2(), ldm_layout.vae()) + 632_076_800 + 340_387_840,
    }
    assert {name: FAMILIES[name].parameters for name in sizes} == sizes
    assert FAMILIES["zero123plus-1.2"].parameters == sizes["zero123plus"]
