"""Where a metric looks: the whole frame, the hole, the background or a band around the hole's edge."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Masks
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison, Region

REGIONS: tuple[Region, ...] = get_args(Region)
BOUNDARY_PX = 8  # half width of the boundary band, pixels


def check_region(metric: str, region: str, known: tuple[str, ...] = REGIONS) -> None:
    """Check that ``metric`` is defined in ``region``.

    Raises:
        ConfigError: it is not; the message lists the regions in which it is.
    """
    if region not in known:
        raise ConfigError(f"{metric}: unknown region {region!r}; known: {', '.join(known)}.")


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
    check_region("region_mask", region)
    if region == "frame":
        return np.ones_like(masks)
    if region == "hole":
        return masks.copy()
    if region == "background":
        return ~masks
    check_boundary(boundary_px)
    return np.stack([_boundary(mask, boundary_px) for mask in masks])


def regions_of(comparison: Comparison, boundary_px: int) -> dict[Region, Masks]:
    """Return the four regions of ``comparison``, each bool (T, H, W); computed once and shared by the measures."""
    return comparison.once(
        f"regions-b{boundary_px}", lambda: {region: region_mask(comparison.masks, region, boundary_px) for region in REGIONS}
    )


def difference_box(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Return the smallest box around all pixels in which two frames differ, or None where they are equal.

    Args:
        prediction: uint8 (H, W, 3).
        reference: uint8 (H, W, 3).

    Returns:
        ``(top, bottom, left, right)`` in pixels, ``bottom`` and ``right`` exclusive.
    """
    difference = cv2.absdiff(prediction, reference)
    height, width = difference.shape[:2]
    columns = np.flatnonzero(difference.max(axis=0).max(axis=-1))
    if not columns.size:
        return None
    rows = np.flatnonzero(difference.reshape(height, width * 3).max(axis=1))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _boundary(mask: NDArray[np.bool_], boundary_px: int) -> NDArray[np.bool_]:
    band = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return band
    grown = boundary_px + 1  # one row of background beyond the band, so that the crop has every edge of the frame
    box = (slice(max(rows[0] - grown, 0), rows[-1] + 1 + grown), slice(max(columns[0] - grown, 0), columns[-1] + 1 + grown))
    hole = np.ascontiguousarray(mask[box], dtype=np.uint8)
    if hole.all():
        return band
    inside = cv2.distanceTransform(hole, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - hole, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    band[box] = np.maximum(inside, outside) <= boundary_px + 1e-4  # float32 distances; the next one above b is sqrt(b*b + 1)
    return band
