"""Frames on a few threads: NumPy and OpenCV leave the interpreter's lock while they compute.

Every frame is computed by itself and the results come back in order, so the number of threads changes no byte.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

MOST = 8  # the passes that use this are soon bound by memory
T = TypeVar("T")


def over_frames(compute: Callable[[int], T], frames: int) -> list[T]:
    """Return ``[compute(0), ..., compute(frames - 1)]``, on as many threads as OpenCV may use, at most 8."""
    with ThreadPoolExecutor(min(max(cv2.getNumThreads(), 1), MOST)) as pool:
        return list(pool.map(compute, range(frames)))
