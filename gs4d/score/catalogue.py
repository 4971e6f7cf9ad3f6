"""The metrics: a line each, and for those that compare a picture with its truth a function each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..metrics.image import (
    SSIM_WINDOW,
    edges,
    gradient_share,
    inside,
    mask_iou,
    psnr,
    psnr_inside,
    ssim,
)
from .pairs import Picture

I3D_FILE = "--i3d FILE with the I3D weights i3d_pretrained_400.pt"
CLIP_FILE = "--clip FOLDER (or hub id, openai/clip-vit-base-patch32) with a CLIP model"
ALEX_FILES = "--lpips-alex FILE FILE: torchvision's alexnet and richzhang's weights/v0.1/alex.pth"
VGG_FILES = "--lpips-vgg FILE FILE: torchvision's vgg16 and richzhang's weights/v0.1/vgg.pth"
TWO_FRAMES = "it needs two frames of one view"
OPPOSITE = "it needs views from opposite sides with alpha; name their azimuths with --azimuths"


class UndefinedScoreError(Exception):
    """Tells why a picture has no value of a metric."""


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        better: the direction in which it is better.
        of_picture: compares a render with its truth; may raise :class:`UndefinedScoreError` or
            return NaN. None: :class:`gs4d.score.measure.Scorer` measures it over several pictures
            or with a network.
        weights: the option that names its network's weights, and what they are.
        blind: whether it sees one side alone, so that it stands beside the same of the truth.
        lacking: why it is undefined where no picture has it.
    """

    better: Literal["higher", "lower", "near one", "neither"]
    of_picture: Callable[[Picture, Picture], float] | None = None
    weights: str = ""
    blind: bool = False
    lacking: str = TWO_FRAMES


def size_of(rgb: Tensor) -> str:
    """Width and height, for sentences."""
    return f"{rgb.shape[1]}x{rgb.shape[0]} pixels"


def _psnr(pred: Picture, truth: Picture) -> float:
    return psnr(pred.rgb, truth.rgb).item()


def _ssim(pred: Picture, truth: Picture) -> float:
    if min(pred.rgb.shape[:2]) < SSIM_WINDOW:
        raise UndefinedScoreError(f"its window of 11x11 does not fit into {size_of(pred.rgb)}")
    return ssim(pred.rgb, truth.rgb).item()


def _psnr_inside(pred: Picture, truth: Picture) -> float:
    masks = [p.alpha for p in (pred, truth) if p.alpha is not None]
    if not masks:
        raise UndefinedScoreError(f"neither {pred.label} nor {truth.label} has alpha")
    return psnr_inside(pred.rgb, truth.rgb, inside(masks[0], masks[-1])).item()


def _iou(pred: Picture, truth: Picture) -> float:
    if pred.alpha is None or truth.alpha is None:
        without = pred if pred.alpha is None else truth
        raise UndefinedScoreError(f"{without.label} has no alpha")
    return mask_iou(pred.alpha, truth.alpha).item()


def _edges(pred: Picture, truth: Picture) -> float:
    return edges(pred.rgb, truth.rgb).item()


def _gradients(pred: Picture, truth: Picture) -> float:
    return gradient_share(pred.rgb, truth.rgb).item()


METRICS: dict[str, Metric] = {
    "psnr": Metric("higher", _psnr),
    "ssim": Metric("higher", _ssim),
    "psnr_inside": Metric("higher", _psnr_inside, lacking="no frame shows an object"),
    "iou": Metric("higher", _iou),
    "edges": Metric("higher", _edges, lacking="a picture has no edges"),
    "gradients": Metric("near one", _gradients, lacking="the truth has no edges"),
    "lpips_alex": Metric("lower", weights=ALEX_FILES),
    "lpips_vgg": Metric("lower", weights=VGG_FILES),
    "clip_i": Metric("higher", weights=CLIP_FILE),
    "clip_t_4dgen": Metric("lower", weights=CLIP_FILE),
    "clip_t_cosine": Metric("higher", weights=CLIP_FILE),
    "flicker": Metric("lower", blind=True),
    "silhouette": Metric(
        "higher", blind=True, lacking="it needs alpha, and two frames of one view"
    ),
    "motion": Metric("neither", blind=True),
    "janus": Metric("lower", blind=True, lacking=OPPOSITE),
    "c4d_fvd": Metric("lower", weights=I3D_FILE),
    "fvd_f": Metric("lower", weights=I3D_FILE),
    "fvd_v": Metric("lower", weights=I3D_FILE),
    "fvd_diag": Metric("lower", weights=I3D_FILE),
    "fv4d": Metric("lower", weights=I3D_FILE),
}


def columns(metrics: Iterable[str]) -> dict[str, str]:
    """The table's columns for some metrics, each with the direction in which it is better."""
    found: dict[str, str] = {}
    for name in metrics:
        found[name] = METRICS[name].better
        if METRICS[name].blind:
            found[f"{name}_truth"] = "neither"
        if name == "motion":
            found["motion_ratio"] = "near one"
    return found
