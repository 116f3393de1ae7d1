"""Copies each pixel of the hole from the nearest frame that shows it, at the same place: perfect for a still camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vpbench.baselines.spatial import inpaint
from vpbench.clip import Frames, MaskedClip

CHUNK_PIXELS = 1 << 15  # pixels handled at once, to bound memory on long clips


@dataclass(frozen=True)
class NearestFrame:
    """Takes the nearest frame in time where the pixel is visible (ties: the earlier); pixels never visible by Telea's method."""

    version: ClassVar[int] = 1

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3); ``seed`` has no effect."""
        count = len(clip.frames)
        result = clip.frames.copy()
        left = clip.masks.copy()  # (T, H, W), what is still to be filled
        times = np.arange(count)[:, None]
        never = 2 * count  # further away than any frame
        rows, columns = np.nonzero(clip.masks.any(axis=0))
        for start in range(0, len(rows), CHUNK_PIXELS):
            y, x = rows[start : start + CHUNK_PIXELS], columns[start : start + CHUNK_PIXELS]
            hole = clip.masks[:, y, x]  # (T, N)
            before = np.maximum.accumulate(np.where(hole, -never, times), axis=0)
            after = np.minimum.accumulate(np.where(hole, 2 * never, times)[::-1], axis=0)[::-1]
            nearest = np.where(times - before <= after - times, before, after)
            t, n = np.nonzero(hole & (nearest >= 0) & (nearest < count))
            result[t, y[n], x[n]] = clip.frames[nearest[t, n], y[n], x[n]]
            left[t, y[n], x[n]] = False
        return inpaint(result, left)
