"""What is written, and how it plays and looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ..camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS
from ..ranges import OneOf, Options, Range
from .formats import FORMATS


@dataclass(frozen=True)
class ExportOptions(Options):
    """What is written, and how it plays and looks."""

    to: Annotated[tuple[str, ...], OneOf(FORMATS)] = ("glb", "html")
    """Formats, by their names in the table of `gs4d export --help`."""
    fps: Annotated[float, Range(0.1, 240)] = 8.0
    """Frames per second of what is written. Time is continuous: another rate than input_fps
    resamples the motion."""
    input_fps: Annotated[float, Range(0.1, 240)] = 8.0
    """Frames per second of the input video, which say how long the motion lasts."""
    frames: Annotated[int | None, Range(1, 10**5)] = None
    """Frames from first to last, whatever the rate; None: as many as fps needs, which at input_fps
    are the input's."""
    loop: bool = False
    """End where it begins: forth and back, or forth alone if the motion itself ends where it
    began."""
    camera: Literal["input", "turntable", "orbit"] = "input"
    """Where mp4, gif and webm are filmed from: the input video's camera, around the object, or a
    still orbit camera."""
    width: Annotated[int, Range(1, 8192)] = 512
    """Pixels of the videos; from the input's camera, the largest picture of the input's shape
    within width x height."""
    height: Annotated[int, Range(1, 8192)] = 512
    background: Annotated[tuple[float, float, float], Range(0, 1)] = (1.0, 1.0, 1.0)
    """RGB in [0, 1]; webm has none."""
    transparent: bool = False
    """A gif without background; its pixels are opaque or not, with nothing between."""
    turntable_frames: Annotated[int, Range(1, 10**5)] = 64
    """Frames of the turntable at input_fps, once around while time runs from first to last."""
    elevation: Annotated[float, Range(-90, 90)] = 15.0
    """Of the turntable's and the orbit's camera, degrees."""
    azimuth: Annotated[float, Range(-1e4, 1e4)] = 0.0
    """Where the turntable starts and the orbit's camera stands, degrees."""
    turns: Annotated[float, Range(-1e3, 1e3)] = 1.0
    """Times around; 0 keeps the camera still."""
    radius: Annotated[float, Range(0.01, 100)] = DEFAULT_RADIUS
    fov: Annotated[float, Range(0.1, 179)] = DEFAULT_FOVY_DEG
    """Vertical field of view, degrees."""
    y_down: bool = False
    """Turn the files per frame (ply, compressed-ply, splat, spz) for viewers that take y as down,
    as SuperSplat does."""
    freeze: Annotated[float | None, Range(0, 1)] = None
    """Time in [0, 1] at which the turntable's object stands still; None lets it move."""
    faces: Annotated[int, Range(4, 10**6)] = 20000
    """Triangles of the mesh, at most."""

    def with_aspect(self, aspect: float) -> ExportOptions:
        """The largest size within width x height whose sides have the ratio ``aspect``, width over
        height.
        """
        width = min(self.width, max(1, round(self.height * aspect)))
        return replace(self, width=width, height=min(self.height, max(1, round(width / aspect))))
