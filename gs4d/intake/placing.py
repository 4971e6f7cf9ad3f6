"""Decides where the cameras of side views stand, and the confidence in each view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..clip import Orbit
from ..errors import UserError
from ..io.clips import View
from .agreement import Agreement, compare, object_scale, overlap
from .backdrop import Backdrop, find_backdrop, key
from .layouts import FORMATS, FoundViews, Picture
from .masks import true_colors

BETTER = 0.04  # of agreement, by which another reading of the cameras must win to be worth a word
# Agreement of the input view with the side views above which its size need not be measured.
GOOD = 0.95
POOR = 0.7  # overlap below which the cameras are in doubt
DOUBTED = 0.7  # weight below which a view is named


@dataclass
class Part:
    """One source, with the frames of it that are used.

    Attributes:
        source: its pictures.
        chosen: index into the source's frames, per frame of the clip.
        views: its cameras, once they are known.
        backdrops: per view, the background that was last cut out.
    """

    source: FoundViews
    chosen: list[int]
    views: tuple[View, ...] = ()
    backdrops: dict[int, Backdrop] = field(default_factory=dict)

    def frames(self, steps: Sequence[int]) -> Iterator[list[tuple[Picture, Path | None]]]:
        """Yields all views at rising steps of the clip: picture, cut out, and its file.

        The file is None unless it may be copied into the clip as it is.
        """
        for step, pictures in zip(
            steps, self.source.frames([self.chosen[s] for s in steps]), strict=True
        ):
            if len(pictures) != len(self.views):
                raise UserError(
                    f"{self.source.where} has {len(pictures)} views per frame but its cameras are "
                    f"{len(self.views)}; give a rig file that places every view"
                )
            yield [self._cut_out(picture, view, step) for view, picture in enumerate(pictures)]

    def _cut_out(self, picture: Picture, view: int, step: int) -> tuple[Picture, Path | None]:
        if picture[..., 3].min() < 250:
            own = self.source.own
            return picture, self.source.files[self.chosen[step]][view] if own else None
        found = find_backdrop(picture[..., :3]) or self.backdrops.get(view)
        if found is None:
            raise UserError(
                f"view {view} of frame {step} in {self.source.where} has no alpha and no "
                "background of one colour; cut the object out first and give pictures with alpha"
            )
        self.backdrops[view] = found
        alpha = (key(picture[..., :3], found) * 255).round().astype(np.uint8)
        return true_colors(picture, alpha, found), None


def spread(count: int, at_most: int) -> list[int]:
    """Returns at most ``at_most`` of the indices below ``count``, evenly from first to last."""
    shown = min(count, at_most)
    return [round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)]


def cameras_of_part(part: Part, name: str) -> tuple[View, ...]:
    """The cameras of a format, at the frames that are used."""
    views = []
    for view in part.source.views or FORMATS[name].views:
        orbits, weights = view.orbits, view.confidence
        if len(orbits) not in (1, part.source.count) or len(weights) not in (1, part.source.count):
            raise UserError(
                f"the rig moves a camera through {max(len(orbits), len(weights))} frames but "
                f"{part.source.where} has {part.source.count}; give one number per frame, or one "
                "for all"
            )
        views.append(
            View(
                tuple(orbits[i] for i in part.chosen) if len(orbits) > 1 else orbits,
                tuple(weights[i] for i in part.chosen) if len(weights) > 1 else weights,
            )
        )
    return tuple(views)


def at(view: View, step: int) -> Orbit:
    """Returns where a camera stands at a step of the clip."""
    return view.orbits[min(step, len(view.orbits) - 1)]


def _turned(views: Sequence[View], *, sign: int = 1, scale: float = 1.0) -> tuple[View, ...]:
    """The cameras the other way around, or further away.

    An object that is ``scale`` times as large looks the same then.
    """
    return tuple(
        replace(
            v,
            orbits=tuple(
                replace(o, azimuth=sign * o.azimuth, radius=o.radius * scale) for o in v.orbits
            ),
        )
        for v in views
    )


@dataclass(frozen=True)
class Seen:
    """The input view beside the side views.

    Attributes:
        steps: of the clip that are compared.
        pictures: of the input at these steps, small; none where there is no input yet.
        cameras: of the input at these steps.
    """

    steps: list[int]
    pictures: list[Picture]
    cameras: list[Orbit]

    @property
    def few(self) -> list[int]:
        """Positions of the three steps at which readings of the cameras are compared."""
        return spread(len(self.steps), 3)


def place(
    part: Part, small: list[list[Picture]], seen: Seen, *, reverse: bool, scale: float | None
) -> list[str]:
    """Decides on the cameras of a source, says what was decided and returns warnings.

    Args:
        part: gets the cameras.
        small: its pictures at the steps of ``seen``, shrunk.
        seen: the input view.
        reverse: whether the cameras go around the other way.
        scale: size of the object beside what the format says; None: measured where it is unknown.
    """

    def fit(views: Sequence[View]) -> float:
        rows = [(small[i], [at(v, seen.steps[i]) for v in views]) for i in seen.few]
        return float(np.mean([overlap(*row) for row in rows]))

    sign = -1 if reverse else 1
    readings = {
        name: _turned(cameras_of_part(part, name), sign=sign) for name in part.source.formats
    }
    readings = {name: views for name, views in readings.items() if len(views) == len(small[0])}
    fits = {name: fit(views) for name, views in readings.items()}
    name = next((n for n in fits if fits[n] > max(fits.values()) - 0.002), part.source.formats[0])
    part.source = replace(part.source, formats=(name,))
    part.views = readings.get(name, ())
    among = "".join(f", {fits[n]:.3f} as {n}" for n in fits if n != name)
    agree = f" (overlap {fits[name]:.3f}{among})" if len(small[0]) >= 4 else ""
    frames = "1 frame" if part.source.count == 1 else f"{part.source.count} frames"
    print(
        f"{part.source.where}: {name}, by {part.source.why}; {len(part.views)} views, "
        f"{frames}{agree}."
    )
    warnings = []
    if len(small[0]) >= 4:
        other = fit(_turned(part.views, sign=-1))
        if other > fits[name] + BETTER:
            warnings.append(
                f"the views of {name} would agree better if its cameras went around the other way "
                f"({other:.2f} instead of {fits[name]:.2f}): {'leave out' if reverse else 'add'} "
                "--reverse"
            )
        elif fits[name] < POOR:
            warnings.append(
                f"the views of {name} fit together badly (overlap {fits[name]:.2f} of 1): are "
                "these its cameras?"
            )
    if scale is None and seen.pictures:
        scale, more = _size(part, small, seen)
        warnings += more
    part.views = _turned(part.views, scale=scale or 1.0)
    return warnings


def _size(part: Part, small: list[list[Picture]], seen: Seen) -> tuple[float | None, list[str]]:
    """Returns the size of the input's object beside the views' where it is unknown; warnings."""
    name = part.source.formats[0]
    framed = FORMATS[name].framed
    orbits = [[at(v, step) for v in part.views] for step in seen.steps]
    few = [(small[i], orbits[i], seen.pictures[i], seen.cameras[i]) for i in seen.few]
    if not framed:
        found = [compare([s, *row], [camera, *places]) for row, places, s, camera in few]
        if float(np.median([one.shape[0] for one in found])) >= GOOD:
            return None, []
    measured, gain = _measure_scale(few)
    if framed:
        print(
            f"{name} frames the object by itself: by the input view it is {measured:.2f} times "
            "as large."
        )
        return measured, []
    if gain <= BETTER:
        return None, []
    return None, [
        f"the object is {measured:.2f} times as large in the input view as in the side views; if "
        f"they were not made of these very pictures, add --scale {measured:.2f}"
    ]


def _measure_scale(
    few: list[tuple[list[Picture], list[Orbit], Picture, Orbit]],
) -> tuple[float, float]:
    """Returns the size of the input's object beside the views', and the gain in agreement."""
    results = [object_scale(*row) for row in few]
    scales, total = results[0][0], np.mean([scores for _, scores in results], 0)
    # Silhouettes leave some room, and the middle of it is the likeliest.
    best = total > total.max() - 0.002
    scale = float(np.exp(np.log(scales[best]).mean()))
    return scale, float(total.max() - total[np.abs(scales - 1).argmin()])


def view_weights(
    found: list[Agreement], steps: list[int], count: int, *, skip: bool
) -> Float[np.ndarray, "v t"]:
    """A weight per view and frame.

    The input view, which is first where there is one, always has full confidence.
    """
    rows = np.stack([one.weights()[1 if skip else 0 :] for one in found], 1)
    # A view that is wrong in most frames is not right in those where it happens to fit.
    rows = np.minimum(rows, np.median(rows, 1, keepdims=True))
    rows = np.where(rows > 0.97, 1.0, rows.clip(0.02))
    return np.stack([np.interp(np.arange(count), steps, row) for row in rows])


def doubts(
    found: list[Agreement],
    weights: Float[np.ndarray, "v t"],
    views: list[View],
    *,
    with_input: bool,
) -> list[str]:
    """Returns warnings about views that disagree with the others."""
    said = []
    for number, (row, view) in enumerate(zip(weights, views, strict=True)):
        doubted = np.count_nonzero(row < DOUBTED)
        if doubted:
            said.append(
                f"view {number} (azimuth {view.orbits[0].azimuth:g}) disagrees with the others in "
                f"{doubted} of {len(row)} frames; its mean weight is {row.mean():.2f}"
            )
    own = float(np.mean([one.weights()[0] for one in found])) if with_input else 1.0
    if own < DOUBTED:
        shape = np.mean([one.shape[0] for one in found])
        said.append(
            f"the input view disagrees with the side views (agreement {shape:.2f}): are they of "
            "the same frames and crop?"
        )
    return said
