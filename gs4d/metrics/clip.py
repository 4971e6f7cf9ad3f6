"""What CLIP (Radford et al. 2021) sees.

Likeness of a render to its truth, and of every frame to the next.

Three numbers that papers call "CLIP", named apart:

- ``clip_i``: cosine of render and truth, higher is better (the "CLIP" of Consistent4D's script and
  of the tables after it).
- ``clip_t_4dgen``: spherical distance of consecutive frames, lower is better (the "CLIP-T" of
  4DGen).
- ``clip_t_cosine``: cosine of consecutive frames, higher is better.

The last two cannot tell a steady video from a frozen one: read them beside the motion amount.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, for colours in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipEmbedder(nn.Module):
    """The image half of a CLIP model."""

    def __init__(self, vision: nn.Module, projection: nn.Module, side: int) -> None:
        super().__init__()
        self.vision, self.projection, self.side = vision, projection, side

    @torch.inference_mode()
    def forward(self, pictures: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b d"]:
        """Unit embeddings of pictures with colours in [0, 1].

        As CLIP's own preparation: the shorter side is scaled to the network's (antialiased
        bicubic), the centre cut out.
        """
        x = pictures.movedim(-1, 1).float()
        scale = self.side / min(x.shape[2:])
        size = [max(self.side, int(length * scale)) for length in x.shape[2:]]
        x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = ((length - self.side) // 2 for length in size)
        x = x[:, :, top : top + self.side, left : left + self.side]
        x = (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]
        return F.normalize(self.projection(self.vision(pixel_values=x).pooler_output), dim=-1)


def load_clip(source: str, *, allow_download: bool = False) -> ClipEmbedder:
    """Loads a CLIP model from a local folder, or by its hub id from the local cache.

    Args:
        source: a folder written by ``save_pretrained``, or an id such as
            ``openai/clip-vit-base-patch32`` (Consistent4D's) or
            ``laion/CLIP-ViT-B-32-laion2B-s34B-b79K`` (4DGen's).
        allow_download: fetch a hub id that is not in the cache.

    Raises:
        UserError: transformers is not installed, or the model is not there.
    """
    try:
        from transformers import CLIPModel
    except ImportError as error:
        raise UserError(
            "CLIP needs transformers; install it with: pip install 'gs4d[metrics]'"
        ) from error
    try:
        model = CLIPModel.from_pretrained(source, local_files_only=not allow_download)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no CLIP model in '{source}' ({str(error).splitlines()[0]}); give a folder written by "
            "save_pretrained, "
            "or allow the download of a hub id"
        ) from error
    side = model.vision_model.embeddings.image_size
    assert isinstance(side, int)
    embedder = ClipEmbedder(model.vision_model, model.visual_projection, side)
    return embedder.eval().requires_grad_(False)


def cosine(a: Float[Tensor, "*b d"], b: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """Cosine of unit embeddings, in [-1, 1]."""
    return (a * b).sum(-1).clamp(-1, 1)


def spherical_distance(a: Float[Tensor, "*b d"], b: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """Half the squared angle between unit embeddings, 2 asin(|a - b| / 2)^2 (4DGen's evaluation).

    0 to pi^2 / 2.
    """
    return 2 * ((a - b).norm(dim=-1) / 2).clamp(max=1).asin().square()
