"""Chooses how a clip is cut out, does it frame by frame, and makes the masks agree over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..prior.matting import load_matting
from .backdrop import MIN_SHARE, Backdrop, find_backdrop, key
from .crop import outermost
from .given import given_masks
from .masks import Behind, MaskFacts, mask_facts, soften, steady, to_levels
from .sources import Shots

CLEAR = 0.002  # share of transparent pixels from which a source is taken to be cut out already


@dataclass(frozen=True)
class MaskChoice:
    """The user's choice of masks.

    With nothing said, the source's alpha is used, or its background keyed.
    """

    given: Path | None = None
    label: str = ""
    matting: Path | None = None
    point: tuple[float, float] | None = None


@dataclass(frozen=True)
class CutOut:
    """The masks of a clip.

    Attributes:
        masks: one file per frame.
        behind: what the edge of each is mixed with; see :func:`gs4d.intake.masks.true_colors`.
        said: how they were made, in words.
        guessed: whether a guess was made for every frame by itself, which may flicker; not so where
            the source has alpha.
    """

    masks: list[Path]
    behind: list[Behind]
    said: str
    guessed: bool

    def mask(self, frame: int) -> UInt8[np.ndarray, "h w"]:
        """Alpha of a frame of the source, in levels of 255."""
        with Image.open(self.masks[frame]) as picture:
            return np.asarray(picture)


def cut_out(shots: Shots, choice: MaskChoice, scratch: Path, source: str) -> CutOut:
    """Makes the masks: those given, those of a matting model, the source's alpha, or by keying.

    The first that applies.

    Raises:
        UserError: none applies, or the masks or the model do not fit; the sentence says what to
            get.
    """
    files = [scratch / f"mask_{i}.png" for i in range(len(shots.files))]

    def save(index: int, mask: UInt8[np.ndarray, "h w"]) -> None:
        Image.fromarray(mask).save(files[index], compress_level=1)

    mixed: list[Behind] = ["picture"] * len(files)
    if choice.given is not None:
        masks, meant = given_masks(choice.given, choice.label, shots)
        for i, mask in enumerate(masks):
            save(i, soften(shots.image(i), to_levels(mask)))
        return CutOut(files, mixed, f"the masks in {choice.given}: {meant}", guessed=True)
    if choice.matting is not None:
        matting = load_matting(choice.matting, choice.point)
        for i in tqdm(range(len(files)), desc="matting", unit="frame", leave=False):
            image = shots.image(i)
            save(i, soften(image, to_levels(matting(image[..., :3]))))
        return CutOut(files, mixed, f"the matting model {choice.matting}", guessed=True)
    clear, backdrops, behind = [], [], []
    for i in tqdm(range(len(files)), desc="looking", unit="frame", leave=False):
        image = shots.image(i)
        clear.append(float((image[..., 3] < 128).mean()))
        backdrops.append(find_backdrop(image[..., :3]))
        alpha = soften(image, image[..., 3])
        behind.append("alpha" if np.array_equal(alpha, image[..., 3]) else "picture")
        save(i, alpha)
    if np.median(clear) > CLEAR:
        more = ", its hard edge softened" if "picture" in behind else ""
        return CutOut(files, behind, f"the alpha of the source{more}", guessed=False)
    keyed = _all_backdrops(backdrops, source)
    for i in tqdm(range(len(files)), desc="keying", unit="frame", leave=False):
        save(i, to_levels(key(shots.image(i)[..., :3], keyed[i])))
    noise = max(backdrop.noise for backdrop in keyed)
    said = f"keying the background {keyed[0].describe()} (which varies by {noise:.0f} of 255)"
    return CutOut(files, [*keyed], said, guessed=True)


def _all_backdrops(backdrops: list[Backdrop | None], source: str) -> list[Backdrop]:
    found = [backdrop for backdrop in backdrops if backdrop is not None]
    if len(found) < 0.7 * len(backdrops):
        raise UserError(
            f"{source} has no alpha and no background of one colour (only {len(found)} of "
            f"{len(backdrops)} frames show one along {MIN_SHARE:.0%} of their border): give "
            "--matting MODEL.onnx (as rembg downloads them, such as u2net.onnx or "
            "isnet-general-use.onnx), --matting FOLDER of a SAM 2 checkpoint, or --mask of masks "
            "made elsewhere"
        )
    last, out = found[0], []
    for backdrop in backdrops:
        last = backdrop or last
        out.append(last)
    return out


def steady_masks(
    cut: CutOut, *, largest_only: bool
) -> tuple[list[MaskFacts], list[Float[np.ndarray, "_ 2"]]]:
    """Replaces every mask by its steady version.

    Returns the facts and the outermost points of each.
    """
    facts, points = [], []
    before: UInt8[np.ndarray, "h w"] | None = None
    current = cut.mask(0)
    for i in tqdm(range(len(cut.masks)), desc="steadying", unit="frame", leave=False):
        after = cut.mask(i + 1) if i + 1 < len(cut.masks) else None
        beside = [mask for mask in (before, after) if mask is not None]
        mask = steady(current, beside, largest_only=largest_only, close_holes=cut.guessed)
        Image.fromarray(mask).save(cut.masks[i], compress_level=1)
        facts.append(mask_facts(mask))
        points.append(outermost(mask))
        if after is not None:
            before, current = current, after
    return facts, points
