"""The square around the hole that networks look at: what lies in the hole with some of its surroundings, not distorted.

The hole's bounding box is expanded by an eighth of its size on each side, cut at the frame, made square by growing its shorter side
(at least 64 pixels) and shifted inside the frame. Where the square is larger than the frame, the frame is centred in it and the rest
has one fixed colour: it must not depend on what is compared, nor flicker.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST = 64  # pixels
PAD = (123, 117, 104)  # RGB; the mean colour of natural images that CLIP subtracts
Box = tuple[int, int, int]  # top, left, side; top and left are negative where the square is larger than the frame


def hole_box(mask: NDArray[np.bool_]) -> Box:
    """Return the square around a hole.

    Args:
        mask: bool (H, W), True = hole; for several frames, the union of their masks.

    Returns:
        ``(top, left, side)`` in pixels.

    Raises:
        ValueError: the mask has no hole.

    >>> mask = np.zeros((480, 720), bool); mask[100:180, 600:720] = True
    >>> hole_box(mask)
    (65, 570, 150)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError("the mask has no hole")
    spans = [(int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)]
    side = max(SMALLEST, *(min((5 * (end - start) + 3) // 4, size) for (start, end), size in zip(spans, mask.shape, strict=True)))
    top, left = (_start(start, end, side, size) for (start, end), size in zip(spans, mask.shape, strict=True))
    return top, left, side


def crop_square(frames: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Cut a square out of frames.

    Args:
        frames: uint8 (..., H, W, 3) RGB.
        box: ``(top, left, side)`` from ``hole_box``; its pixels outside the frame get the colour ``PAD``.

    Returns:
        uint8 (..., side, side, 3).

    >>> crop_square(np.zeros((1, 2, 3, 3), np.uint8), (-1, 0, 3))[0, :, 0, 0]
    array([123,   0,   0], dtype=uint8)
    """
    top, left, side = box
    height, width = frames.shape[-3:-1]
    inside = frames[..., max(top, 0) : top + side, max(left, 0) : left + side, :]
    if inside.shape[-3:-1] == (side, side):
        return inside
    square = np.empty((*frames.shape[:-3], side, side, 3), np.uint8)
    square[:] = PAD
    square[..., max(-top, 0) : min(height - top, side), max(-left, 0) : min(width - left, side), :] = inside
    return square


def _start(start: int, end: int, side: int, size: int) -> int:
    """Where a square of ``side`` begins along an axis of ``size`` pixels whose hole lies in ``start`` to ``end``."""
    if side > size:
        return -((side - size) // 2)
    return min(max((start + end - side) // 2, 0), size - side)
