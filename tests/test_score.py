"""The score command on folders and videos.

What is matched, what is refused, and that the numbers are the definitions'.
"""

from __future__ import annotations

import csv
import gc
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gs4d.errors import UserError
from gs4d.io.encode import write_video
from gs4d.metrics.i3d import I3D
from gs4d.metrics.lpips import LPIPS, STAGES
from gs4d.score import METRICS, ScoreOptions, ScoreTable, main, score
from gs4d.score.pairs import Picture, pair_views, parse_background
from gs4d.score.tables import summarise

BASIC = ("psnr", "ssim", "psnr_inside", "iou")


def picture(seed: int, size: int = 16, alpha: bool = True) -> np.ndarray:
    """A noisy square on a transparent ground, or, without alpha, noise everywhere."""
    values = np.random.default_rng(seed).integers(40, 200, (size, size, 4), dtype=np.uint8)
    values[..., 3] = 0
    values[size // 4 : -(size // 4) or None, size // 4 : -(size // 4) or None, 3] = 255
    return values if alpha else values[..., :3]


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two objects, two views, three frames, equal on both sides, in Consistent4D's layout."""
    for root in ("gt", "pred"):
        for o, name in enumerate(("cat", "dog")):
            for v in range(2):
                for t in range(3):
                    save(
                        tmp_path / root / name / f"eval_{v}" / f"{t}.png",
                        picture(100 * o + 10 * v + t),
                    )
    return tmp_path / "gt", tmp_path / "pred"


def scored(gt: Path, pred: Path, metrics: tuple[str, ...] = BASIC, **options: object) -> ScoreTable:
    return score(ScoreOptions(gt=gt, pred=pred, metrics=metrics, **options))  # pyright: ignore[reportArgumentType]


def test_equal_folders_score_perfectly(folders: tuple[Path, Path]) -> None:
    table = scored(*folders)
    assert len(table.frames) == 2 * 2 * 3
    overall = {name: stat.mean for name, stat in table.overall().items()}
    assert overall == {"psnr": math.inf, "ssim": 1.0, "psnr_inside": math.inf, "iou": 1.0}
    assert not table.absent


def test_pictures_meet_by_name_and_not_by_order(folders: tuple[Path, Path]) -> None:
    gt, pred = folders
    for view in pred.glob("*/*"):
        for path in sorted(view.iterdir()):
            # other digits, other order of the folder
            path.rename(view / f"{int(path.stem):03d}.png")
        save(view / "000.png", picture(999))
    table = scored(gt, pred)
    assert table.frames["cat", "eval_0", "1"]["psnr"] == math.inf
    assert table.frames["cat", "eval_0", "0"]["psnr"] < 30
    assert str(table.views()["cat", "eval_0"]["psnr"]).endswith("(+2 equal)")


@pytest.mark.parametrize("lacking", ["gt", "pred"])
def test_a_missing_picture_view_or_object_is_named(
    tmp_path: Path, folders: tuple[Path, Path], lacking: str
) -> None:
    root = tmp_path / lacking
    (root / "dog/eval_1/2.png").unlink()
    with pytest.raises(UserError, match=rf"{lacking}/dog/eval_1/2\.png is missing"):
        scored(*folders)
    for path in (root / "dog/eval_1").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=rf"{lacking}/dog/eval_1 is missing"):
        scored(*folders)
    with pytest.raises(UserError, match="nowhere is neither a folder nor a video"):
        scored(tmp_path / "gt", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds neither pictures nor videos"):
        scored(tmp_path / "empty", tmp_path / "pred")


def test_two_files_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "cat/eval_0/00.png", picture(0))
    with pytest.raises(UserError, match=r"00\.png .*claim the same name"):
        scored(*folders)


def test_sizes_that_differ_name_both_files_unless_a_size_is_given(
    folders: tuple[Path, Path],
) -> None:
    gt, pred = folders
    save(pred / "cat/eval_0/0.png", picture(0, size=32))
    with pytest.raises(
        UserError, match=r"pred/cat/eval_0/0\.png is 32x32 .*gt/cat/eval_0/0\.png is 16x16"
    ):
        scored(gt, pred)
    assert len(scored(gt, pred, size=20).frames) == 12
    with pytest.raises(UserError, match="ScoreOptions.size is 0; it must lie in 1 to 8192"):
        scored(gt, pred, size=0)


def flat(root: Path, **values: np.ndarray) -> Path:
    for name, array in values.items():
        save(root / f"{name.removeprefix('f')}.png", array)
    return root


def test_known_pairs(tmp_path: Path) -> None:
    grey, lighter = np.full((12, 12, 3), 100, np.uint8), np.full((12, 12, 3), 126, np.uint8)
    black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    frames = scored(
        flat(tmp_path / "a", f0=grey, f1=black), flat(tmp_path / "b", f0=lighter, f1=white)
    ).frames
    assert frames["", "", "0"]["psnr"] == pytest.approx(-20 * math.log10(26 / 255), abs=1e-4)
    assert frames["", "", "1"]["psnr"] == pytest.approx(0.0, abs=1e-6)
    assert frames["", "", "1"]["ssim"] == pytest.approx(1e-4 / 1.0001, rel=1e-3)


def test_one_pixel_and_one_frame(tmp_path: Path) -> None:
    one = np.full((1, 1, 4), 255, np.uint8)
    dark = np.array([[[0, 0, 0, 255]]], np.uint8)
    table = scored(
        flat(tmp_path / "a", f0=one), flat(tmp_path / "b", f0=dark), metrics=tuple(METRICS)
    )
    assert table.frames["", "", "0"]["psnr"] == pytest.approx(0.0, abs=1e-6)
    assert table.frames["", "", "0"]["iou"] == 1.0
    assert "11x11 does not fit into 1x1 pixels" in table.absent["ssim"]
    assert "two frames" in table.absent["flicker"]
    assert "ssim" not in table.overall()
    text = json.dumps(table.to_json(), allow_nan=False)
    assert json.loads(text)["frames"][0]["ssim"] is None


def test_the_background_is_laid_under_on_purpose(tmp_path: Path) -> None:
    half = np.full((12, 12, 4), 255, np.uint8)
    half[..., 3] = 51  # 0.2
    opaque = np.full((12, 12, 3), 255, np.uint8)
    gt, pred = flat(tmp_path / "a", f0=opaque), flat(tmp_path / "b", f0=half)
    expected = {
        "white": math.inf,
        "black": -20 * math.log10(0.8),
        "1,1,0.5": -10 * math.log10(0.4**2 / 3),
    }
    for background, value in expected.items():
        got = scored(gt, pred, metrics=("psnr",), background=background).overall()["psnr"].mean
        assert got == pytest.approx(value, abs=1e-4)
    for wrong in ("grey", "1,2", "0,0,7", "a,b,c", "", "nan,0,0"):
        with pytest.raises(UserError, match="is no colour"):
            parse_background(wrong)


def test_lost_alpha_is_told_and_not_scored_as_a_silhouette(tmp_path: Path) -> None:
    truth = picture(3)
    over_white = np.where(truth[..., 3:] > 0, truth[..., :3], 255).astype(np.uint8)
    gt, pred = flat(tmp_path / "gt", f0=truth), flat(tmp_path / "pred", f0=over_white)
    table = scored(gt, pred)
    assert table.overall()["psnr"].mean == math.inf  # composited, both are the same picture
    assert table.overall()["psnr_inside"].mean == math.inf  # the truth's mask serves
    assert "pred/0.png has no alpha" in table.absent["iou"]
    both = scored(pred, pred)
    assert set(both.absent) == {"iou", "psnr_inside"}


def test_hidden_colours_under_zero_alpha_do_not_count(tmp_path: Path) -> None:
    truth, pred = picture(4), picture(4)
    pred[truth[..., 3] == 0, :3] = 7
    table = scored(flat(tmp_path / "gt", f0=truth), flat(tmp_path / "pred", f0=pred))
    assert table.overall()["psnr"].mean == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_not_numbers_name_the_file(tmp_path: Path, value: float) -> None:
    for root in ("gt", "pred"):
        (tmp_path / root).mkdir()
        np.save(tmp_path / root / "0.npy", np.full((12, 12, 3), 0.25, np.float32))
    assert scored(tmp_path / "gt", tmp_path / "pred").overall()["ssim"].mean == 1.0
    broken = np.full((12, 12, 3), 0.25, np.float32)
    broken[2, 3, 1] = value
    np.save(tmp_path / "pred/0.npy", broken)
    with pytest.raises(UserError, match=r"pred/0\.npy holds NaN or infinite"):
        scored(tmp_path / "gt", tmp_path / "pred")
    np.save(tmp_path / "pred/0.npy", np.zeros((12, 12), np.float32))
    with pytest.raises(UserError, match=r"pred/0\.npy is float32 of shape \(12, 12\)"):
        scored(tmp_path / "gt", tmp_path / "pred")
    (tmp_path / "pred/0.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"pred/0\.npy cannot be read"):
        scored(tmp_path / "gt", tmp_path / "pred")


def test_a_damaged_picture_is_named(folders: tuple[Path, Path]) -> None:
    path = folders[1] / "dog/eval_0/1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"dog/eval_0/1\.png cannot be read"):
        scored(*folders)


def test_videos_against_videos_and_pictures(tmp_path: Path) -> None:
    frames = [picture(t, size=32, alpha=False) // 32 * 32 for t in range(4)]
    for t, frame in enumerate(frames):
        save(tmp_path / "gt" / "eval_0" / f"{t}.png", frame)
    write_video(tmp_path / "pred" / "eval_0.mp4", frames, 8.0)
    write_video(tmp_path / "short.mp4", frames[:3], 8.0)
    table = scored(tmp_path / "gt", tmp_path / "pred")
    assert list(table.frames) == [("", "eval_0", str(t)) for t in range(4)]
    assert 15 < table.overall()["psnr"].mean < 60
    same = tmp_path / "pred" / "eval_0.mp4"
    assert scored(same, same).overall()["psnr"].mean == math.inf
    for pair in ((same, tmp_path / "short.mp4"), (tmp_path / "short.mp4", same)):
        with pytest.raises(UserError, match=r"short\.mp4 ends before .*eval_0\.mp4 frame 3"):
            scored(*pair)
    (tmp_path / "gt/eval_0/3.png").rename(tmp_path / "gt/eval_0/4.png")
    with pytest.raises(UserError, match="number the pictures 0, 1, 2"):
        scored(tmp_path / "gt", tmp_path / "pred")


def test_a_frozen_result_earns_a_warning(tmp_path: Path) -> None:
    still = np.full((48, 48, 4), 255, np.uint8)
    still[..., :3] = (
        np.random.default_rng(0).integers(0, 255, (12, 12, 3)).repeat(4, 0).repeat(4, 1)
    )
    for t in range(3):
        save(tmp_path / "gt" / f"{t}.png", np.roll(still, 3 * t, 1))
        save(tmp_path / "pred" / f"{t}.png", still)
    table = scored(tmp_path / "gt", tmp_path / "pred", metrics=("flicker", "motion", "silhouette"))
    overall = table.overall()
    assert overall["flicker"].mean < overall["flicker_truth"].mean
    assert overall["motion_ratio"].mean < 0.05
    assert any("moves 0% as much as the truth" in note for note in table.notes)


def test_absent_weights_are_told_and_never_zero(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    needing = tuple(name for name, metric in METRICS.items() if metric.weights)
    table = scored(*folders, metrics=(*needing, "psnr"))
    assert set(table.absent) == set(needing)
    assert "i3d_pretrained_400.pt" in table.absent["c4d_fvd"]
    assert "vgg16" in table.absent["lpips_vgg"]
    assert set(table.overall()) == {"psnr"}
    main(["--gt", str(folders[0]), "--pred", str(folders[1]), "--metrics", "psnr", "lpips_alex"])
    assert "- absent: lpips_alex (give --lpips-alex" in capsys.readouterr().out


def test_a_wrong_flag_is_one_sentence() -> None:
    with pytest.raises(
        UserError, match="unknown option --backgruond .*did you mean '--background'"
    ):
        main(["--backgruond", "white"])
    with pytest.raises(UserError, match="size"):
        main(["--size", "large"])


def test_an_unknown_metric_names_the_nearest(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"no metric named 'psrn'.*did you mean 'psnr'"):
        scored(*folders, metrics=("psrn",))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Random weights of the real networks' shapes, on disk."""
    from transformers import CLIPConfig, CLIPModel

    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    lpips = LPIPS("alex").state_dict()
    torch.save({k: v for k, v in lpips.items() if k.startswith("features")}, root / "alexnet.pth")
    torch.save(
        {
            f"lin{i}.model.1.weight": lpips[f"lins.{i}.weight"].abs()
            for i in range(len(STAGES["alex"]))
        },
        root / "lin.pth",
    )
    torch.save(I3D().state_dict(), root / "i3d.pt")
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    text = {**small, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8},
        text_config=text,
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(root / "clip")
    lpips_files = (root / "alexnet.pth", root / "lin.pth")
    return {"lpips_alex": lpips_files, "clip": str(root / "clip"), "i3d": root / "i3d.pt"}


def test_every_metric_has_a_value_when_its_weights_are_there(
    tmp_path: Path, weights: dict[str, object]
) -> None:
    for t in range(2):
        for view in ("eval_0", "eval_2"):
            save(tmp_path / "gt" / view / f"{t}.png", picture(t, size=32))
            save(tmp_path / "pred" / view / f"{t}.png", picture(t + 5, size=32))
    metrics = tuple(name for name in METRICS if name not in ("lpips_vgg", "fvd_v", "fv4d"))
    table = scored(
        tmp_path / "gt", tmp_path / "pred", metrics=metrics, azimuths=(-75.0, 105.0), **weights
    )
    overall = table.overall()
    assert not table.absent
    assert set(metrics) <= set(overall)
    assert all(math.isfinite(stat.mean) for stat in overall.values())
    assert overall["fvd_f"].mean >= 0
    assert set(table.whole_views["", "eval_2"]) == {"motion_ratio", "c4d_fvd"}
    assert any("fvd_diag of a single video" in note for note in table.notes)
    assert set(overall) <= set(table.better)
    assert len(table.to_markdown().splitlines()[0].split("|")) == len(overall) + 3
    same = scored(
        tmp_path / "gt", tmp_path / "gt", metrics=("lpips_alex", "clip_i"), **weights
    ).overall()
    assert same["lpips_alex"].mean == 0.0
    assert same["clip_i"].mean == pytest.approx(1.0, abs=1e-6)


def test_a_single_view_has_no_view_grid(tmp_path: Path, weights: dict[str, object]) -> None:
    table = scored(
        flat(tmp_path / "a", f0=picture(0)),
        flat(tmp_path / "b", f0=picture(1)),
        metrics=("fvd_v",),
        **weights,
    )
    assert table.absent == {"fvd_v": "'' has a single view"}


def test_tables_agree_with_each_other(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    gt, pred = folders
    for i, path in enumerate(sorted(pred.rglob("*.png"))):
        values = np.asarray(Image.open(path)).copy()
        values[..., 0] -= np.uint8(1 + i)
        save(path, values)
    files = {kind: tmp_path / "out" / f"scores.{kind}" for kind in ("json", "csv", "md")}
    arguments = [f"--{kind}={path}" for kind, path in files.items()]
    main(["--gt", str(gt), "--pred", str(pred), "--metrics", *BASIC, *arguments])
    data = json.loads(files["json"].read_text())
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert len([r for r in rows if r["level"] == "frame"]) == 12 * len(BASIC)
    values = [f["psnr"] for f in data["frames"] if (f["object"], f["view"]) == ("cat", "eval_1")]
    view = data["objects"]["cat"]["views"]["eval_1"]["psnr"]
    assert view["mean"] == pytest.approx(np.mean(values))
    assert view["spread"] == pytest.approx(np.std(values, ddof=1))
    means = [data["objects"]["cat"]["views"][v]["psnr"]["mean"] for v in ("eval_0", "eval_1")]
    assert data["objects"]["cat"]["psnr"]["mean"] == pytest.approx(np.mean(means))
    overall = next(r for r in rows if r["level"] == "all" and r["metric"] == "psnr")
    assert float(overall["value"]) == pytest.approx(data["overall"]["psnr"]["mean"])
    assert "| **all** |" in files["md"].read_text()
    assert data["settings"]["background"] == "white"


def test_summaries_of_infinite_and_undefined_values() -> None:
    assert summarise([math.nan]) is None
    stat = summarise([1.0, 3.0, math.inf, math.nan])
    assert stat is not None
    assert (stat.mean, stat.spread, stat.count, stat.infinite) == (
        2.0,
        pytest.approx(math.sqrt(2)),
        3,
        1,
    )
    lone = summarise([math.inf, math.inf])
    assert lone is not None
    assert (lone.mean, lone.spread) == (math.inf, None)


def test_frames_are_not_kept(tmp_path: Path) -> None:
    for root in ("gt", "pred"):
        for t in range(12):
            save(tmp_path / root / f"{t}.png", picture(t))
    most = 0
    for _ in pair_views(tmp_path / "pred", tmp_path / "gt")[0].read(torch.ones(3), None):
        most = max(most, sum(type(thing) is Picture for thing in gc.get_objects()))
    assert 2 <= most <= 6
