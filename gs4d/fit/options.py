"""How a clip is fitted: learning rates, weights of the losses, stages and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from ..clip import Clip
from ..consistency import ConsistencyOptions
from ..densify import DensifyOptions
from ..errors import UserError
from ..guidance import GuidanceOptions
from ..motion import HexPlaneOptions
from ..ranges import Options, Range


@dataclass(frozen=True)
class LearningRates(Options):
    """Adam's rates; each decays exponentially to ``final`` times itself over the whole run."""

    means: Annotated[float, Range(0, 1)] = 8e-4
    quats: Annotated[float, Range(0, 1)] = 4e-3
    log_scales: Annotated[float, Range(0, 1)] = 8e-3
    logit_opacities: Annotated[float, Range(0, 1)] = 4e-2
    sh_dc: Annotated[float, Range(0, 1)] = 1e-2
    sh_rest: Annotated[float, Range(0, 1)] = 5e-4
    planes: Annotated[float, Range(0, 1)] = 2e-2
    decoder: Annotated[float, Range(0, 1)] = 2e-3
    final: Annotated[float, Range(0, 1)] = 0.05

    RETIRED: ClassVar[dict[str, Any]] = {"trajectories": ...}


@dataclass(frozen=True)
class LossWeights(Options):
    """Weights of the loss terms; picture terms are means over pixels and channels."""

    anchor: Annotated[float, Range(0, 1e6)] = 2.0
    """Weight of the input view's pictures, relative to a side view's."""
    ssim: Annotated[float, Range(0, 1)] = 0.2
    """Share of 1 - SSIM in the colour loss, the rest is L1."""
    alpha: Annotated[float, Range(0, 1e6)] = 0.5
    """L1 on coverage."""
    plane_smoothness: Annotated[float, Range(0, 1e6)] = 1e-4
    """Total variation of the field over space."""
    time_smoothness: Annotated[float, Range(0, 1e6)] = 1e-3
    """Acceleration of the field over time."""
    distillation: Annotated[float, Range(0, 1e6)] = 0.1 / 4096
    """Score of the prior, in the fine stage: the papers' lambda_sds, times a sum over latents per
    picture. They set 0.1 or 1 beside picture losses of 500 to 10000, where ours have about 1:
    divide theirs by that."""
    time_consistency: Annotated[float, Range(0, 1e6)] = 0.0
    """Squared distance of a picture from what an interpolator makes of those before and after it,
    from any side."""
    view_consistency: Annotated[float, Range(0, 1e6)] = 0.0
    """The same for pictures from the left and from the right of it."""


@dataclass(frozen=True)
class FitOptions(Options):
    """How a clip is fitted, in 4DGen's stages.

    Static sees one frame, coarse all frames and views, fine adds a prior's score.
    """

    seed: Annotated[int, Range(0, 2**63 - 1)] = 6666
    resolution: Annotated[int, Range(1, 8192)] = 256
    """Longer side of the pictures that are fitted, in pixels; larger files are scaled down."""
    steps: Annotated[int, Range(1, 10**8)] = 3000
    """Optimizer steps of all stages together."""
    static: Annotated[float, Range(0, 1)] = 0.1
    """Share of the steps in the static stage."""
    fine: Annotated[float, Range(0, 1)] = 0.2
    """Share of the steps in the fine stage; the coarse stage has the rest."""
    static_frame: int | None = None
    """Frame of the static stage, from 0; None: the one in which the input view shows most of the
    object."""
    views_per_step: Annotated[int, Range(1, 1024)] = 4
    """Pictures per step."""
    times_per_step: Annotated[int, Range(1, 1024)] = 4
    """Different frames among them."""
    gaussians: Annotated[int, Range(1, 10**7)] = 8000
    """Gaussians at the start; densification adds more."""
    start: Literal["hull", "ball"] = "hull"
    """Start inside the visual hull of the masks, or in a random ball."""
    sh_degree: Literal[0, 1, 2, 3] = 0
    learning_rates: LearningRates = field(default_factory=LearningRates)
    losses: LossWeights = field(default_factory=LossWeights)
    densify: DensifyOptions = field(default_factory=DensifyOptions)
    motion: HexPlaneOptions = field(default_factory=HexPlaneOptions)
    score: GuidanceOptions = field(default_factory=GuidanceOptions)
    consistency: ConsistencyOptions = field(default_factory=ConsistencyOptions)
    checkpoint_seconds: Annotated[float, Range(0, 1e6)] = 60.0
    """Time between two checkpoints."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads, 0 for all cores."""

    RETIRED: ClassVar[dict[str, Any]] = {"free_paths": False, "trajectories": ...}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.static + self.fine > 1:
            raise self.error(
                f"{{static}} {self.static} and {{fine}} {self.fine} are shares of the steps; "
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
