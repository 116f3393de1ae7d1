"""Where a metric looks: the whole frame, the hole, the background or a band around the hole's edge."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Masks
from vpbench.errors import ConfigError
from vpbench.measuring import REGIONS, Region

Box = tuple[int, int, int, int]  # top, bottom, left, right in pixels; bottom and right exclusive
BOUNDARY_PX = 8  # half width of the boundary band, pixels


def check_boundary(boundary_px: int) -> None:
    """Check the half width of the boundary band.

    Raises:
        ConfigError: ``boundary_px`` is not a whole number of pixels, at least 1.
    """
    if isinstance(boundary_px, bool) or not isinstance(boundary_px, int) or boundary_px < 1:
        raise ConfigError(f"boundary_px: expected a whole number of pixels, at least 1, got {boundary_px!r}.")


def region_mask(masks: Masks, region: Region, boundary_px: int = BOUNDARY_PX) -> Masks:
    """Return where ``region`` lies.

    The boundary holds the pixels of the hole that are at most ``boundary_px`` away from a pixel of the background, and the
    other way round (Euclidean, centre to centre). The edge of the image is no edge of the hole: a frame that is all hole, or
    has no hole, has no boundary.

    Args:
        masks: bool (T, H, W), True = hole.
        region: ``frame``, ``hole``, ``background`` or ``boundary``.
        boundary_px: half width of the boundary, pixels, at least 1; the other regions ignore it.

    Returns:
        bool (T, H, W), True inside the region; a new array.

    Raises:
        ConfigError: an unknown region, or a ``boundary_px`` that is not a whole number of at least 1.

    >>> row = np.array([[[False, False, False, True, True, True]]])
    >>> region_mask(row, "boundary", boundary_px=1).astype(int)
    array([[[0, 0, 1, 1, 0, 0]]])
    """
    if region not in REGIONS:
        raise ConfigError(f"unknown region {region!r}; known: {', '.join(REGIONS)}.")
    if region == "frame":
        return np.ones_like(masks)
    if region == "hole":
        return masks.copy()
    if region == "background":
        return ~masks
    check_boundary(boundary_px)
    return np.stack([boundary(mask, boundary_px) for mask in masks])


def boundary(mask: NDArray[np.bool_], boundary_px: int) -> NDArray[np.bool_]:
    """Return the band around the hole's edge in one frame, bool (H, W) -> bool (H, W); see ``region_mask``."""
    band = np.zeros_like(mask)
    box = mask_box(mask)
    if box is None:
        return band
    top, bottom, left, right = box
    grown = boundary_px + 1  # one row of background beyond the band, so that the crop has every edge of the frame
    near = slice(max(top - grown, 0), bottom + grown), slice(max(left - grown, 0), right + grown)
    hole = np.ascontiguousarray(mask[near], dtype=np.uint8)
    if hole.all():
        return band
    inside = cv2.distanceTransform(hole, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - hole, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    band[near] = np.maximum(inside, outside) <= boundary_px + 1e-4  # float32 distances; the next one above b is sqrt(b*b + 1)
    return band


def mask_box(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Box | None:
    """Return the smallest box around what is not 0, bool or uint8 (H, W), or None where there is nothing."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (top, top + height, left, left + width) if width else None


def difference_box(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Box | None:
    """Return the smallest box around all pixels in which two frames differ, uint8 (H, W, 3), or None where they are equal."""
    difference = cv2.absdiff(prediction, reference)
    box = mask_box(difference.reshape(len(difference), -1))  # three columns per pixel
    return box and (box[0], box[1], box[2] // 3, -(-box[3] // 3))
