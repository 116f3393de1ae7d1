"""What the baselines share: filling one frame from its own pixels, mean colours, OpenCV on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks

GREY = 128  # colour where not one pixel of the clip is visible
CROP_MARGIN_PX = 4  # beyond the radius; cv2.inpaint gives the same bytes as on the whole frame (see tests/baselines/test_inpaint.py)
SMOOTHING_ROUNDS = 4  # per pyramid level of ``interpolate``


@contextmanager
def one_thread() -> Iterator[None]:
    """Run OpenCV on one thread: some of its results depend on how an image is cut into stripes. The setting is process-wide."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def mean_colour(frames: Frames, masks: Masks) -> NDArray[np.uint8]:
    """Return the mean colour of the visible pixels, uint8 (3,); mid grey where none is visible.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W), True = hole.
    """
    total, count = np.zeros(3, np.int64), 0
    for frame, mask in zip(frames, masks, strict=True):
        visible = ~mask
        total += frame[visible].sum(axis=0, dtype=np.int64)
        count += int(visible.sum())
    if not count:
        return np.full(3, GREY, np.uint8)
    return ((2 * total + count) // (2 * count)).astype(np.uint8)


def inpaint(frames: Frames, masks: Masks, radius_px: float = 5.0, method: int = cv2.INPAINT_TELEA) -> Frames:
    """Fill every frame from its own visible pixels with ``cv2.inpaint``.

    A frame without a visible pixel, where ``cv2.inpaint`` has no defined result, gets the mean colour of the clip's
    visible pixels.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W), True = hole.
        radius_px: how far around a pixel the method looks.
        method: ``cv2.INPAINT_TELEA`` or ``cv2.INPAINT_NS``.

    Returns:
        A new uint8 (T, H, W, 3); equal to ``frames`` outside the hole.
    """
    result = frames.copy()
    with one_thread():
        for frame, mask in zip(result, masks, strict=True):
            if mask.all():
                frame[:] = mean_colour(frames, masks)
            elif mask.any():
                rows, columns = _bounding_box(mask, int(np.ceil(radius_px)) + CROP_MARGIN_PX)
                crop, hole = frame[rows, columns], mask[rows, columns]
                crop[hole] = 0
                crop[hole] = cv2.inpaint(np.ascontiguousarray(crop), hole.astype(np.uint8), radius_px, method)[hole]
    return result


def interpolate(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Continue ``values`` smoothly where they are not known: pull-push over an image pyramid.

    Each level is averaged down from its known pixels, filled from the level below and smoothed in the unknown part
    (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4, with relaxation towards the harmonic solution).

    Args:
        values: float32 (H, W, C); ignored where not known.
        known: bool (H, W).

    Returns:
        float32 (H, W, C), equal to ``values`` where known; zero where nothing is known at all.
    """
    if known.all():
        return values
    if not known.any():
        return np.zeros_like(values)
    height, width, channels = values.shape
    weight = known.astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(np.where(known[..., None], values, np.float32(0)), half, interpolation=cv2.INTER_AREA)
    small = small.reshape(half[1], half[0], channels) / np.maximum(small_weight, 1e-6)[..., None]
    small = interpolate(np.asarray(small, np.float32), small_weight > 1e-6)
    result = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    result[known] = values[known]
    for _ in range(SMOOTHING_ROUNDS):
        smooth = cv2.blur(result, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(values.shape)
        np.copyto(result, smooth, where=~known[..., None])
    return np.asarray(result, np.float32)


def _bounding_box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of the box around ``mask``, grown by ``margin``."""
    slices = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis=axis))
        slices.append(slice(max(0, int(used[0]) - margin), int(used[-1]) + margin + 1))
    return slices[0], slices[1]
