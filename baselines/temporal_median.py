"""The median over time of each pixel where it is visible: recovers a still background behind anything that moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vpbench.baselines.spatial import inpaint
from vpbench.clip import Frames, MaskedClip, Masks
from vpbench.errors import ConfigError

CHUNK_PIXELS = 1 << 14  # pixels sorted at once, to bound memory on long clips
HIDDEN = 256  # sorts behind every visible value


@dataclass(frozen=True)
class TemporalMedian:
    """Fills the hole with the median of the visible values at the same place; pixels never visible by Telea's method.

    Attributes:
        window: how many frames are looked at, an odd number centred on the frame; None looks at the whole clip.

    Raises:
        ConfigError: ``window`` is not an odd number of at least 3.
    """

    window: int | None = None
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.window is not None and (self.window < 3 or self.window % 2 == 0):
            raise ConfigError(f"window={self.window}: expected an odd number of frames, at least 3, or null for the whole clip.")

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3); ``seed`` has no effect."""
        result, left = clip.frames.copy(), clip.masks.copy()
        if self.window is None:
            spans = [(slice(None), slice(None), clip.masks.any(axis=0))]
        else:
            reach = self.window // 2
            spans = [(slice(t, t + 1), slice(max(0, t - reach), t + reach + 1), mask) for t, mask in enumerate(clip.masks)]
        for filled, seen, wanted in spans:
            rows, columns = np.nonzero(wanted)
            for start in range(0, len(rows), CHUNK_PIXELS):
                y, x = rows[start : start + CHUNK_PIXELS], columns[start : start + CHUNK_PIXELS]
                median, known = _visible_median(clip.frames[seen, y, x], clip.masks[seen, y, x])
                fill = clip.masks[filled, y, x] & known  # (F, N)
                result[filled, y, x] = np.where(fill[..., None], median, result[filled, y, x])
                left[filled, y, x] &= ~fill
        return inpaint(result, left)


def _visible_median(values: Frames, hidden: Masks) -> tuple[Frames, NDArray[np.bool_]]:
    """Return the median of (T, N, 3) over its visible entries as uint8 (N, 3), halves rounded up, and bool (N,): any visible."""
    ordered = np.sort(np.where(hidden[..., None], np.int16(HIDDEN), values.astype(np.int16)), axis=0)
    visible = (~hidden).sum(axis=0)  # (N,)
    pixels = np.arange(len(visible))
    low, high = ordered[np.maximum(visible - 1, 0) // 2, pixels], ordered[np.minimum(visible // 2, len(ordered) - 1), pixels]
    return ((low + high + 1) // 2).astype(np.uint8), visible > 0
