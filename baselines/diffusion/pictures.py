"""Between uint8 frames and the tensors of a diffusion model, as the pipelines of diffusers do it.

A tensor of pixels is float32 (1, 3, T, H, W) in [-1, 1], a mask in pixels float32 (1, 1, T, H, W) of 0 and 1. Sizes are changed with
Pillow's Lanczos filter without regard to the aspect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames

if TYPE_CHECKING:
    import torch

GREY = 0.0  # what a hole is for the context encoder
BLACK = -1.0  # what it was in training


def to_pixels(frames: Iterable[NDArray[np.uint8]], height: int, width: int) -> torch.Tensor:
    """Frames, uint8 (H, W, 3) each, of any sizes, as float32 (1, 3, T, height, width) in [-1, 1]."""
    pixels: torch.Tensor = _processor().preprocess_video(_images(frames), height=height, width=width)
    return pixels.float()


def mask_to_pixels(masks: Iterable[NDArray[np.bool_]], height: int, width: int) -> torch.Tensor:
    """Masks, bool (H, W) each, as float32 (1, 1, T, height, width), 1 = hole: resized as pictures, 1 from half the brightness on."""
    images = _images(mask.astype(np.uint8) * 255 for mask in masks)
    processor = _processor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    pixels: torch.Tensor = processor.preprocess_video(images, height=height, width=width)
    return pixels.float()


def without_hole(pixels: torch.Tensor, mask: torch.Tensor, fill: float = GREY) -> torch.Tensor:
    """``pixels`` (1, 3, T, H, W) with the hole of ``mask`` (1, 1, T, H, W) set to ``fill``: 0 is mid grey, -1 black."""
    visible = pixels * (mask < 0.5)
    return visible if fill == GREY else visible + fill * (mask >= 0.5)


def to_frames(pixels: torch.Tensor, *, official: bool = False) -> Frames:
    """Pixels (1, 3, T, H, W) in [-1, 1] as uint8 (T, H, W, 3).

    Args:
        pixels: out of range values are clipped.
        official: as the article's code: scaled in the tensor's own precision (often bfloat16) and cut off, where the default scales in
            float32 and rounds half to even.
    """
    if not official:
        pixels = pixels.float()
    levels = (pixels * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 3, 0).float() * 255
    array: NDArray[Any] = (levels if official else levels.round()).cpu().numpy()
    return array.astype(np.uint8)


def resized(frames: Frames, height: int, width: int) -> Frames:
    """Frames uint8 (T, H, W, 3) in another size, uint8 (T, height, width, 3); the same array when the size is right."""
    from PIL import Image

    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)) for image in _images(frames)])


def _processor(**options: bool) -> Any:
    from diffusers.video_processor import VideoProcessor

    return VideoProcessor(vae_scale_factor=1, **options)


def _images(arrays: Iterable[NDArray[np.uint8]]) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]
