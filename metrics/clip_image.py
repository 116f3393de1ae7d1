"""CLIP's embeddings of a video's frames, or of what lies in the hole.

A *crop* says what the network sees of a frame:

* ``center``: the frame's shorter side to 224 pixels, then the square in its middle, as CLIP was trained and most evaluations do. Of a
  frame of 480x720 a third is never seen.
* ``cover``: the square at either end of the frame, which together see all of a frame up to twice as long as high; one square, in the
  middle, where the frame is at most a tenth longer than high.
* ``hole_box``: a square around the hole (``vpbench.metrics.hole_box``). A frame whose hole is less than 0.05 % of it is skipped.
* ``masked_center``: ``center`` of the frame painted black outside the hole.
* ``squash``: the whole frame squeezed to a square, bilinear with antialiasing, values from 0 to 1 without CLIP's mean and standard
  deviation; ``masked_squash``: the same, black outside the hole. As TencentARC/VideoPainter ``evaluate/metrics.py`` does for its
  temporal consistency; there too a video whose brightest value is 1 or less (of 255) is not divided by 255.

All but the squashed ones are resized by Pillow's bicubic filter, with antialiasing, and normalised as CLIP was trained. Pixels equal
those of Hugging Face transformers' Pillow processor; ``open_clip`` puts the middle one pixel further where the margin is odd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vpbench import weights
from vpbench.measuring import Comparison, Measure, Network, Part
from vpbench.metrics.batching import batch_size, in_batches
from vpbench.metrics.clip_encoder import SIDE, Precision, load, normalised
from vpbench.metrics.hole_box import crop_square, hole_box
from vpbench.metrics.threads import over_frames

Crop = Literal["center", "cover", "hole_box", "masked_center", "squash", "masked_squash"]
CROPS: tuple[Crop, ...] = get_args(Crop)
SMALLEST_HOLE = 0.0005  # of the frame
NEARLY_SQUARE = 1.1
IMAGES_AT_ONCE = {"clip-vit-b32": 8, "clip-vit-l14": 1}  # on the CPU; one image of ViT-L/14 fills the cores, and its layers the caches
CUDA_BYTES_PER_IMAGE = 64 << 20  # from above, ViT-L/14 in float32


@dataclass(frozen=True)
class ClipImages(Measure):
    """The measure: ``embeddings``, float32 (T, K, D) of length 1, for K squares per frame; nan for frames that are skipped.

    K is 2 for ``cover`` of frames that are not nearly square, otherwise 1.

    Attributes:
        network: ``clip-vit-l14`` or ``clip-vit-b32``.
        source: where its weights come from, see ``vpbench.measuring.Network``.
        crop: what the network sees of a frame, see the module's text.
        precision: ``exact`` (float32) or ``fast`` (bfloat16 on CUDA).
        of: the video that is embedded.
    """

    network: str = "clip-vit-l14"
    source: str = ""
    crop: Crop = "center"
    precision: Precision = "exact"
    of: Literal["prediction", "reference"] = "prediction"

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        resizer = "bilinear01" if self.crop.endswith("squash") else "bicubic"
        return f"clip_images-{weights.label(self.networks[0])}-{self.of}-{self.crop}-{resizer}-{self.precision}-v2"

    @property
    def reads(self) -> frozenset[Part]:
        """One video, and the masks where the crop needs them."""
        parts: set[Part] = {self.of}
        if self.crop in ("hole_box", "masked_center", "masked_squash"):
            parts.add("masks")
        return frozenset(parts)

    @property
    def networks(self) -> tuple[Network, ...]:
        """CLIP."""
        return (Network(self.network, self.source),)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.float32]]:
        """Return the embeddings of one comparison."""
        import torch

        frames = comparison.prediction if self.of == "prediction" else comparison.reference
        masks = comparison.masks
        encoder = load(self.networks[0], comparison.device)
        used = [t for t in range(len(frames)) if self.crop != "hole_box" or masks[t].mean() >= SMALLEST_HOLE]
        squares = len(cover_squares(*frames.shape[1:3])) if self.crop == "cover" else 1
        items = [(t, k) for t in used for k in range(squares)]
        peak = 255.0 if not self.crop.endswith("squash") or frames.max() > 1 else 1.0

        def prepare(item: tuple[int, int]) -> NDArray[Any]:
            frame, mask = frames[item[0]], masks[item[0]]
            if self.crop.endswith("squash"):
                return squashed(frame if self.crop == "squash" else _masked(frame, mask), peak)
            return seen(self.crop, frame, mask, item[1])

        def encode(part: slice) -> NDArray[np.generic]:
            batch = items[part]
            pixels = torch.from_numpy(np.stack(over_frames(lambda i: prepare(batch[i]), len(batch)))).to(comparison.device)
            return encoder.images(pixels if pixels.is_floating_point() else normalised(pixels), self.precision)

        embeddings = np.full((len(frames), squares, encoder.width), np.nan, np.float32)
        if used:
            size = batch_size(comparison.device, IMAGES_AT_ONCE[self.network], CUDA_BYTES_PER_IMAGE)
            embeddings[used] = in_batches(encode, len(items), size).reshape(len(used), squares, -1)
        return {"embeddings": embeddings}


def cover_squares(height: int, width: int) -> list[tuple[int, int, int]]:
    """Return the squares ``(top, left, side)`` that ``cover`` looks at.

    >>> cover_squares(480, 720)
    [(0, 0, 480), (0, 240, 480)]
    >>> cover_squares(240, 260)
    [(0, 10, 240)]
    """
    side, rest = min(height, width), abs(height - width)
    starts = [rest // 2] if max(height, width) <= NEARLY_SQUARE * side else [0, rest]
    return [(0, start, side) if width > height else (start, 0, side) for start in starts]


def seen(crop: Crop, frame: NDArray[np.uint8], mask: NDArray[np.bool_], square: int = 0) -> NDArray[np.uint8]:
    """Return what the network sees of a frame, before CLIP's normalisation.

    Args:
        crop: any but the squashed ones.
        frame: uint8 (H, W, 3) RGB.
        mask: bool (H, W), True = hole; read by ``hole_box`` (which needs a hole) and ``masked_center``.
        square: which one of ``cover``.

    Returns:
        uint8 (224, 224, 3).
    """
    if crop == "cover":
        return _resized(crop_square(frame, cover_squares(*mask.shape)[square]), SIDE, SIDE)
    if crop == "hole_box":
        return _resized(crop_square(frame, hole_box(mask)), SIDE, SIDE)
    if crop == "masked_center":
        frame = _masked(frame, mask)
    shorter = min(mask.shape)
    height, width = (SIDE * size // shorter for size in mask.shape)
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return _resized(frame, height, width)[top : top + SIDE, left : left + SIDE]


def squashed(frame: NDArray[np.uint8], peak: float = 255.0) -> NDArray[np.float32]:
    """Return a frame, uint8 (H, W, 3), divided by ``peak`` and squeezed to float32 (3, 224, 224)."""
    import torch

    image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))).float()[None] / peak
    small = torch.nn.functional.interpolate(image, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    pixels: NDArray[np.float32] = small[0].numpy()
    return pixels


def _masked(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return frame * mask[..., None]


def _resized(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.BICUBIC))
