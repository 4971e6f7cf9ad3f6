"""The loop: a step, and the visible ``for`` around it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import mse_loss
from tqdm import tqdm

from ..asset import Asset
from ..clip import Clip
from ..errors import Interrupted, UserError, interruptible
from ..gaussians import Gaussians
from ..hull import start_gaussians
from ..motion import Motion, Vanishing
from ..native import torch_threads
from ..prior import Interpolator, ScorePrior
from ..render import can_draw_on_cuda
from . import record
from .batches import Batches
from .options import FitOptions
from .state import State
from .terms import Drawn, Step, labelled, total

LOG_EVERY = 20  # steps between two rows of the history
WAIT_SECONDS = 0.03  # between two looks at whether a paused fit may go on
LEAST_ERROR = 1e-10  # mean square error below which PSNR stops at 100 dB


class Fitter:
    """A fit at one moment, and the step that takes it further.

    Attributes:
        clip: what is fitted.
        options: how.
        batches: which pictures each step has.
        state: what the fit changes.
        step: steps made so far.
        seconds: they took.
        history: a row for every :data:`LOG_EVERY` steps, and for the last.
    """

    def __init__(
        self,
        clip: Clip,
        options: FitOptions,
        prior: ScorePrior | None = None,
        interpolator: Interpolator | None = None,
        *,
        resume: Path | None = None,
    ) -> None:
        """Starts inside the visual hull with a motion at rest, or where a checkpoint is.

        Raises:
            UserError: the options do not fit the clip, or the checkpoint in ``resume`` is absent,
                damaged, or of another clip or configuration.
        """
        self.clip, self.options, self.prior, self.interpolator = clip, options, prior, interpolator
        self.batches = Batches(clip, options)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.device = torch.device("cuda" if can_draw_on_cuda() else "cpu")
        torch.manual_seed(options.seed)  # of the field's start
        if resume is None:
            generator = torch.Generator().manual_seed(options.seed)
            start = start_gaussians(
                clip,
                self.batches.static_frame,
                options.gaussians,
                options.sh_degree,
                generator,
                kind=options.start,
            )
            self.state = State(options, clip.frames, start, generator, self.device)
        else:
            self.state = record.restore(self, resume)

    @property
    def motion(self) -> Motion:
        """The field; where some frames show nothing, the Gaussians vanish in them."""
        field, hidden = self.state.field, self.clip.hidden
        return Vanishing(field, hidden) if any(hidden) else field

    def gaussians(self) -> Gaussians:
        """The canonical set, with history."""
        return self.state.gaussians()

    def asset(self) -> Asset:
        """What has been fitted so far."""
        orbits = {track.name: track.orbits for track in self.clip.tracks}
        return Asset(self.gaussians().detach(), self.motion, self.clip.frames, orbits)

    def advance(self) -> dict[str, Any]:
        """Makes one step.

        Returns:
            Its stage, loss, PSNR of its pictures (dB), number of Gaussians, and the labelled terms
            of the loss that it had.

        Raises:
            UserError: the loss is not finite.
        """
        stage, state = self.options.stage(self.step), self.state
        self.batches.expect(self.step)
        step = Step(
            self.step,
            stage,
            self.options,
            self.clip,
            state,
            self.batches,
            state.gaussians(),
            self.motion,
            self.prior,
            self.interpolator,
        )
        loss, terms = total(step)
        if not loss.isfinite():
            raise UserError(
                f"the loss is {loss.item()} at step {self.step}: lower --fit.learning_rates or "
                "--fit.losses and train again"
            )
        loss.backward()
        for drawn in step.drawn:
            assert drawn.offsets.grad is not None
            state.need.observe(drawn.offsets.grad, drawn.radii)
        state.update(self.step / self.options.steps)
        self.step += 1
        state.densify(self.step)
        count = step.gaussians.count
        return {
            "stage": stage,
            "loss": loss.item(),
            "psnr": _psnr(step.drawn),
            "gaussians": count,
            **terms,
        }

    def save(self, folder: Path) -> None:
        """Writes a checkpoint; a ``Fitter`` that resumes it goes on as if nothing had happened."""
        record.save(self, folder)


def _psnr(drawn: list[Drawn]) -> float:
    """PSNR of all renders together, dB."""
    error = sum(mse_loss(d.rgb.detach(), d.picture, reduction="sum").item() for d in drawn)
    return -10 * math.log10(max(error / sum(d.picture.numel() for d in drawn), LEAST_ERROR))


# Called after every step on the fit's thread, while the fit's clock stands still. None lets the fit
# go on, "wait" has it called again in a moment without a step between, "stop" ends the fit here.
Observer = Callable[[Fitter], Literal["wait", "stop"] | None]


def fit(
    clip: Clip,
    options: FitOptions,
    folder: Path,
    *,
    prior: ScorePrior | None = None,
    interpolator: Interpolator | None = None,
    resume: bool = False,
    on_step: Observer | None = None,
) -> Fitter:
    """Fits ``clip`` and leaves checkpoints in ``folder``.

    Args:
        clip: what was seen.
        options: how to fit it.
        folder: of the run; exists.
        prior: its score is added in the fine stage.
        interpolator: for the consistency terms, after the static stage.
        resume: go on from the checkpoint in ``folder``; the result is that of an uncut run.
        on_step: watches the fit; what it does cannot change the result, only end it early.

    Raises:
        UserError: the checkpoint cannot be resumed or written.
        Interrupted: Ctrl-C; the state is saved.
    """
    fitter = Fitter(clip, options, prior, interpolator, resume=folder if resume else None)
    began, saved = time.monotonic() - fitter.seconds, time.monotonic()
    progress = _Progress(fitter)
    # On a CPU torch's operations are small here: waking threads for them costs more than it gains.
    # The kernels keep theirs.
    threads = torch_threads(1 if fitter.device.type == "cpu" else torch.get_num_threads())
    with threads, interruptible() as interrupted, progress.bar:
        for step in range(fitter.step, options.steps):
            stats = fitter.advance()
            fitter.seconds = time.monotonic() - began
            progress.show(stats)
            if step % LOG_EVERY == 0 or fitter.step == options.steps:
                seconds = round(fitter.seconds, 2)
                fitter.history.append({"step": fitter.step, "seconds": seconds, **stats})
            if on_step is not None:
                before = time.monotonic()
                while (wish := on_step(fitter)) == "wait" and not interrupted():
                    time.sleep(WAIT_SECONDS)
                began += time.monotonic() - before
                if wish == "stop":
                    break
            if interrupted() or time.monotonic() - saved > options.checkpoint_seconds:
                fitter.save(folder)
                saved = time.monotonic()
            if interrupted():
                raise Interrupted
        fitter.save(folder)
        if interrupted():
            raise Interrupted
    return fitter


class _Progress:
    """The progress bar: stage, loss, labelled terms, PSNR and number of Gaussians."""

    def __init__(self, fitter: Fitter) -> None:
        self.bar = tqdm(
            total=fitter.options.steps,
            initial=fitter.step,
            desc=fitter.options.stage(fitter.step),
            unit="step",
            dynamic_ncols=True,
        )
        self.last: dict[str, float] = {}  # values of the terms, which not every step has

    def show(self, stats: dict[str, Any]) -> None:
        """Moves on by one step."""
        self.last |= {t.label: stats[t.name] for t in labelled() if t.name in stats}
        terms = "".join(f"{label} {value:.4f}, " for label, value in self.last.items())
        self.bar.set_description_str(stats["stage"], refresh=False)
        self.bar.set_postfix_str(
            f"loss {stats['loss']:.4f}, {terms}{stats['psnr']:.1f} dB, {stats['gaussians']} "
            "Gaussians",
            refresh=False,
        )
        self.bar.update()
