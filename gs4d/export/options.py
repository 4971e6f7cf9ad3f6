"""What is written, and how it plays and looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS
from ..errors import require_ranges
from .formats import require_known


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and how it plays and looks."""

    to: tuple[str, ...] = ("glb", "html")
    """Formats, by their names in the table of `gs4d export --help`."""
    fps: float = 8.0
    """Frames per second of what is written. Time is continuous: another rate than input_fps
    resamples the motion."""
    input_fps: float = 8.0
    """Frames per second of the input video, which say how long the motion lasts."""
    frames: int | None = None
    """Frames from first to last, whatever the rate; None: as many as fps needs, which at input_fps
    are the input's."""
    loop: bool = False
    """End where it begins: forth and back, or forth alone if the motion itself ends where it
    began."""
    camera: Literal["input", "turntable", "orbit"] = "input"
    """Where mp4, gif and webm are filmed from: the input video's camera, around the object, or a
    still orbit camera."""
    width: int = 512
    """Pixels of the videos; from the input's camera, the largest picture of the input's shape
    within width x height."""
    height: int = 512
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """RGB in [0, 1]; webm has none."""
    transparent: bool = False
    """A gif without background; its pixels are opaque or not, with nothing between."""
    turntable_frames: int = 64
    """Frames of the turntable at input_fps, once around while time runs from first to last."""
    elevation: float = 15.0
    """Of the turntable's and the orbit's camera, degrees."""
    azimuth: float = 0.0
    """Where the turntable starts and the orbit's camera stands, degrees."""
    turns: float = 1.0
    """Times around; 0 keeps the camera still."""
    radius: float = DEFAULT_RADIUS
    fov: float = DEFAULT_FOVY_DEG
    """Vertical field of view, degrees."""
    y_down: bool = False
    """Turn the files per frame (ply, compressed-ply, splat, spz) for viewers that take y as down,
    as SuperSplat does."""
    freeze: float | None = None
    """Time in [0, 1] at which the turntable's object stands still; None lets it move."""
    faces: int = 20000
    """Triangles of the mesh, at most."""

    def __post_init__(self) -> None:
        require_known(self.to)
        require_ranges(
            "export", self, fps=(0.1, 240), input_fps=(0.1, 240), width=(1, 8192), height=(1, 8192)
        )
        require_ranges(
            "export",
            self,
            background=(0, 1),
            elevation=(-90, 90),
            azimuth=(-1e4, 1e4),
            turns=(-1e3, 1e3),
        )
        require_ranges(
            "export",
            self,
            turntable_frames=(1, 10**5),
            radius=(0.01, 100),
            fov=(0.1, 179),
            faces=(4, 10**6),
        )
        if self.frames is not None:
            require_ranges("export", self, frames=(1, 10**5))
        if self.freeze is not None:
            require_ranges("export", self, freeze=(0, 1))

    def with_aspect(self, aspect: float) -> ExportOptions:
        """The largest size within width x height whose sides have the ratio ``aspect``, width over height."""
        width = min(self.width, max(1, round(self.height * aspect)))
        return replace(self, width=width, height=min(self.height, max(1, round(width / aspect))))
