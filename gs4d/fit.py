"""The loop that fits moving Gaussians to a clip: three stages, one visible ``for``."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm import tqdm

from .asset import Asset
from .camera import Camera
from .checkpoint import motion_record
from .clip import Clip, Pictures, cameras_of, over_white
from .consistency import ConsistencyOptions, Moments, along_time, along_views, inconsistency
from .densify import DensifyOptions, NeedMeter, densify
from .errors import Interrupted, UserError, interruptible, require_ranges
from .gaussians import FIELD_NDIM, Gaussians
from .guidance import GuidanceOptions, sample_views, score_gradient, torch_threads
from .hull import start_gaussians
from .io.checkpoint import read_checkpoint, write_checkpoint
from .losses import l1, photometric
from .motion import HexPlane, HexPlaneOptions, Trajectories, TrajectoryOptions, Vanishing
from .prior import Interpolator, ScorePrior
from .render import can_draw_on_cuda, render

BOX_MARGIN = 0.25  # of the object's size in the static frame, for where it moves and grows later
WHITE = (1.0, 1.0, 1.0)
LOG_EVERY = 20  # steps between two rows of the history
WAIT_SECONDS = 0.03  # between two looks at whether a paused fit may go on
DECODE_AHEAD = 4  # steps
TERMS = {
    "score": "score",
    "time_consistency": "time",
    "view_consistency": "view",
}  # of the loss, as the progress line has them


@dataclass(frozen=True)
class LearningRates:
    """Adam's rates; each decays exponentially to ``final`` times itself over the whole run."""

    means: float = 8e-4
    quats: float = 4e-3
    log_scales: float = 8e-3
    logit_opacities: float = 4e-2
    sh_dc: float = 1e-2
    sh_rest: float = 5e-4
    trajectories: float = 1e-3
    planes: float = 2e-2
    decoder: float = 2e-3
    final: float = 0.05

    def __post_init__(self) -> None:
        require_ranges("fit.learning_rates", self, **dict.fromkeys(vars(self), (0, 1)))


@dataclass(frozen=True)
class LossWeights:
    """What is added up; picture terms are means over pixels and channels."""

    anchor: float = 2.0
    """Weight of the input view's pictures, relative to a side view's."""
    ssim: float = 0.2
    """Share of 1 - SSIM in the colour loss, the rest is L1."""
    alpha: float = 0.5
    """L1 on coverage."""
    plane_smoothness: float = 1e-4
    """Total variation of the field over space."""
    time_smoothness: float = 1e-3
    """Acceleration of the field over time."""
    distillation: float = 0.1 / 4096
    """Score of the prior, in the fine stage: the papers' lambda_sds, times a sum over latents per
    picture. They set 0.1 or 1 beside picture losses of 500 to 10000, where ours have about 1:
    divide theirs by that."""
    time_consistency: float = 0.0
    """Squared distance of a picture from what an interpolator makes of those before and after it,
    from any side."""
    view_consistency: float = 0.0
    """The same for pictures from the left and from the right of it."""

    def __post_init__(self) -> None:
        require_ranges(
            "fit.losses", self, **{name: (0, 1 if name == "ssim" else 1e6) for name in vars(self)}
        )


@dataclass(frozen=True)
class FitOptions:
    """How a clip is fitted: 4DGen's stages static (one frame), coarse (all frames and views), fine (adds a prior's score)."""

    seed: int = 6666
    resolution: int = 256
    """Longer side of the pictures that are fitted, in pixels; larger files are scaled down."""
    steps: int = 3000
    """Optimizer steps of all stages together."""
    static: float = 0.1
    """Share of the steps in the static stage."""
    fine: float = 0.2
    """Share of the steps in the fine stage; the coarse stage has the rest."""
    static_frame: int | None = None
    """Frame of the static stage, from 0; None: the one in which the input view shows most of the
    object."""
    views_per_step: int = 4
    """Pictures per step."""
    times_per_step: int = 4
    """Different frames among them."""
    gaussians: int = 8000
    """Gaussians at the start; densification adds more."""
    start: Literal["hull", "ball"] = "hull"
    """Start inside the visual hull of the masks, or in a random ball."""
    sh_degree: Literal[0, 1, 2, 3] = 0
    learning_rates: LearningRates = field(default_factory=LearningRates)
    losses: LossWeights = field(default_factory=LossWeights)
    densify: DensifyOptions = field(default_factory=DensifyOptions)
    motion: HexPlaneOptions = field(default_factory=HexPlaneOptions)
    free_paths: bool = False
    """Also give every Gaussian a residual path of its own."""
    trajectories: TrajectoryOptions = field(default_factory=TrajectoryOptions)
    score: GuidanceOptions = field(default_factory=GuidanceOptions)
    consistency: ConsistencyOptions = field(default_factory=ConsistencyOptions)
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints."""
    threads: int = 0
    """CPU threads, 0 for all cores."""

    def __post_init__(self) -> None:
        counts = {
            "steps": 10**8,
            "gaussians": 10**7,
            "views_per_step": 1024,
            "times_per_step": 1024,
        }
        require_ranges("fit", self, **{name: (1, most) for name, most in counts.items()})
        require_ranges(
            "fit",
            self,
            seed=(0, 2**63 - 1),
            resolution=(1, 8192),
            static=(0, 1),
            fine=(0, 1),
            threads=(0, 1024),
        )
        require_ranges("fit", self, checkpoint_seconds=(0, 1e6))
        if self.static + self.fine > 1:
            raise UserError(
                f"fit.static {self.static} and fit.fine {self.fine} are shares of the steps; "
                "together at most 1"
            )

    def check(self, clip: Clip) -> None:
        """Refuses options that do not fit the clip.

        Raises:
            UserError: the static frame does not exist, or shows nothing.
        """
        if self.static_frame is None:
            return
        if not 0 <= self.static_frame < clip.frames:
            raise UserError(
                f"fit.static_frame is {self.static_frame} but '{clip.name}' has {clip.frames} "
                "frames, from 0"
            )
        if clip.hidden[self.static_frame]:
            raise UserError(
                f"fit.static_frame is {self.static_frame}, a frame of '{clip.name}' that shows "
                "nothing; leave it out, or name "
                f"one that shows the object, such as {clip.areas.index(max(clip.areas))}"
            )

    @property
    def interpolator(self) -> str | None:
        """Name of the interpolator that the fit needs."""
        used = self.losses.time_consistency or self.losses.view_consistency
        return self.consistency.interpolator if used else None

    def stage(self, step: int) -> str:
        """The stage that a step belongs to."""
        if step < self.static * self.steps:
            return "static"
        return "coarse" if step < (1 - self.fine) * self.steps else "fine"


class Fitter:
    """Everything that a run needs to go on, and the step that takes it further."""

    def __init__(
        self,
        clip: Clip,
        options: FitOptions,
        prior: ScorePrior | None = None,
        interpolator: Interpolator | None = None,
    ) -> None:
        """Starts inside the visual hull with a motion at rest."""
        self.clip, self.options, self.prior, self.interpolator = clip, options, prior, interpolator
        self.device = torch.device("cuda" if can_draw_on_cuda() else "cpu")
        options.check(clip)
        torch.manual_seed(options.seed)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.static_frame = (
            clip.areas.index(max(clip.areas))
            if options.static_frame is None
            else options.static_frame
        )
        self.shown = [frame for frame, hidden in enumerate(clip.hidden) if not hidden]
        start = start_gaussians(
            clip,
            self.static_frame,
            options.gaussians,
            options.sh_degree,
            self.generator,
            kind=options.start,
        )
        self.field = HexPlane(options.motion, clip.frames)
        self.field.fit_box(start.means, margin=BOX_MARGIN)
        self.motion: HexPlane | Trajectories = self.field
        if options.free_paths:
            self.motion = Trajectories(options.trajectories, clip.frames, start.count, self.field)
        self.motion.to(self.device)
        # What nothing is seen of is not fitted: the Gaussians move through such frames unseen, and
        # are not drawn.
        self.played = Vanishing(self.motion, clip.hidden) if any(clip.hidden) else self.motion
        self._adopt(start.to(self.device))
        self.need = NeedMeter(start.count)
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.times = clip.times()
        self.cameras = [
            cameras_of(t.orbits, width=t.size[1], height=t.size[0]) for t in clip.tracks
        ]
        self.fingerprint = fingerprint(clip)

    def _adopt(self, gaussians: Gaussians) -> None:
        """Makes ``gaussians`` the parameters, with a fresh optimizer."""
        values = dict(gaussians.items())
        sh = values.pop("sh")
        values["sh_dc"], values["sh_rest"] = sh[:, :1].contiguous(), sh[:, 1:].contiguous()
        self.parameters = nn.ParameterDict(
            {k: nn.Parameter(v.clone()) for k, v in values.items() if v.numel() or not len(v)}
        )
        if isinstance(self.motion, Trajectories):
            self.parameters["trajectories"] = self.motion.coefficients
        rates = self.options.learning_rates
        groups = [
            {"name": name, "params": [p], "rate": getattr(rates, name)}
            for name, p in self.parameters.items()
        ]
        decoder = [*self.field.hidden.parameters(), *self.field.out.parameters()]
        groups.append(
            {
                "name": "planes",
                "params": [*self.field.space, *self.field.time],
                "rate": rates.planes,
            }
        )
        groups.append({"name": "decoder", "params": decoder, "rate": rates.decoder})
        self.optimizer = torch.optim.Adam(groups, lr=0.0, eps=1e-15, fused=True)

    def gaussians(self) -> Gaussians:
        """The canonical set, with history."""
        p = self.parameters
        sh = torch.cat([p["sh_dc"], p["sh_rest"]], 1) if "sh_rest" in p else p["sh_dc"]
        return Gaussians(p["means"], p["quats"], p["log_scales"], p["logit_opacities"], sh)

    def asset(self) -> Asset:
        """What has been fitted so far."""
        orbits = {track.name: track.orbit for track in self.clip.tracks}
        paths = {track.name: track.path for track in self.clip.tracks if track.path}
        return Asset(self.gaussians().detach(), self.played, self.clip.frames, orbits, paths)

    def advance(self) -> dict[str, Any]:
        """One optimizer step; returns its stage, loss, PSNR of the batch (dB), number of Gaussians, and other terms."""
        o, stage, progress = (
            self.options,
            self.options.stage(self.step),
            self.step / self.options.steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * o.learning_rates.final**progress

        canonical = self.gaussians()
        loss, squared_error, values = self._regularizers(stage), 0.0, 0
        observed = []
        self._expect()
        for frames, tracks in self._batches(self.step):
            moved = (
                canonical
                if stage == "static"
                else self.motion.at_times(canonical, self.times[frames].to(self.device))
            )
            offsets = torch.zeros(
                len(frames), canonical.count, 2, device=self.device, requires_grad=True
            )
            drawn = render(
                moved, self._cameras(frames, tracks), background=WHITE, screen_offsets=offsets
            )
            target = torch.stack(
                [self.clip.tracks[k].images[t] for t, k in zip(frames, tracks, strict=True)]
            )
            picture, coverage = over_white(target.to(self.device))
            weights = self._weights(frames, tracks)
            share = len(frames) / o.views_per_step
            loss = loss + share * photometric(
                drawn.rgb, picture, ssim_weight=o.losses.ssim, weights=weights
            )
            loss = loss + share * o.losses.alpha * l1(drawn.alpha[..., None], coverage, weights)
            squared_error += mse_loss(drawn.rgb.detach(), picture, reduction="sum").item()
            values += picture.numel()
            observed.append((offsets, drawn.radii))
        terms: dict[str, float] = {}
        if stage == "fine" and self.prior is not None:
            score = self._score(self.prior, canonical)
            loss, terms["score"] = loss + o.losses.distillation * score, score.item()
        if (
            stage != "static"
            and self.interpolator is not None
            and self.step % o.consistency.every == 0
        ):
            for name, value in self._inconsistencies(self.interpolator, canonical).items():
                weight = o.consistency.every * getattr(o.losses, name)
                loss, terms[name] = loss + weight * value, value.item()
        if not loss.isfinite():
            raise UserError(
                f"the loss is {loss.item()} at step {self.step}: lower --fit.learning_rates or "
                "--fit.losses and train again"
            )
        loss.backward()
        for offsets, radii in observed:
            self.need.observe(offsets.grad, radii)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._densify()
        psnr = -10 * math.log10(max(squared_error / values, 1e-10))
        return {
            "stage": stage,
            "loss": loss.item(),
            "psnr": psnr,
            "gaussians": canonical.count,
            **terms,
        }

    def _batches(self, step: int) -> list[tuple[list[int], list[int]]]:
        """The (frame, track) pairs of a step, in groups whose pictures have one size.

        They depend on nothing but the seed and the step, so that the pictures of later steps can be
        decoded ahead.
        """
        o, tracks = self.options, self.clip.tracks
        draw = torch.Generator().manual_seed((o.seed * 1_000_003 + step) % 2**63)
        some = [
            self.shown[i]
            for i in torch.randperm(len(self.shown), generator=draw)[: o.times_per_step].tolist()
        ]
        views = torch.randperm(len(tracks), generator=draw).tolist()
        if any(
            track.confidence_map is not None for track in tracks
        ):  # what was made up must not outvote what was seen
            views = [0, *(view for view in views if view)]
        static = o.stage(step) == "static"
        groups: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
        for i in range(o.views_per_step):
            track = views[i % len(views)]
            group = groups.setdefault(tracks[track].size, ([], []))
            group[0].append(self.static_frame if static else some[i % len(some)])
            group[1].append(track)
        return list(groups.values())

    def _expect(self) -> None:
        """Has the pictures of a later step decoded while this one is computed."""
        later = self.step + DECODE_AHEAD
        for frames, tracks in self._batches(later) if later < self.options.steps else ():
            for frame, track in zip(frames, tracks, strict=True):
                if isinstance(images := self.clip.tracks[track].images, Pictures):
                    images.expect(frame)

    def _cameras(self, frames: list[int], tracks: list[int]) -> Camera:
        cameras = [
            self.cameras[k].select([t if len(self.cameras[k]) > 1 else 0])
            for t, k in zip(frames, tracks, strict=True)
        ]
        T, K = torch.cat([c.T_camera_world for c in cameras]), torch.cat([c.K for c in cameras])
        return Camera(T, K, cameras[0].width, cameras[0].height).to(self.device)

    def _weights(self, frames: list[int], tracks: list[int]) -> Tensor:
        """What pictures count, or where any of them has a map of confidence, what their pixels do."""
        shown = [self.clip.tracks[k] for k in tracks]
        factors = torch.tensor([self.options.losses.anchor if k == 0 else 1.0 for k in tracks])
        if any(track.confidence_map is not None for track in shown):
            maps = torch.stack(
                [track.confidence_map_at(t) for t, track in zip(frames, shown, strict=True)]
            )
            return (factors[:, None, None] * maps).to(self.device)
        return (
            factors
            * torch.tensor([track.confidence_at(t) for t, track in zip(frames, shown, strict=True)])
        ).to(self.device)

    def _regularizers(self, stage: str) -> Float[Tensor, ""]:
        weights = self.options.losses
        if stage == "static":
            return torch.zeros((), device=self.device)
        return (
            weights.plane_smoothness * self.field.plane_smoothness()
            + weights.time_smoothness * self.field.time_smoothness()
        )

    def _score(self, prior: ScorePrior, canonical: Gaussians) -> Float[Tensor, ""]:
        """The prior's score of random views at random times."""
        o = self.options
        progress = 1 - (1 - self.step / o.steps) / o.fine
        sample = sample_views(
            self.clip,
            o.score,
            progress,
            prior.joint,
            self.generator,
            views_per_ring=prior.views_per_ring,
        )
        moved = self.played.at_times(canonical, self.times[sample.frames].to(self.device))
        drawn = render(moved, sample.cameras.to(self.device), background=WHITE)
        with torch_threads(o.threads):
            return score_gradient(prior, drawn, sample, o.score.sds, progress, self.generator)

    def _inconsistencies(
        self, interpolator: Interpolator, canonical: Gaussians
    ) -> dict[str, Float[Tensor, ""]]:
        """The consistency terms that have a weight, of random views at random times."""
        o, found = self.options, {}

        def drawn(moments: Moments) -> Float[Tensor, "b h w 4"]:
            moved = self.played.at_times(canonical, moments.times.to(self.device))
            picture = render(moved, moments.cameras.to(self.device), background=WHITE)
            return torch.cat([picture.rgb, picture.alpha[..., None]], -1)

        for name, draw in (("time_consistency", along_time), ("view_consistency", along_views)):
            triples = (
                draw(self.clip, o.consistency, self.generator) if getattr(o.losses, name) else None
            )
            if triples is not None:
                found[name] = inconsistency(interpolator, triples, drawn)
        return found

    def _densify(self) -> None:
        o = self.options.densify
        due = o.every and self.step % o.every == 0
        if not due or not o.start <= self.step / self.options.steps <= o.stop:
            return
        densify(self.parameters, self.optimizer, self.need.need(), o, self.generator)
        if isinstance(self.motion, Trajectories):
            self.motion.coefficients = self.parameters["trajectories"]
        self.need = NeedMeter(len(self.parameters["means"]))

    def save(self, folder: Path) -> None:
        """Writes the whole state; :meth:`restore` goes on from it as if nothing had happened."""
        tensors = {f"asset.{name}": t for name, t in self.gaussians().items()}
        tensors |= {f"motion.{name}": t for name, t in self.motion.state_dict().items()}
        for name, slot, state in self._moments():
            tensors |= {f"optimizer.{name}.{slot}.{key}": t for key, t in state.items()}
        tensors |= {
            "need.total": self.need.total,
            "need.seen": self.need.seen,
            "random": self.generator.get_state(),
        }
        motion = motion_record(self.motion, self.clip.frames)
        orbits = {track.name: asdict(track.orbit) for track in self.clip.tracks}
        paths = {
            track.name: [asdict(orbit) for orbit in track.path]
            for track in self.clip.tracks
            if track.path
        }
        record = {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "motion": motion,
            "orbits": orbits,
            "paths": paths,
            "hidden": [frame for frame, hidden in enumerate(self.clip.hidden) if hidden],
        }
        record |= {"options": asdict(self.options), "pictures": self.fingerprint}
        write_checkpoint(folder, tensors, record)

    def restore(self, folder: Path) -> None:
        """Takes up the state that :meth:`save` wrote.

        Raises:
            UserError: the checkpoint is absent, damaged, or of another clip or configuration.
        """
        tensors, record = read_checkpoint(folder)
        try:
            if record["motion"] != json.loads(
                json.dumps(motion_record(self.motion, self.clip.frames))
            ):
                raise ValueError("the number of frames or the motion options changed")
            if record["pictures"] != self.fingerprint:
                raise ValueError("the pictures or the cameras of the clip changed")
            if isinstance(self.motion, Trajectories):
                self.motion.coefficients = nn.Parameter(
                    tensors["motion.coefficients"].to(self.device)
                )
            self.motion.load_state_dict(
                {
                    k.removeprefix("motion."): t
                    for k, t in tensors.items()
                    if k.startswith("motion.")
                }
            )
            self._adopt(
                Gaussians(**{name: tensors[f"asset.{name}"].to(self.device) for name in FIELD_NDIM})
            )
            for group in self.optimizer.param_groups:
                for slot, parameter in enumerate(group["params"]):
                    head = f"optimizer.{group['name']}.{slot}."
                    state = {
                        k.removeprefix(head): t for k, t in tensors.items() if k.startswith(head)
                    }
                    if state:
                        self.optimizer.state[parameter] = {
                            k: t.to(parameter.device) for k, t in state.items()
                        }
            self.need.total, self.need.seen = tensors["need.total"], tensors["need.seen"]
            self.generator.set_state(tensors["random"])
            self.step, self.seconds, self.history = (
                record["step"],
                record["seconds"],
                record["history"],
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the checkpoint in {folder} does not fit this run ({error}); train without "
                "--resume"
            ) from error

    def _moments(self) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
        for group in self.optimizer.param_groups:
            for slot, parameter in enumerate(group["params"]):
                if parameter in self.optimizer.state:
                    yield group["name"], slot, self.optimizer.state[parameter]


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
    fitter = Fitter(clip, options, prior, interpolator)
    if resume:
        fitter.restore(folder)
    began, saved = time.monotonic() - fitter.seconds, time.monotonic()
    last: dict[str, float] = {}  # values of the terms that not every step has
    bar = tqdm(
        total=options.steps,
        initial=fitter.step,
        desc=options.stage(fitter.step),
        unit="step",
        dynamic_ncols=True,
    )
    with one_torch_thread(fitter.device), interruptible() as interrupted, bar:
        for step in range(fitter.step, options.steps):
            stats = fitter.advance()
            fitter.seconds = time.monotonic() - began
            bar.set_description_str(stats["stage"], refresh=False)
            last |= {label: stats[name] for name, label in TERMS.items() if name in stats}
            terms = "".join(f"{label} {value:.4f}, " for label, value in last.items())
            bar.set_postfix_str(
                f"loss {stats['loss']:.4f}, {terms}{stats['psnr']:.1f} dB, {stats['gaussians']} "
                "Gaussians",
                refresh=False,
            )
            bar.update()
            if step % LOG_EVERY == 0 or fitter.step == options.steps:
                fitter.history.append(
                    {"step": fitter.step, "seconds": round(fitter.seconds, 2), **stats}
                )
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


def fingerprint(clip: Clip) -> int:
    """Of all pictures and cameras, so that a run is not resumed on others."""
    value = zlib.crc32(repr([(track.orbits, track.confidence) for track in clip.tracks]).encode())
    for track in clip.tracks:
        images = track.images
        value = (
            images.digest(value)
            if isinstance(images, Pictures)
            else zlib.crc32(images.numpy().tobytes(), value)
        )
        value = (
            value
            if track.confidence_map is None
            else zlib.crc32(track.confidence_map.numpy().tobytes(), value)
        )
    return value


@contextmanager
def one_torch_thread(device: torch.device) -> Iterator[None]:
    """On a CPU torch's operations are small here: waking threads for them costs more than it gains.

    Our kernels keep theirs.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
