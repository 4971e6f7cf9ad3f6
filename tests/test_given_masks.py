"""Masks of other programs: what their numbers mean is decided over the clip, or asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gs4d.errors import UserError
from gs4d.intake.frames import FramesOptions, make_frames
from gs4d.intake.given import given_masks
from gs4d.intake.sources import Shots

COUNT, HEIGHT, WIDTH = 4, 60, 80
DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # colours of the numbers 0 to 3
Y, X = np.mgrid[:HEIGHT, :WIDTH]


def disc(t: int, row: int = 20) -> np.ndarray:
    return (X - 20 - 6 * t) ** 2 + (Y - row) ** 2 < 12**2


def labels(t: int) -> np.ndarray:
    """Object 1 above, object 2 below, neither at the border."""
    return np.where(disc(t), 1, np.where(disc(t, 45), 2, 0)).astype(np.uint8)


def soft(t: int) -> np.ndarray:
    """A matte of 0 to 255 with an edge of 5 pixels."""
    return (
        (np.clip((12 - np.hypot(X - 20 - 6 * t, Y - 20)) / 5 + 0.5, 0, 1) * 255)
        .round()
        .astype(np.uint8)
    )


@pytest.fixture
def shots(tmp_path: Path) -> Shots:
    files = []
    for t in range(COUNT):
        files.append(tmp_path / f"shot{t}.png")
        Image.fromarray(
            np.random.default_rng(t).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        ).save(files[-1])
    return Shots(
        tuple(files), tuple(range(COUNT)), tuple(map(float, range(COUNT))), None, "took 4 frames"
    )


def pictures(
    folder: Path, make: Callable[[int], Image.Image | np.ndarray], name: str = "{:05d}.png"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(COUNT):
        image = make(t)
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
            folder / name.format(t)
        )
    return folder


def palette(numbers: np.ndarray, colors: list[int] = DAVIS) -> Image.Image:
    image = Image.fromarray(numbers, "L").convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette(colors)
    return image


def per_object_folders(path: Path) -> Path:
    pictures(path / "001", lambda t: disc(t).astype(np.uint8) * 255)
    return pictures(path / "002", lambda t: disc(t, 45).astype(np.uint8) * 255).parent


def per_object_files(path: Path) -> Path:
    pictures(path, lambda t: disc(t).astype(np.uint8) * 255, "frame{:04d}_obj1.png")
    return pictures(path, lambda t: disc(t, 45).astype(np.uint8) * 255, "frame{:04d}_obj2.png")


def beside_frames(path: Path) -> Path:
    pictures(path, lambda t: np.full((HEIGHT, WIDTH, 3), 90, np.uint8), "{:03d}.png")
    return pictures(path, lambda t: disc(t).astype(np.uint8) * 255, "{:03d}_mask.png")


def rgba(t: int) -> np.ndarray:
    return np.dstack([np.full((HEIGHT, WIDTH, 3), 200, np.uint8), disc(t).astype(np.uint8) * 255])


def void_edge(t: int) -> np.ndarray:
    wide = (X - 20 - 6 * t) ** 2 + (Y - 20) ** 2 < 15**2
    return np.where(disc(t), 1, np.where(wide, 255, 0)).astype(np.uint8)


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path.with_suffix(".npy")


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path.with_suffix(".npz")


def npy_folder(path: Path) -> Path:
    path.mkdir()
    for t in range(COUNT):
        np.save(path / f"{t}.npy", disc(t)[None])
    return path


def video(path: Path, make: Callable[[int], np.ndarray], codec: str = "libx264") -> Path:
    path = path.with_suffix(".mp4")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for t in range(COUNT):
            image = make(t)
            image = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24"))
            )
        container.mux(stream.encode(None))
    return path


def stack(make: Callable[[int], np.ndarray]) -> np.ndarray:
    return np.stack([make(t) for t in range(COUNT)])


KINDS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "davis palette": (
        lambda p: pictures(p, lambda t: palette(labels(t))),
        r"palette labels, object 1 of 2 \(2 left out; --mask_label chooses\)",
    ),
    "davis colours": (
        lambda p: pictures(p, lambda t: np.array(DAVIS, np.uint8).reshape(-1, 3)[labels(t)]),
        r"palette labels, object 1 of 2 \(2 left out",
    ),
    "numbers in grey": (lambda p: pictures(p, labels), r"labels, object 1 of 2 \(2 left out"),
    "spread numbers": (
        lambda p: pictures(p, lambda t: labels(t) * 80),
        r"labels, object 80 of 2 \(160 left out",
    ),
    "16 bit numbers": (
        lambda p: pictures(p, lambda t: labels(t).astype(np.uint16)),
        r"labels, object 1 of 2 \(2",
    ),
    "0 and 1": (lambda p: pictures(p, lambda t: disc(t).astype(np.uint8)), "labels, object 1$"),
    "0 and 255": (
        lambda p: pictures(p, lambda t: disc(t).astype(np.uint8) * 255),
        r"black and white \(0 and 255\)",
    ),
    "bilevel": (lambda p: pictures(p, lambda t: Image.fromarray(disc(t))), r"black and white"),
    "empty at first": (
        lambda p: pictures(p, lambda t: (disc(t) & (t > 0)).astype(np.uint8)),
        "labels, object 1$",
    ),
    "with void": (lambda p: pictures(p, void_edge), "labels, object 1$"),
    "palette of white": (
        lambda p: pictures(
            p, lambda t: palette(disc(t).astype(np.uint8), [0, 0, 0, 255, 255, 255])
        ),
        "black and white",
    ),
    "matte": (lambda p: pictures(p, soft), "soft mattes, by brightness"),
    "16 bit matte": (
        lambda p: pictures(p, lambda t: soft(t).astype(np.uint16) * 257),
        "soft mattes, by brightness",
    ),
    "jpeg": (
        lambda p: pictures(p, lambda t: disc(t).astype(np.uint8) * 255, "{}.jpg"),
        "soft mattes, by brightness",
    ),
    "alpha": (lambda p: pictures(p, rgba), "their alpha"),
    "object folders": (
        per_object_folders,
        r"black and white \(0 and 255\) \(object 001 of 2; 002 left out",
    ),
    "object files": (
        per_object_files,
        r"black and white \(0 and 255\) \(object 1 of 2; 2 left out",
    ),
    "beside frames": (beside_frames, "black and white"),
    "npy bool": (lambda p: npy(p, stack(disc)), "labels, object 1$"),
    "npy t1hw": (lambda p: npy(p, stack(labels)[:, None]), r"labels, object 1 of 2 \(2"),
    "npy thw1": (lambda p: npy(p, stack(disc)[..., None]), "labels, object 1$"),
    "npy float": (
        lambda p: npy(p, stack(soft).astype(np.float32) / 255),
        "soft mattes, by brightness",
    ),
    "npy per frame": (npy_folder, "labels, object 1$"),
    "npz": (lambda p: npz(p, masks=stack(disc)), "labels, object 1$"),
    "npz per frame": (
        lambda p: npz(p, **{f"arr_{t}": disc(t) for t in range(COUNT)}),
        "labels, object 1$",
    ),
    "video": (
        lambda p: video(p, lambda t: disc(t).astype(np.uint8) * 255),
        "soft mattes, by brightness",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_understood_and_said(tmp_path: Path, shots: Shots, kind: str):
    make, sentence = KINDS[kind]
    masks, said = given_masks(make(tmp_path / "masks"), "", shots)
    assert re.match(sentence, said), said
    for t, mask in enumerate(masks):
        assert mask.shape == (HEIGHT, WIDTH)
        truth = disc(t) & (t > 0 or kind != "empty at first")
        assert np.abs(mask - truth).mean() < 0.05
        assert mask[truth].sum() >= 0.85 * truth.sum()


@pytest.mark.parametrize(
    ("make", "label", "row"),
    [
        (lambda p: pictures(p, lambda t: palette(labels(t))), "2", 45),
        (lambda p: pictures(p, labels), "2", 45),
        (per_object_folders, "2", 45),
        (per_object_files, "2", 45),
        (lambda p: pictures(p, lambda t: 255 - soft(t)), "inverted", 20),
        (lambda p: pictures(p, soft), "matte", 20),
        (lambda p: npz(p, cat=stack(disc), dog=stack(lambda t: disc(t, 45))), "dog", 45),
    ],
)
def test_the_option_decides(
    tmp_path: Path, shots: Shots, make: Callable[[Path], Path], label: str, row: int
):
    masks, _ = given_masks(make(tmp_path / "masks"), label, shots)
    for t, mask in enumerate(masks):
        assert np.abs(mask - disc(t, row)).mean() < 0.05


def test_several_labels_can_be_one_object(tmp_path: Path, shots: Shots):
    masks, said = given_masks(pictures(tmp_path / "m", labels), "1,2", shots)
    assert np.array_equal(next(masks) > 0, labels(0) > 0)
    assert said == "labels, object 1, 2"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "inverted": (
        lambda p: pictures(p, lambda t: 255 - disc(t).astype(np.uint8) * 255),
        "--mask_label inverted",
    ),
    "glass": (
        lambda p: pictures(p, lambda t: np.maximum(soft(t), (disc(t, 45) * 128).astype(np.uint8))),
        "may be a soft matte or number objects .* --mask_label matte",
    ),
    "photos": (
        lambda p: pictures(
            p, lambda t: np.random.default_rng(t).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        ),
        "holds pictures of many colours, not masks",
    ),
    "empty": (
        lambda p: pictures(p, lambda t: np.zeros((HEIGHT, WIDTH), np.uint8)),
        "no mask covers a pixel",
    ),
    "named folders": (
        lambda p: (pictures(p / "cat", labels), pictures(p / "dog", labels))[0].parent,
        "holds folders .cat, dog.; give one",
    ),
    "palettes differ": (
        lambda p: pictures(p, lambda t: palette(labels(t), [0, 0, 0, 60 * t + 9, 0, 0, 0, 128, 0])),
        "another colour than",
    ),
    "series": (
        lambda p: (pictures(p, labels, "a{}.png"), pictures(p, labels, "b{}.png"))[0],
        "several series of masks: a#, b#",
    ),
    "logits": (lambda p: npy(p, stack(disc) * 20.0 - 10), "of logits save what is > 0"),
    "objects": (lambda p: npy(p, np.stack([stack(disc)] * COUNT)), "look alike; save one object"),
    "pickled": (lambda p: npy(p, np.array([{}, []], dtype=object)), "NumPy array"),
    "too few": (lambda p: npy(p, stack(disc)[:2]), "holds 2 masks, but 4 frames were taken"),
    "other shape": (lambda p: npy(p, stack(disc)[:, :30]), "is 80x30 pixels but its frame 80x60"),
    "dark video": (lambda p: video(p, lambda t: labels(t) * 8), "almost black"),
    "coloured video": (
        lambda p: video(p, lambda t: np.array(DAVIS, np.uint8).reshape(-1, 3)[labels(t)]),
        "mixes the colours of labels",
    ),
    "broken npz": (
        lambda p: (p.with_suffix(".npz").write_bytes(b"PK\3\4 no"), p.with_suffix(".npz"))[1],
        "NumPy archive",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_ambiguous_or_broken_gets_one_sentence(tmp_path: Path, shots: Shots, kind: str):
    make, sentence = BAD[kind]
    with pytest.raises(UserError, match=sentence) as caught:
        list(given_masks(make(tmp_path / "masks"), "", shots)[0])
    assert "\n" not in str(caught.value)


def test_a_label_that_is_not_there_is_named(tmp_path: Path, shots: Shots):
    with pytest.raises(UserError, match="--mask_label 7 is not in .*; its labels are 1, 2"):
        given_masks(pictures(tmp_path / "m", labels), "7", shots)


def test_a_video_with_its_mask_video_becomes_a_clip(tmp_path: Path):
    def picture(t: int) -> np.ndarray:
        return np.where(
            disc(t)[..., None], (240, 180, 20), 60 + 10 * (X // 8 % 7)[..., None]
        ).astype(np.uint8)

    clip = video(tmp_path / "clip", picture)
    mask = video(tmp_path / "clip_pha", lambda t: disc(t).astype(np.uint8) * 255)
    folder = make_frames(FramesOptions(path=clip, mask=mask, name="a", data_dir=tmp_path / "data"))
    assert len(list(folder.iterdir())) == COUNT
