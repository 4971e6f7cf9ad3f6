"""RIFE (Huang et al. 2022), as Practical-RIFE's versions 4.2 to 4.26.

Finds what lies between two frames.

It is what Consistent4D interpolates with. Read from the ``flownet.pkl`` of a model's folder, whose
names and shapes say which version it is (see ``rife_net``). Nothing was copied from the published
code (MIT), and it was never run with published weights, which could not be had where this was made.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..io.weights import read_weights
from .catalogue import licence_of
from .flow import sample
from .models import find_model
from .networks import Place
from .rife_net import IFNet, layout_of
from .sampling import fill_exactly

SUFFIXES = (".pkl", ".pth", ".safetensors")  # of the authors, ComfyUI's users and the hub
# Parts that published files may hold and this use of them does not need: training's, and the
# refinement of 4.2 and 4.3, which the authors switch off ("fastmode").
UNUSED = ("teacher.", "caltime.", "contextnet.", "unet.", "block_tea.")
ADVICE = "give a flownet.pkl of Practical-RIFE 4.2 to 4.26 (docs/priors.md lists where they are)"


class Rife:
    """An ``Interpolator``."""

    def __init__(self, network: IFNet, place: Place, where: str) -> None:
        """Puts the network in its place."""
        self.network, self.device = network.to(place.torch_device()), place.torch_device()
        self.weights = [{"name": f"rife:{where}", "licence": licence_of("rife")}]

    def middle(
        self, a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]
    ) -> Float[Tensor, "b h w c"]:
        """See ``Interpolator``. The first three channels are seen; all are moved and mixed alike.

        Motion and mixing are held constant: gradients go to the colours of ``a`` and ``b`` alone.
        """
        x, y = (frames.movedim(-1, 1).contiguous().to(self.device) for frames in (a, b))
        h, w = x.shape[2:]
        with torch.no_grad():
            multiple = self.network.layout.multiple
            padding = (0, -w % multiple, 0, -h % multiple)
            padded = [
                F.pad(frames[:, :3].clamp(0, 1), padding, mode="replicate") for frames in (x, y)
            ]
            flow, mixing = (found[:, :, :h, :w] for found in self.network(*padded))
        moved = torch.lerp(sample(y, flow[:, 2:]), sample(x, flow[:, :2]), mixing)
        return moved.movedim(1, -1).to(a.device)


def open_rife(where: str, place: Place, sampling: None = None) -> Rife:
    """Opens RIFE of a file, of the folder that has one, or of a hub model that has one.

    Raises:
        UserError: it is not there, damaged, of another version, or something else.
    """
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    path = find_model(where, family="rife", licence=licence_of("rife"), patterns=patterns)
    network = load_rife(_file_in(path) if path.is_dir() else path)
    print(f"interpolator rife from {where}; licence of the weights: {licence_of('rife')}")
    return Rife(network, place, where)


def _file_in(folder: Path) -> Path:
    """The one file of weights below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    files = [path for path in files if path.name.startswith("flownet")] or files
    if len(files) != 1:
        found = f"holds {len(files)} files of weights; name one" if files else "has no flownet.pkl"
        raise UserError(f"{folder} {found}; {ADVICE}")
    return files[0]


def load_rife(path: Path) -> IFNet:
    """The network of a ``flownet.pkl``, frozen; its version follows from its tensors.

    Raises:
        UserError: the file is damaged, holds more than tensors, or another network.
    """
    weights = {name.removeprefix("module."): value for name, value in read_weights(path).items()}
    weights = {
        name: value.float() for name, value in weights.items() if not name.startswith(UNUSED)
    }
    if "block0.conv0.0.1.weight" in weights:
        raise UserError(f"{path} is RIFE 4.1 or older, which is not supported; {ADVICE}")
    try:
        layout = layout_of({name: value.shape for name, value in weights.items()})
    except (KeyError, IndexError, ValueError, StopIteration, ZeroDivisionError) as error:
        raise UserError(f"{path} is another network than RIFE 4.2 to 4.26; {ADVICE}") from error
    with torch.device("meta"):
        network = IFNet(layout)
    return fill_exactly(network, weights, str(path), "network of RIFE")
