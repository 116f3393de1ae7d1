"""Where ReVideo shall work: windows of a clip, the rectangle around its hole, points to follow. Python 3.8, NumPy, OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

FRAMES = 14  # that ReVideo makes at once
GROWN_PX, ERODED_PX, POINTS = 8, 4, 4


def windows(frames: int) -> list[tuple[int, int]]:
    """Windows of 14 frames that share one; the last may reach beyond the clip.

    >>> windows(49)
    [(0, 14), (13, 27), (26, 40), (39, 53)]
    >>> windows(14), windows(15)
    ([(0, 14)], [(0, 14), (13, 27)])
    """
    starts = range(0, max(frames - 1, 1), FRAMES - 1)
    return [(start, start + FRAMES) for start in starts]


def rectangle(masks: Any) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (right and lower end exclusive) around all holes, 8 pixels larger where the picture allows; zeros without a hole.

    Args:
        masks: bool (T, H, W).
    """
    whole = masks.any(axis=0)
    if not whole.any():
        return 0, 0, 0, 0
    height, width = whole.shape
    rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
    left, top = max(int(columns[0]) - GROWN_PX, 0), max(int(rows[0]) - GROWN_PX, 0)
    return left, top, min(int(columns[-1]) + 1 + GROWN_PX, width), min(int(rows[-1]) + 1 + GROWN_PX, height)


def points(mask: Any) -> list[tuple[int, int]]:
    """Up to 4 pixels (x, y) in the hole, 4 pixels or more from its border, as far from each other as can be; none without a hole.

    The first is the one nearest to the hole's centre. A hole too thin for that border gets pixels anywhere in it.

    Args:
        mask: bool (H, W).
    """
    kernel = np.ones((2 * ERODED_PX + 1, 2 * ERODED_PX + 1), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    rows, columns = np.nonzero(inner if inner.any() else mask)
    if not len(rows):
        return []
    place = np.stack([columns, rows], axis=1).astype(np.float64)
    chosen = [int(np.square(place - place.mean(axis=0)).sum(axis=1).argmin())]
    far = np.square(place - place[chosen[0]]).sum(axis=1)
    while len(chosen) < POINTS and far.max() > 0:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.square(place - place[chosen[-1]]).sum(axis=1))
    return [(int(columns[i]), int(rows[i])) for i in chosen]
