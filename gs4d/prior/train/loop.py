"""The training loop of the networks that come with gs4d, on one device or, by accelerate, many.

What a step sees depends on the seed and the step alone: the processes share it out, and a resumed
run goes on to the bit.
"""

from __future__ import annotations

import json
import math
import platform
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import wraps
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from ...errors import Interrupted, UserError, interruptible
from ...io.checkpoint import INDEX, read_checkpoint, write_checkpoint
from ...io.files import atomic_path, write_json
from ...io.locks import one_writer
from ...io.owned import adopt, claim
from ...io.weights import fill, read_weights
from ...native import set_threads
from ...options import to_record
from ...ranges import Options, Range
from ..lift_net import LiftShape
from ..surface_net import SurfaceShape
from .samples import SampleStore
from .solid_samples import SolidSampleStore

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

BETAS = (0.9, 0.98)  # of AdamW: decay of the means of gradients and of their squares
MESHES = (".glb", ".gltf")
RESULTS = ("weights.safetensors", "history.json", "curves.png")
FOLDER = (  # of weights in diffusers' layout
    r"[^/]+/(model_index\.json|scheduler/scheduler_config\.json|transformer/(config\.json|[a-z_]+\.fp16\.safetensors))"
)


RENAMED = {  # old name of an option, which is still read for one release -> new name
    "lessons": "samples",
    "first_lessons": "first_samples",
    "lessons_per_step": "samples_per_step",
    "most_lessons": "most_samples",
}


def read_old_names(kind: type[T]) -> type[T]:
    """Has a class of options take its ``RENAMED`` arguments too, and say their new names."""
    construct = kind.__init__

    @wraps(construct)
    def __init__(self: T, **options: Any) -> None:
        construct(self, **{new_name(name): value for name, value in options.items()})

    kind.__init__ = __init__
    return kind


def new_name(name: str) -> str:
    """Returns what an option is called now, and says so where that is another name."""
    if name in RENAMED:
        print(f"the option {name} is now called {RENAMED[name]}", file=sys.stderr)
    return RENAMED.get(name, name)


@runtime_checkable
class TrainTask(Protocol):
    """What a network learns, and from what."""

    @property
    def store(self) -> SolidSampleStore | SampleStore:
        """Where its samples are kept."""
        ...

    def network(self) -> nn.Module:
        """A network that has learnt nothing."""
        ...

    def metadata(self) -> dict[str, str]:
        """What the file of weights says of the network."""
        ...

    def example(self, number: int, seed: int) -> dict[str, Tensor]:
        """Returns what a network learns from a sample in one step, drawn from ``seed``."""
        ...

    def loss(self, network: Any, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """``loss`` and others worth a curve: means over the samples of a batch."""
        ...

    def measure(self, network: Any, folder: Path, step: int) -> dict[str, float]:
        """How good the averaged network is, for the curves.

        Leaves a picture of it in ``folder``.
        """
        ...


@read_old_names
@dataclass(frozen=True)
class TrainOptions(Options):
    """How a network is trained."""

    model: Literal["lift", "mini", "surface"] = "lift"
    lift: LiftShape = field(default_factory=LiftShape)
    """Sizes of lift's network; side and layers are those of the samples."""
    surface: SurfaceShape = field(default_factory=SurfaceShape)
    """Sizes of the network that sees depth; side and layers are those of the samples."""
    out: Path = Path("output/lift")
    """Where weights, curves and pictures go."""
    samples: Path = Path("data/lessons")
    """Where samples are kept once they are made; they may be deleted at any time."""
    meshes: Path | None = None
    """Folder of animated .glb and .gltf files to learn from beside procedural objects."""
    base: str = "lift"
    """What mini draws anew: lift, a lift that was trained elsewhere as lift:FILE, or inflate."""
    start: Path | None = None
    """Weights to begin with, such as the shipped ones."""
    steps: Annotated[int, Range(1, 10**8)] = 4000
    batch: Annotated[int, Range(1, 10**5)] = 8
    """Lessons per step and process."""
    first_samples: Annotated[int, Range(1, 10**9)] = 600
    """Different samples that the first step draws from; every step adds ``samples_per_step``."""
    samples_per_step: Annotated[float, Range(0, 1e6)] = 2.0
    most_samples: Annotated[int, Range(1, 10**9)] = 12000
    learning_rate: Annotated[float, Range(0, 1)] = 6e-4
    fan_in: Annotated[int, Range(0, 10**8)] = 288
    """Inputs per output from which on a layer's rate falls as one over their number, as Yang et al.
    derive (Tensor Programs V, 2022); 0: all layers have the same rate."""
    warmup: Annotated[int, Range(0, 10**8)] = 100
    """Steps in which the rate rises."""
    cooldown: Annotated[float, Range(0, 1)] = 0.3
    """Share of the steps, the last ones, in which the rate falls to nothing; before, it is
    constant, so that a run can be made longer by resuming it with more steps."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.02
    clip: Annotated[float, Range(0, 1e9)] = 1.0
    """Largest norm of the gradient."""
    average: Annotated[float, Range(0, 1)] = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    precision: Literal["auto", "bf16", "no"] = "auto"
    """auto: bf16 where the hardware has it; CPUs without it are ten times slower with than
    without."""
    seed: int = 0
    workers: Annotated[int, Range(0, 256)] = 1
    """Processes that make samples ahead."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads, 0 for all cores."""
    measure_every: int = 250
    """Steps between two looks at what was learnt."""
    checkpoint_seconds: float = 120.0
    resume: bool = False
    """Go on from the state in ``out``."""

    def solid_store(self) -> SolidSampleStore:
        """Where samples come from.

        Raises:
            UserError: the folder of meshes holds none.
        """
        meshes = (
            sorted(p for p in self.meshes.rglob("*") if p.suffix in MESHES) if self.meshes else []
        )
        if self.meshes and not meshes:
            raise UserError(
                f"--meshes {self.meshes} holds no .glb or .gltf file; without it, all objects are "
                "procedural"
            )
        return SolidSampleStore(self.samples, tuple(meshes))

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min((step + 1) / max(self.warmup, 1), 1.0)
        fall = min((self.steps - step) / max(self.cooldown * self.steps, 1), 1.0)
        return self.learning_rate * rise * fall

    def known_samples(self, step: int) -> int:
        """Number of samples that a step draws from."""
        return min(self.first_samples + int(self.samples_per_step * step), self.most_samples)


class Trainer:
    """Network, average, optimizer, and the step that takes them further."""

    def __init__(self, options: TrainOptions, task: TrainTask) -> None:
        """Prepares for one process or, under a launcher, for many.

        Raises:
            UserError: accelerate is missing, or the weights to start with are wrong.
        """
        self.options, self.task = options, task
        self.accelerator = _accelerator(options)
        torch.manual_seed(options.seed)
        network = task.network()
        if options.start is not None:
            fill(network, read_weights(options.start), str(options.start)).train().requires_grad_(
                True
            )
        self.average = deepcopy(network).eval().requires_grad_(False).to(self.accelerator.device)
        groups = _groups(network, options.fan_in)
        optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=BETAS, weight_decay=options.weight_decay, fused=True
        )
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []

    def advance(self) -> dict[str, float]:
        """One step; returns its losses, means over all processes."""
        o, accelerator = self.options, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = o.rate(self.step) * group["share"]
        rows = draw(o, self.step, o.batch * accelerator.num_processes)[
            accelerator.process_index :: accelerator.num_processes
        ]
        samples = [self.task.example(number, seed) for number, seed in rows]
        batch = {
            name: torch.stack([s[name] for s in samples]).to(accelerator.device)
            for name in samples[0]
        }
        losses = self.task.loss(self.network, batch, self.step)
        if not losses["loss"].isfinite():
            raise UserError(
                f"the loss is {losses['loss'].item()} at step {self.step}; lower --learning_rate "
                "and use --resume"
            )
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self.network.parameters(), o.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(o.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(
                self.average.parameters(), self.bare().parameters(), strict=True
            ):
                mean.lerp_(value, 1 - decay)
        self.step += 1
        return {
            name: float(accelerator.reduce(value.detach(), "mean"))  # pyright: ignore[reportArgumentType]
            for name, value in losses.items()
        }

    def bare(self) -> nn.Module:
        """The network without what accelerate wrapped around it."""
        return self.accelerator.unwrap_model(self.network)

    def save(self, folder: Path) -> None:
        """Writes the whole state and, in half precision, the average as ``weights.safetensors``."""
        if not self.accelerator.is_main_process:
            return
        tensors = {f"network.{k}": v for k, v in self.bare().state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
        record = {"step": self.step, "seconds": self.seconds, "history": self.history}
        write_checkpoint(folder, tensors, record)
        with atomic_path(folder / "weights.safetensors") as part:
            save_file(
                {k: v.half().contiguous().cpu() for k, v in self.average.state_dict().items()},
                part,
                self.task.metadata(),
            )
        write_json(folder / "history.json", {**self.provenance(), "history": self.history})

    def restore(self, folder: Path) -> None:
        """Takes up what ``save`` wrote.

        Raises:
            UserError: there is nothing, or it is damaged or of another network.
        """
        tensors, record = read_checkpoint(folder)
        try:
            for name, network in (("network", self.bare()), ("average", self.average)):
                part = {
                    k.removeprefix(f"{name}."): v
                    for k, v in tensors.items()
                    if k.startswith(f"{name}.")
                }
                network.load_state_dict(part)
            state = self.optimizer.state_dict()
            for key, value in tensors.items():
                kind, _, rest = key.partition(".")
                if kind == "optimizer":
                    slot, _, entry = rest.partition(".")
                    state["state"].setdefault(int(slot), {})[entry] = value
            self.optimizer.load_state_dict(state)
            self.step, self.seconds, self.history = (
                record["step"],
                record["seconds"],
                record["history"],
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"the state in {folder} is of another network ({error}); train without --resume"
            ) from error

    def provenance(self) -> dict[str, Any]:
        """What a model card wants to know."""
        return {
            "steps": self.step,
            "seconds": round(self.seconds),
            "samples": self.step * self.options.batch * self.accelerator.num_processes,
            "device": torch.cuda.get_device_name()
            if torch.cuda.is_available()
            else platform.processor() or platform.machine(),
            "processes": self.accelerator.num_processes,
            "parameters": sum(p.numel() for p in self.average.parameters()),
            "options": to_record(self.options),
        }


def _groups(network: nn.Module, fan_in: int) -> list[dict[str, Any]]:
    """Every parameter with the share of the rate that it learns at.

    In the network's order, so that a saved state fits any.
    """

    def share(parameter: nn.Parameter) -> float:
        wide = fan_in and parameter.dim() > 1
        return min(1.0, fan_in / parameter[0].numel()) if wide else 1.0

    return [
        {"params": [parameter], "share": share(parameter)} for parameter in network.parameters()
    ]


def draw(options: TrainOptions, step: int, count: int) -> list[tuple[int, int]]:
    """Draws the (number of a sample, seed) pairs of a step."""
    generator = torch.Generator().manual_seed((options.seed * 1_000_003 + step) % 2**63)
    numbers = torch.randint(options.known_samples(step), (count,), generator=generator).tolist()
    seeds = torch.randint(2**62, (count,), generator=generator).tolist()
    return list(zip(numbers, seeds, strict=True))


def train(options: TrainOptions, task: TrainTask) -> Path:
    """Trains and leaves weights, state, curves and pictures in ``options.out``.

    Raises:
        UserError: something is absent or wrong; the sentence says what to do.
        Interrupted: Ctrl-C; the state is saved.
    """
    set_threads(options.threads)
    if options.threads:
        torch.set_num_threads(options.threads)
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(options, task)
    if options.resume:
        trainer.restore(folder)
    main = trainer.accelerator.is_main_process
    began, saved = time.monotonic() - trainer.seconds, time.monotonic()
    bar = tqdm(
        total=options.steps,
        initial=trainer.step,
        desc=options.model,
        unit="step",
        dynamic_ncols=True,
        disable=not main,
    )
    own = _own_folder(folder) if main else nullcontext()
    with own, _samples_ahead(options, task, main), interruptible() as interrupted, bar:
        while trainer.step < options.steps:
            losses = trainer.advance()
            trainer.seconds = time.monotonic() - began
            bar.set_postfix_str(
                ", ".join(f"{name} {value:.4f}" for name, value in losses.items()), refresh=False
            )
            bar.update()
            row: dict[str, float] = {
                "step": trainer.step,
                "seconds": round(trainer.seconds, 1),
                **losses,
            }
            if trainer.step % options.measure_every == 0 or trainer.step == options.steps:
                if main:
                    row |= task.measure(trainer.average, folder, trainer.step)
                trainer.accelerator.wait_for_everyone()
            trainer.history.append(row)
            if interrupted() or time.monotonic() - saved > options.checkpoint_seconds:
                trainer.save(folder)
                saved = time.monotonic()
            if interrupted():
                raise Interrupted
        trainer.save(folder)
    write_curves(folder)
    return folder


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes out of the folder, and lists what is about to be made in it."""
    with one_writer(
        folder / ".lock",
        f"{folder} is being written by another process; wait for it, or choose another --out",
    ):
        if (folder / INDEX).exists():  # begun before folders had lists
            adopt(folder, "|".join((*map(re.escape, RESULTS), FOLDER)))
        claim(*(folder / name for name in RESULTS))
        yield


@contextmanager
def _samples_ahead(options: TrainOptions, task: TrainTask, main: bool) -> Iterator[None]:
    """Has other processes make the samples that are not kept yet, in the order of their use."""
    if not main or not options.workers:
        yield
        return
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        store = task.store
        missing = [
            n for n in range(options.known_samples(options.steps)) if not store.path(n).is_file()
        ]
        for number in missing:
            pool.submit(store.prepare, number)
        try:
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _accelerator(options: TrainOptions) -> Accelerator:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise UserError(
            "training needs the package accelerate; run: pip install 'gs4d[train]'"
        ) from None
    AcceleratorState._reset_state()  # it keeps the first precision that a process asked for
    cuda = torch.cuda.is_available()
    precision = options.precision
    if precision == "auto":
        able = (
            torch.cuda.is_bf16_supported()
            if cuda
            else torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        )
        precision = "bf16" if able else "no"
    return Accelerator(cpu=not cuda, mixed_precision=precision)


def write_curves(folder: Path) -> None:
    """Draws the curves of ``history.json`` as ``curves.png``."""
    from matplotlib.figure import Figure

    history = json.loads((folder / "history.json").read_text())["history"]
    names = [
        name
        for name in dict.fromkeys(k for row in history for k in row)
        if name not in ("step", "seconds")
    ]
    columns = min(3, len(names))
    figure = Figure(
        figsize=(4 * columns, 2.6 * math.ceil(len(names) / columns)), layout="constrained"
    )
    for i, name in enumerate(names):
        axes = figure.add_subplot(math.ceil(len(names) / columns), columns, i + 1)
        rows = [(row["step"], row[name]) for row in history if name in row]
        window = max(len(rows) // 100, 1)
        groups = [rows[k : k + window] for k in range(0, len(rows), window)]
        axes.plot([g[-1][0] for g in groups], [sum(v for _, v in g) / len(g) for g in groups])
        axes.set_title(name)
        axes.set_xlabel("step")
    with atomic_path(folder / "curves.png") as part:
        figure.savefig(part, format="png", dpi=90)
