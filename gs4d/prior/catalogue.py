"""The one table of the families of priors: what each does, who opens it, licence, size, weights.

A new family is one file beside this one and one row here.

Sizes are numbers of parameters of the published networks, counted on the meta device from their
published shapes (``tests/test_doctor.py`` counts them again); those of the models of pictures and
videos were not counted: they follow what is publicly said of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UserError, nearest

Task = Literal["views", "score", "middle", "video", "image"]
TASKS: dict[Task, str] = {
    "views": "draw the views of a clip",
    "score": "judge pictures",
    "middle": "find what lies between frames",
    "video": "turn a picture into a video",
    "image": "draw a picture of a sentence",
}
LIFT_WEIGHTS = Path(__file__).parent / "weights" / "lift.safetensors"  # they come with gs4d

# UNet, autoencoder, CLIP's vision, camera projection
ZERO123 = 859_532_484 + 83_653_863 + 303_966_208 + 593_664
# UNet, autoencoder, CLIP's vision and text
ZERO123PLUS = 865_910_724 + 83_653_863 + 632_076_800 + 340_387_840
MVDREAM = 867_572_164 + 83_653_863 + 340_387_840  # UNet, autoencoder, CLIP's text
# UNet, autoencoder, CLIP's text and vision
IMAGEDREAM = 941_672_900 + 83_653_863 + 340_387_840 + 630_766_080
# UNet, volume, autoencoder, CLIP's vision, rest
SYNCDREAMER = 916_853_956 + 48_567_552 + 83_653_863 + 303_966_208 + 725_248
RIFE = 5_306_256  # of version 4.6; the others have 2.6 to 22 million
LIFT = 6_584_528
T5 = 4_760_000_000  # T5-XXL, the encoder of two of the models of videos
SVD = 1_520_000_000 + 630_000_000 + 100_000_000  # UNet, CLIP's vision, autoencoder
# of 14B: transformer, UMT5-XXL, CLIP's vision, autoencoder
WAN = 16_400_000_000 + 5_680_000_000 + 630_000_000 + 130_000_000
LTX = 1_920_000_000 + T5 + 420_000_000  # of 2B: transformer, text, autoencoder
COGVIDEOX = 5_570_000_000 + T5 + 220_000_000  # of 5B: transformer, text, autoencoder
# UNet, both text encoders, autoencoder
SDXL = 2_567_463_684 + 123_060_480 + 694_659_840 + 83_653_863


@dataclass(frozen=True)
class Family:
    """One row.

    Attributes:
        title: what people call it.
        module: file beside this one.
        opener: function in it: (where the weights are, place, how it draws) -> the prior.
        tasks: what it does.
        licence: of its weights; of gs4d itself for what has none.
        parameters: of all its networks together; 0: it has none; None: that depends on the model
            which is named.
        hub: ids of its weights on the Hugging Face hub, the first of which is fetched when none is
            named.
        source: where they are when they are on no hub.
        file: where they are when they come with gs4d.
        share: longer side of the object in the frames that its authors show it; None: it takes
            frames as they are.
    """

    title: str
    module: str
    opener: str
    tasks: tuple[Task, ...]
    licence: str
    parameters: int | None = 0
    hub: tuple[str, ...] = ()
    source: str = ""
    file: Path | None = None
    share: float | None = None

    def how_to_get(self, name: str) -> str:
        """The line that fetches the weights, or where they are.

        Empty for a family that has none.
        """
        return (
            f"hf download {self.hub[0]}"
            if self.hub
            else self.source and f"{self.source}; then {name}:PATH"
        )


OWN = "Apache-2.0: part of gs4d, no weights"
OPENRAIL = "CreativeML Open RAIL-M"
FAMILIES = {
    "inflate": Family("inflate", "inflate", "open_inflate", ("views",), OWN),
    "lift": Family(
        "lift",
        "lift",
        "open_lift",
        ("views",),
        "Apache-2.0: part of gs4d",
        LIFT,
        source="this copy of gs4d came without them; train your own: python -m gs4d.prior.train "
        "--model lift",
        file=LIFT_WEIGHTS,
    ),
    "mini": Family(
        "mini",
        "mini",
        "open_mini",
        ("views", "score"),
        "Apache-2.0: part of gs4d",
        None,
        source="train your own: python -m gs4d.prior.train --model mini",
    ),
    "zero123": Family(
        "Zero123, Zero123-XL",
        "zero123",
        "open_zero123",
        ("views", "score"),
        f"MIT (Columbia University); its base Stable Diffusion is under {OPENRAIL}",
        ZERO123,
        (
            "ashawkey/zero123-xl-diffusers",
            "bennyguo/zero123-xl-diffusers",
            "bennyguo/zero123-diffusers",
            "kxic/zero123-xl",
            "kxic/zero123-105000",
            "kxic/zero123-165000",
            "cvlab/zero123-weights",
        ),
        share=200 / 256,  # zero123/ldm/util.py, load_and_preprocess
    ),
    "stable-zero123": Family(
        "Stable Zero123",
        "zero123",
        "open_stable_zero123",
        ("views", "score"),
        "Stability AI non-commercial research community licence: no commercial use "
        "(stable_zero123_c: its community licence)",
        ZERO123,
        ("ashawkey/stable-zero123-diffusers", "stabilityai/stable-zero123"),
        share=200 / 256,  # trained as Zero123-XL was
    ),
    "zero123plus": Family(
        "Zero123++ v1.1",
        "zero123plus",
        "open_zero123plus",
        ("views",),
        "CC BY-NC 4.0: no commercial use (weights), Apache-2.0 (code)",
        ZERO123PLUS,
        ("sudo-ai/zero123plus-v1.1",),
        share=0.75,  # gradio_app.py, preprocess: "Rescale"
    ),
    "zero123plus-1.2": Family(
        "Zero123++ v1.2",
        "zero123plus",
        "open_zero123plus_1_2",
        ("views",),
        "CC BY-NC 4.0: no commercial use (weights), Apache-2.0 (code)",
        ZERO123PLUS,
        ("sudo-ai/zero123plus-v1.2",),
        share=0.75,
    ),
    "mvdream": Family(
        "MVDream",
        "mvdream",
        "open_mvdream",
        ("score",),
        f"{OPENRAIL} (weights), MIT (code)",
        MVDREAM,
        ("ashawkey/mvdream-sd2.1-diffusers",),
    ),
    "imagedream": Family(
        "ImageDream",
        "mvdream",
        "open_imagedream",
        ("views", "score"),
        f"{OPENRAIL} (weights), MIT (MVDream's code)",
        IMAGEDREAM,
        ("ashawkey/imagedream-ipmv-diffusers",),
        share=0.8,  # DreamGaussian, process.py, which feeds it: border_ratio 0.2
    ),
    "syncdreamer": Family(
        "SyncDreamer",
        "syncdreamer",
        "open_syncdreamer",
        ("views",),
        f"MIT (code and weights); its base Zero123 is MIT, Stable Diffusion under {OPENRAIL}",
        SYNCDREAMER,
        source="syncdreamer-pretrain.ckpt by the links in "
        "https://github.com/liuyuan-pal/SyncDreamer",
        share=200 / 256,  # README and ldm/util.py, prepare_inputs: --crop_size 200
    ),
    "flow": Family("optical flow", "flow", "open_flow", ("middle",), OWN),
    "rife": Family(
        "RIFE 4.2 to 4.26",
        "rife",
        "open_rife",
        ("middle",),
        "MIT",
        RIFE,
        source="flownet.pkl of a version from 4.2 on by the links in "
        "https://github.com/hzwer/Practical-RIFE, or one of those among the releases of "
        "https://github.com/HolyWu/vs-rife",
    ),
    "svd": Family(
        "Stable Video Diffusion",
        "video_models",
        "open_svd",
        ("video",),
        "Stability AI Community Licence: free below 1M USD of yearly revenue; older copies "
        "non-commercial",
        SVD,
        ("stabilityai/stable-video-diffusion-img2vid-xt",),
    ),
    "wan": Family(
        "Wan 2.1, 2.2",
        "video_models",
        "open_wan",
        ("video",),
        "Apache-2.0",
        WAN,
        ("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",),
    ),
    "ltx": Family(
        "LTX-Video",
        "video_models",
        "open_ltx",
        ("video",),
        "LTX-Video Open Weights Licence (the first versions: RAIL-M); conditions on commercial use",
        LTX,
        ("Lightricks/LTX-Video",),
    ),
    "cogvideox": Family(
        "CogVideoX (image to video)",
        "video_models",
        "open_cogvideox",
        ("video",),
        "CogVideoX Licence: free for research, commercial use needs registration",
        COGVIDEOX,
        ("THUDM/CogVideoX-5b-I2V",),
    ),
    "sdxl": Family(
        "SDXL 1.0",
        "image_models",
        "open_sdxl",
        ("image",),
        "CreativeML Open RAIL++-M",
        SDXL,
        ("stabilityai/stable-diffusion-xl-base-1.0",),
    ),
    "text2image": Family(
        "other models of pictures",
        "image_models",
        "open_text2image",
        ("image",),
        "as its model card says",
        None,
        source="name a model that reads: Stable Diffusion 1 to 3, SDXL, FLUX.1 or PixArt",
    ),
}


def licence_of(family: str) -> str:
    """Returns the licence of a family's weights."""
    return FAMILIES[family].licence


def default_of(family: str) -> str:
    """Returns the hub id of the weights that are taken when none are named."""
    return FAMILIES[family].hub[0]


def family_of(name: str) -> Family:
    """Returns the row of the family that a prior's name begins with.

    Raises:
        UserError: there is no such family; the sentence names the nearest.
    """
    family = name.partition(":")[0]
    if family not in FAMILIES:
        raise UserError(
            f"no prior is named '{family}'{nearest(family, FAMILIES)}; there are: "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[family]


def able(task: Task) -> tuple[str, ...]:
    """Returns the names of the families that do something."""
    return tuple(name for name, family in FAMILIES.items() if task in family.tasks)
