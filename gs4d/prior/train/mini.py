"""Training of ``mini``: from frames and a plainer prior's renders of them to the true views."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import zstandard
from jaxtyping import UInt8
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from ...clip import Orbit, over_white, premultiply
from ...errors import UserError
from ...io.files import atomic_path
from ...io.images import to_bytes
from ...metrics.image import inside, mask_iou, psnr, psnr_inside
from .. import ViewPrior, open_prior
from ..mini import BASES, Mini, Networks, noises, save_folder, told, untold
from ..mini_net import NOTHING, MiniTransformer, linear_guess
from ..networks import Place
from ..sampling import Sampling
from .lift import HELD_OUT, augment
from .solid_samples import VIEWS, SolidSampleStore, halved, view_orbits

HELD_OUT_COUNT = 4
MODEL = "model"  # folder that opens as mini:FOLDER

TARGETS = 4  # views per example
MOVING = 0.25  # share of the examples in which cameras move while time goes on
# shares of the examples that are not told these
ALL_UNTOLD, RENDER_UNTOLD, MOTION_UNTOLD = (0.08, 0.08, 0.1)
SAME_NOISE = (
    0.5  # share of the examples whose frames all have the same noise, as when views are drawn
)


@dataclass(frozen=True)
class Album:
    """A sample's object from all around, and what the plainer prior renders of it.

    Attributes:
        orbits: cameras: the sample's source, then its views.
        pictures: what they see, straight alpha.
        renders: what the plainer prior shows them of the pictures of each of two of them.
        inputs: which two.
    """

    orbits: list[Orbit]
    pictures: UInt8[Tensor, "v t h w 4"]
    renders: UInt8[Tensor, "2 v t h w 4"]
    inputs: tuple[int, int]


@dataclass
class MiniTask:
    """Lessons for mini; a sample is some views of a clip, with noise.

    Attributes:
        store: where samples come from.
        base: the plainer prior, "inflate", "lift" or "lift:FILE".
        folder: where its renders are kept.
        shape: arguments of the network, where they are not its own.
    """

    store: SolidSampleStore
    base: str
    folder: Path
    shape: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.base.partition(":")[0] not in BASES:
            raise UserError(
                f"--base is '{self.base}'; mini draws anew what one of these renders: "
                f"{', '.join(BASES)}"
            )
        self._prior: ViewPrior = open_prior(self.base, "views")
        self._kept = self.folder / f"{self.base.partition(':')[0]}{_fingerprint(self._prior)}"
        self._alphas_cumprod = noises().alphas_cumprod

    def network(self) -> MiniTransformer:
        """A network that has learnt nothing."""
        return MiniTransformer(**self.shape)

    def metadata(self) -> dict[str, str]:
        """The network's sizes; a folder that opens by itself is written when it is measured."""
        return {"shape": json.dumps(self.shape)}

    def album(self, number: int) -> Album:
        """The album of a sample: read where it was kept, else made and kept."""
        path = self._kept / f"{number:07d}.zst"
        if not path.is_file():
            with atomic_path(path) as part:
                part.write_bytes(
                    zstandard.compress(_pack(make_album(self.store, number, self._prior)), 1)
                )
        return _unpack(zstandard.decompress(path.read_bytes()))

    def example(self, number: int, seed: int) -> dict[str, Tensor]:
        """Returns a sample's clean views, noise and conditions, all drawn from ``seed``."""
        album, draw = self.album(number), torch.Generator().manual_seed(seed)
        frames = album.pictures.shape[1]

        def chance(share: float) -> bool:
            return float(torch.rand((), generator=draw)) < share

        # 1. Which of the two inputs, and which cameras.
        which = int(torch.randint(2, (), generator=draw))
        if chance(MOVING):
            first, way = torch.randint(VIEWS, (TARGETS, 1), generator=draw), torch.tensor([-1, 1])
            places = (
                1
                + (
                    first
                    + way[torch.randint(2, (TARGETS, 1), generator=draw)] * torch.arange(frames)
                )
                % VIEWS
            )
        else:
            places = torch.randperm(len(album.orbits), generator=draw)[:TARGETS, None].expand(
                -1, frames
            )
        times = torch.arange(frames)

        # 2. Pictures, changed as those of a video might be.
        truth, rendered = (
            premultiply(some[places, times]).transpose(0, 1)
            for some in (album.pictures, album.renders[which])
        )
        both = torch.cat([truth, rendered], 1)
        straight = (both[..., :3] / both[..., 3:].clamp_min(1 / 255)).clamp(0, 1)
        source, colors = augment(premultiply(album.pictures[album.inputs[which]]), draw, straight)
        both = torch.cat([colors * both[..., 3:], both[..., 3:]], -1).permute(1, 0, 4, 2, 3) * 2 - 1
        source = source.movedim(-1, 1) * 2 - 1
        orbits, here = album.orbits, album.orbits[album.inputs[which]]
        if chance(0.5):  # seen in a mirror
            both, source = both.flip(-1), source.flip(-1)
            orbits, here = [_mirrored(orbit) for orbit in orbits], _mirrored(here)
        clean, rendered = both.chunk(2)
        condition = told(
            source, rendered, here, [[orbits[place] for place in path] for path in places.tolist()]
        )

        # 3. What is kept from the network.
        if chance(ALL_UNTOLD):
            condition = untold(condition)
        elif chance(RENDER_UNTOLD):
            condition["rendered"] = torch.full_like(rendered, NOTHING)
        if chance(MOTION_UNTOLD):
            condition["motion"] = torch.full_like(condition["motion"], NOTHING)

        # 4. Noise, more often much than little: little is for the plainer prior's detail.
        t = int(len(self._alphas_cumprod) * float(torch.rand((), generator=draw)) ** 0.5)
        noise = torch.randn(clean.shape, generator=draw)
        if chance(SAME_NOISE):
            noise = noise[:, :1].expand(clean.shape)
        return {**condition, "clean": clean, "noise": noise, "abar": self._alphas_cumprod[t]}

    def loss(self, network: Any, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Returns the error in deviations that the noise leaves (Karras et al. 2022, table 1)."""
        names = ("rendered", "source", "rays", "motion")
        clean, abar = batch["clean"], batch["abar"]
        spread = abar.view(-1, 1, 1, 1, 1, 1)
        noisy = spread.sqrt() * clean + (1 - spread).sqrt() * batch["noise"]
        answer = network(noisy, abar, **{name: batch[name] for name in names})
        _, rest = linear_guess(noisy, abar, batch["rendered"])
        error = answer.float() - clean
        return {"loss": (error / rest).square().mean(), "picture": error.square().mean()}

    def measure(self, network: Any, folder: Path, step: int) -> dict[str, float]:
        """Scores views of held-out samples and the plainer prior's renders against the truth.

        Leaves the network as ``model`` in ``folder``, and pictures: drawn, rendered, true.
        """
        save_folder(folder / MODEL, network, self.base.partition(":")[0])
        place = Place(device=str(network.place.device), dtype="float32")
        mini = Mini(Networks(network, noises(), self._prior), place, Sampling(), str(folder))
        scores: dict[str, list[list[float]]] = {"drawn": [], "rendered": []}
        sheet = []
        for number in range(HELD_OUT, HELD_OUT + HELD_OUT_COUNT):
            album = self.album(number)
            views = range(3, VIEWS)  # all but those close to the source
            orbits = [album.orbits[v] for v in views]
            drawn = mini.views(
                album.pictures[0], album.orbits[0], orbits, torch.Generator().manual_seed(0)
            ).images
            pictures = {"drawn": drawn, "rendered": album.renders[0, views]}
            truth, coverage = over_white(album.pictures[views])
            for name, images in pictures.items():
                rgb, alpha = over_white(images)
                for i in range(len(views)):
                    for t in range(images.shape[1]):
                        mask = inside(alpha[i, t, ..., 0], coverage[i, t, ..., 0])
                        row = (
                            psnr(rgb[i, t], truth[i, t]),
                            psnr_inside(rgb[i, t], truth[i, t], mask),
                        )
                        scores[name].append(
                            [
                                float(v)
                                for v in (
                                    *row,
                                    mask_iou(alpha[i, t, ..., 0], coverage[i, t, ..., 0]),
                                )
                            ]
                        )
                sheet.append(torch.cat(list(rgb[::2, 0]), 1))
            sheet.append(torch.cat(list(truth[::2, 0]), 1))
        with atomic_path(folder / f"held_out_{step:06d}.png") as part:
            Image.fromarray(to_bytes(torch.cat(sheet[:18]))).save(part)
        means = {name: torch.tensor(rows).nanmean(0).tolist() for name, rows in scores.items()}
        names = ("psnr", "psnr_inside", "iou")
        return {
            **dict(zip(names, means["drawn"], strict=True)),
            **dict(zip((f"rendered_{name}" for name in names), means["rendered"], strict=True)),
        }


def make_album(store: SolidSampleStore, number: int, prior: ViewPrior) -> Album:
    """Makes the album of a sample; its second input is one of the views."""
    sample = store.sample(number)
    orbits = [sample.source, *view_orbits(sample.source)]
    pictures = torch.cat([halved(premultiply(sample.frames))[None], sample.views])
    inputs = (0, 1 + int(torch.randint(VIEWS, (), generator=torch.Generator().manual_seed(number))))
    renders = [
        prior.views(pictures[i], orbits[i], orbits, torch.Generator().manual_seed(number)).images
        for i in inputs
    ]
    return Album(orbits, pictures, torch.stack(renders), inputs)


def _fingerprint(prior: ViewPrior) -> str:
    """Of a prior's weights, where it has any: their renders are kept apart."""
    network = getattr(prior, "network", None)
    if network is None:
        return ""
    sums = [
        blake2b(value.numpy().tobytes(), digest_size=8).digest()
        for value in network.state_dict().values()
    ]
    return f"_{blake2b(b''.join(sums), digest_size=4).hexdigest()}"


def _mirrored(orbit: Orbit) -> Orbit:
    return replace(orbit, azimuth=-orbit.azimuth)


def _pack(album: Album) -> bytes:
    orbits = torch.tensor(
        [[o.azimuth, o.elevation, o.radius, o.fov] for o in album.orbits], dtype=torch.float64
    )
    inputs = torch.tensor(album.inputs)
    return save(
        {"orbits": orbits, "pictures": album.pictures, "renders": album.renders, "inputs": inputs}
    )


def _unpack(data: bytes) -> Album:
    found = load(data)
    first, second = found["inputs"].tolist()
    return Album(
        [Orbit(*row) for row in found["orbits"].tolist()],
        found["pictures"],
        found["renders"],
        (first, second),
    )
