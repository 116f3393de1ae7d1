"""From a mask in pixels to what a diffusion model reads: grown, one value per latent, one per token. True or 1 is the hole everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from vpbench.clip import Masks
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

RULES = ("nearest", "any", "area")


def dilate(masks: Masks, size_px: int) -> Masks:
    """Grow the hole with a square of ``size_px`` pixels; 0 and 1 leave it as it is.

    An even square has no centre: OpenCV reaches one pixel less to the left and up than to the right and down (16: -7 to +8).

    Args:
        masks: bool (T, H, W).
        size_px: side of the square, 0 or more.

    Returns:
        A new bool (T, H, W).
    """
    if size_px < 0:
        raise ConfigError(f"dilate_px={size_px}: the side of a square in pixels, 0 or more.")
    if size_px < 2:
        return masks.copy()
    square = np.ones((size_px, size_px), np.uint8)
    return np.stack([cv2.dilate(mask.astype(np.uint8), square).astype(bool) for mask in masks])


def latent_mask(mask: torch.Tensor, rule: str = "nearest", spatial: int = 8, temporal: int = 4) -> torch.Tensor:
    """Reduce a mask in pixels to one value per latent.

    Args:
        mask: float (1, 1, F, H, W), 0 or 1, with ``F = temporal * k + 1``.
        rule: ``nearest``: the pixel that nearest-neighbour sampling picks; the other pixels of the latent have no say (what the article's
            code does). ``any``: 1 where any pixel that went into the latent is in the hole. ``area``: the share of those pixels.
        spatial: pixels per latent, down and across.
        temporal: frames per latent, apart from the first frame, which has one of its own.

    Returns:
        float (1, k + 1, 1, H / spatial, W / spatial), 0 to 1.

    Raises:
        ConfigError: an unknown rule.
    """
    from torch.nn import functional

    if rule not in RULES:
        raise ConfigError(f"mask_rule={rule}: expected one of {', '.join(RULES)}.")
    _, _, frames, height, width = mask.shape
    if rule == "nearest":
        size = ((frames - 1) // temporal + 1, height // spatial, width // spatial)
        return functional.interpolate(mask, size=size, mode="nearest").permute(0, 2, 1, 3, 4)
    pool = functional.max_pool3d if rule == "any" else functional.avg_pool3d
    first = mask[:, :, :1].expand(-1, -1, temporal, -1, -1)
    padded = functional.pad(mask[:, :, 1:], (0, 0, 0, 0, temporal, 0))
    padded[:, :, :temporal] = first
    return pool(padded, (temporal, spatial, spatial)).permute(0, 2, 1, 3, 4)


def token_mask(latents: torch.Tensor, patch: int = 2) -> torch.Tensor:
    """Which tokens of a transformer hold a hole: True when any of a token's latents does.

    Args:
        latents: float (1, L, 1, h, w), as ``latent_mask`` returns.
        patch: latents per token, down and across.

    Returns:
        bool (1, L * h / patch * w / patch, 1), frame by frame, row by row: the transformer's own order.
    """
    from torch.nn import functional

    pooled = functional.max_pool2d(latents[0], patch)  # (L, 1, h / patch, w / patch)
    return (pooled > 0).reshape(1, -1, 1)
