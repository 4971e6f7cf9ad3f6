"""The report of a run: whole, true to report.json, and free of anything that would be fetched."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from toys import blobs, pixels, toy_clip

from gs4d.asset import Asset
from gs4d.clip import Clip
from gs4d.config import Config
from gs4d.fit import FitOptions
from gs4d.machine import versions
from gs4d.motion import DeltaMotion
from gs4d.options import to_record
from gs4d.report import METRICS, motion_amount, write_report
from gs4d.report.pictures import spread
from gs4d.score.asset import score_asset

VOID = {"meta", "link", "img", "source", "br"}


class Rise(DeltaMotion):
    """The toy's true motion: the red ball, the first half of the Gaussians, rises by 0.15."""

    def moves(self, means: Float[Tensor, "n 3"], times: Float[Tensor, " t"]) -> dict[str, Tensor]:
        lift = torch.zeros(len(times), len(means), 3)
        lift[:, : len(means) // 2, 1] = 0.15 * times[:, None]
        return {"position": lift}


class Page(HTMLParser):
    """What a page holds, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open) and "small" not in self.open:
            self.rows[-1][-1] += data.strip()

    def row(self, head: str) -> list[str]:
        (found,) = [row[1:] for row in self.rows if row[0] == head]
        return found

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


Maker = Callable[..., tuple[Page, dict[str, Any], str]]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    def make(
        clip: Clip, *, steps: int = 61, name: str = "toy", **more: Any
    ) -> tuple[Page, dict[str, Any], str]:
        asset = Asset(
            blobs(0.0), Rise(), clip.frames, {track.name: track.orbits for track in clip.tracks}
        )
        options = FitOptions(steps=steps)
        history = [
            {
                "step": step + 1,
                "seconds": 0.1,
                "stage": options.stage(step),
                "loss": 1 / (step + 1),
                "psnr": 20.0,
                "gaussians": 800,
            }
            for step in range(0, steps, 20)
        ]
        report = {
            "name": name,
            "clip": clip.name,
            "config": to_record(replace(Config(), fit=options)),
            "scores": score_asset(asset, clip),
            "fit_seconds": 83.2,
            "steps": steps,
            "gaussians": 1234,
            "peak_memory_mb": 567,
            "history": history,
            "motion": motion_amount(asset),
            "versions": versions(),
            "weights": [],
            **more,
        }
        report = json.loads(json.dumps(report))
        path = write_report(tmp_path, report, asset, clip)
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
        text = path.read_text(encoding="utf-8")
        return Page(text), report, text

    return make


def pictures(page: Page) -> list[Image.Image | ET.Element]:
    """Every picture of a page, decoded."""
    found = []
    for tag, attrs in page.tags:
        if tag not in ("img", "source"):
            continue
        kind, _, content = (attrs.get("src") or attrs.get("srcset") or "").partition(";base64,")
        data = b64decode(content, validate=True)
        if kind == "data:image/svg+xml":
            found.append(ET.fromstring(data))
        else:
            assert kind == "data:image/jpeg"
            image = Image.open(BytesIO(data))
            image.load()
            found.append(image)
    return found


def test_every_picture_is_inside_and_whole(make: Maker) -> None:
    page, _, _ = make(toy_clip())
    found = pictures(page)
    strips = [p for p in found if isinstance(p, Image.Image)]
    # Input, two of six sides and the one truth as strips of three frames over three; render, truth
    # and difference of the worst.
    assert [p.size for p in strips] == [(3 * 32 + 2 * 4, 2 * 32 + 4)] * 4 + [(32, 32)] * 3
    assert len(found) - len(strips) == 4 * 2  # loss, PSNR, Gaussians, motion, each light and dark


def test_nothing_is_fetched_from_anywhere(make: Maker) -> None:
    page, _, text = make(toy_clip())
    for _, attrs in page.tags:
        for key in ("src", "srcset", "href", "poster", "data", "action"):
            assert attrs.get(key, "data:").startswith("data:"), attrs  # type: ignore[union-attr]
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert not any(tag == "script" for tag, _ in page.tags)
    (policy,) = [
        a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_numbers_are_those_of_the_report(make: Maker) -> None:
    page, report, _ = make(toy_clip())
    rows = {"Input view": "input", "Training views": "train", "Evaluation views": "eval"}
    wanted = {label: report["scores"][key] for label, key in rows.items()} | report["scores"][
        "views"
    ]
    assert len(wanted) == 3 + 8
    for name, scores in wanted.items():
        assert page.row(name) == [
            f"{scores[key]:.{digits}f}" for key, (_, digits) in METRICS.items()
        ]
    assert {"1,234", "567 MB", "1 min 23 s"} <= set(page.words)
    assert page.row("torch") == [report["versions"]["torch"]]
    assert page.row("--fit.seed") == ["6666"]
    assert f"fit.steps {FitOptions().steps} -> 61" in page.words
    assert "seed 6666" in page.text
    assert "nothing pretrained took part" in page.text


def test_the_worst_view_and_frame_are_named(make: Maker) -> None:
    clip = toy_clip()
    images = pixels(clip.truth[0]).clone()
    images[1, :16] = torch.tensor([0, 255, 0, 255], dtype=torch.uint8)
    page, _, _ = make(
        replace(clip, truth=(*clip.truth, replace(clip.truth[0], name="eval_1", images=images)))
    )
    assert (
        "eval_1 (azimuth 40°, elevation 0°) has the lowest PSNR of the evaluation views, "
        f"{page.row('eval_1')[0]} dB" in page.text
    )
    assert "this is its frame 1," in page.text
    drawn, truth, difference = [p for p in pictures(page) if isinstance(p, Image.Image)][-3:]
    assert truth.getpixel((2, 2))[1] > 200 > truth.getpixel((2, 2))[0]  # type: ignore[index]
    assert min(drawn.getpixel((2, 2))) > 240  # type: ignore[type-var]
    assert min(difference.getpixel((2, 2))) > 200  # type: ignore[type-var]
    assert max(difference.getpixel((2, 29))) < 20  # type: ignore[type-var]


def test_names_and_licences_are_text_and_not_markup(make: Maker) -> None:
    name = '<img src=x onerror="1">&amp;'
    page, _, text = make(
        toy_clip(), name=name, weights=[{"name": "<b>net", "licence": "CC-BY <4.0>"}]
    )
    assert name in page.words
    assert page.row("<b>net") == ["CC-BY <4.0>"]
    assert "<img src=x" not in text
    assert "nothing pretrained" not in page.text


@pytest.mark.parametrize(
    ("frames", "views", "truth"), [(1, 6, True), (3, 0, False), (1, 0, False), (11, 1, True)]
)
def test_any_shape_of_clip_has_a_report(make: Maker, frames: int, views: int, truth: bool) -> None:
    clip = toy_clip(frames, views, size=24)
    page, _, _ = make(clip if truth else replace(clip, truth=()))
    charts = 3 + (frames > 1)
    assert len(pictures(page)) == 1 + min(views, 2) + truth + 3 + 2 * charts
    assert ("There are no evaluation views" in page.text) is not truth
    assert ("There is one frame" in page.text) is (frames == 1)
    assert any(row[0] == "Evaluation views" for row in page.rows) is truth


def test_a_run_of_one_step_and_pictures_too_small_for_ssim(make: Maker) -> None:
    page, _, _ = make(toy_clip(2, 1, size=8), steps=1)
    assert len(pictures(page)) == 3 + 3 + 8
    assert page.row("input")[2] == "-"


def test_the_turntable_is_shown_when_it_is_small(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "turntable.mp4").write_bytes(b"film")
    page, _, _ = make(toy_clip(2, 1))
    assert [a["src"] for tag, a in page.tags if tag == "video"] == [
        "data:video/mp4;base64,ZmlsbQ=="
    ]
    (tmp_path / "turntable.mp4").write_bytes(bytes(2_000_000))
    page, _, _ = make(toy_clip(2, 1))
    assert not any(tag == "video" for tag, _ in page.tags)


def test_the_same_run_makes_the_same_bytes(make: Maker) -> None:
    assert make(toy_clip(2, 1))[2] == make(toy_clip(2, 1))[2]


def test_motion_is_the_way_of_what_is_visible_in_sizes_of_the_object() -> None:
    asset = Asset(blobs(0.0), Rise(), 4, {})
    amounts = motion_amount(asset)
    # Half of the Gaussians, the red ball, rise by 0.15 in three steps; the object is 0.42 + 2 *
    # 0.16 wide, a little less without the outermost percent.
    assert amounts == pytest.approx([0.025 / 0.73] * 3, rel=0.02)
    hidden = replace(blobs(0.0), logit_opacities=torch.full((800,), -3.0))
    assert motion_amount(Asset(hidden, Rise(), 4, {})) == []
    assert motion_amount(Asset(blobs(0.0), Rise(), 1, {})) == []


def test_frames_are_spread_from_first_to_last() -> None:
    assert spread(16, 8) == [0, 2, 4, 6, 9, 11, 13, 15]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(1, 8) == [0]
