"""Networks that cut an object out of a natural background, from local files only.

A matting model is a function from a picture to alpha in [0, 1]; SAM 2 remembers the frames that it
has seen, so they must come in order. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from ..errors import UserError

Matting = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "h w"]]
IMAGENET_MEAN, IMAGENET_STD = (
    np.array([0.485, 0.456, 0.406], np.float32),
    np.array([0.229, 0.224, 0.225], np.float32),
)
HALF, ONE = np.full(3, 0.5, np.float32), np.ones(3, np.float32)


def load_matting(path: Path, point: tuple[float, float] | None = None) -> Matting:
    """Opens a matting model: an .onnx file as of rembg, or the folder of a SAM 2 checkpoint.

    Args:
        path: the file or folder.
        point: where the object is in the first frame, as fractions of width and height; only SAM 2
            can be told.

    Raises:
        UserError: it is absent, is neither, or a package is missing.
    """
    if path.is_dir():
        return Sam2Matting(path, point)
    if not path.is_file():
        raise UserError(
            f"--matting {path} does not exist; give an .onnx file or the folder of a SAM 2 "
            "checkpoint"
        )
    if point is not None:
        raise UserError(
            f"--point only means something to SAM 2, and {path} is a file; leave it out"
        )
    return OnnxMatting(path)


class OnnxMatting:
    """One picture at a time through a salient-object network.

    The conventions are those of rembg's models.

    u2net, u2netp, u2net_human_seg and silueta see 320x320 pixels, divided by the largest value,
    with ImageNet's mean and deviation; isnet and RMBG see 1024x1024 with mean 0.5 and deviation 1;
    BiRefNet sees 1024x1024 with ImageNet's and gives logits.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f'reading {path} needs onnxruntime; install it with: pip install "gs4d[matting]"'
            ) from error
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"]
            )
        except (
            Exception
        ) as error:  # onnxruntime has no common class for what can be wrong with a file
            why = str(error).splitlines()[0][:200]
            raise UserError(
                f"{path} is not an intact ONNX model ({why}); download it again"
            ) from error
        shape: list[Any] = self.session.get_inputs()[0].shape
        if (
            len(shape) != 4
            or (isinstance(shape[1], int) and shape[1] != 3)
            or len(self.session.get_inputs()) != 1
        ):
            raise UserError(
                f"{path} takes an input of shape {shape}, not one RGB picture; give a matting "
                "model such as u2net.onnx"
            )
        self.path = path
        small = path.stem.lower().startswith(("u2net", "silueta"))
        self.size = (
            shape[2] if isinstance(shape[2], int) and shape[2] > 0 else 320 if small else 1024
        )
        self.logits = "birefnet" in path.stem.lower()
        imagenet = self.size <= 512 or self.logits
        self.mean, self.std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else (HALF, ONE)

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Alpha of one picture."""
        small = Image.fromarray(image).resize((self.size, self.size), Image.Resampling.LANCZOS)
        values = np.asarray(small, np.float32)
        values = (values / max(float(values.max()), 1e-6) - self.mean) / self.std
        name = self.session.get_inputs()[0].name
        out = np.asarray(
            self.session.run(None, {name: values.transpose(2, 0, 1)[None].astype(np.float32)})[0],
            np.float32,
        )
        if out.ndim != 4 or out.shape[0] != 1 or not np.isfinite(out).all():
            raise UserError(
                f"{self.path} gives an output of shape {out.shape}, not a mask; give a matting "
                "model such as u2net.onnx"
            )
        mask = out[0, 0]
        if self.logits:
            mask = 1 / (1 + np.exp(-mask))
        low, high = float(mask.min()), float(mask.max())
        mask = (mask - low) / max(high - low, 1e-6)
        size = (image.shape[1], image.shape[0])
        return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.LANCZOS)).clip(0, 1)


class Sam2Matting:
    """SAM 2 (Ravi et al. 2024) follows one object through a video, frame by frame.

    It is told the object in the first frame by a box and a point: the given point, or what stands
    out from the colours at the border of that frame.
    """

    def __init__(self, folder: Path, point: tuple[float, float] | None) -> None:
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{folder} holds no config.json; give the folder of a SAM 2 checkpoint as "
                "transformers keeps it"
            )
        try:
            from transformers import Sam2VideoModel
            from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
        except ImportError as error:
            raise UserError(
                f"reading {folder} needs transformers 5; install it with: "
                'pip install "gs4d[matting]"'
            ) from error
        try:
            self.model: Any = Sam2VideoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{folder} is not an intact SAM 2 checkpoint ({why}); download it again"
            ) from error
        self.side: int = self.model.config.vision_config.backbone_config.image_size[0]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.session: Any = Sam2VideoInferenceSession(
            inference_device=self.device, dtype=torch.float32
        )
        self.memory = max(
            self.model.config.num_maskmem, self.model.config.max_object_pointers_in_encoder
        )
        self.point, self.frame = point, 0

    @torch.no_grad()
    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Alpha of the next frame."""
        height, width = image.shape[:2]
        small = (
            np.asarray(
                Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BILINEAR),
                np.float32,
            )
            / 255
        )
        pixels = torch.from_numpy((small - IMAGENET_MEAN) / IMAGENET_STD).permute(2, 0, 1)[None]
        if self.frame == 0:
            self.session.video_height, self.session.video_width = height, width
            self._prompt(image)
        out = self.model(
            inference_session=self.session, frame=pixels.to(self.device), frame_idx=self.frame
        )
        # Its memory reaches back that many frames; it would keep them all.
        self.session.processed_frames.pop(self.frame)
        self.session.output_dict_per_obj[0]["non_cond_frame_outputs"].pop(
            self.frame - self.memory, None
        )
        self.frame += 1
        logits = torch.nn.functional.interpolate(
            out.pred_masks.float(), (height, width), mode="bilinear", align_corners=False
        )
        return np.asarray(torch.sigmoid(logits[0, 0]).cpu().numpy(), np.float32)

    def _prompt(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        if self.point is not None:
            points, labels = [list(self.point)], [1]
        else:
            x, y, left, top, right, bottom = salient_box(image)
            # SAM's labels: corners of a box, and a click
            points, labels = ([[left, top], [right, bottom], [x, y]], [2, 3, 1])
        index = self.session.obj_id_to_idx(1)
        inputs = {
            "point_coords": torch.tensor(points, dtype=torch.float32)[None, None] * self.side,
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }
        self.session.add_point_inputs(index, 0, inputs)
        self.session.obj_with_new_inputs = [1]


def salient_box(
    image: UInt8[np.ndarray, "h w 3"],
) -> tuple[float, float, float, float, float, float]:
    """A point in what stands out from the border's colours, and its box.

    X, y, left, top, right, bottom as fractions.

    The border is summed up by 12 colours; a pixel stands out by its distance to the nearest of
    them. When nothing does, the middle is taken.
    """
    small = np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BOX))
    ring = np.ones((96, 96), bool)
    ring[4:-4, 4:-4] = False
    palette = (
        Image.fromarray(small[ring][None]).quantize(12, Image.Quantize.MEDIANCUT).getpalette() or []
    )
    colors = np.array(palette[:36], np.float32).reshape(-1, 3)
    distance = np.linalg.norm(small[..., None, :].astype(np.float32) - colors, axis=-1).min(-1)
    distance = np.asarray(ndimage.gaussian_filter(distance, 1.5))
    labels: np.ndarray
    labels, count = ndimage.label(distance > max(20.0, 0.5 * float(np.percentile(distance, 98))))  # type: ignore[misc]
    if not count:
        return 0.5, 0.5, 0.15, 0.15, 0.85, 0.85
    area = np.bincount(labels.ravel())
    area[0] = 0
    part = labels == area.argmax()
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(part, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    rows, columns = np.nonzero(part)
    corners = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    left, top, right, bottom = (float(c) / 96 for c in corners)
    return float(x + 0.5) / 96, float(y + 0.5) / 96, left, top, right, bottom
