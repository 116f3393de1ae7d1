"""Mean absolute error on the scale 0-1; smaller is better, shown times 100.

The error is averaged over the pixels of one region and the three channels; the clip's value over all its frames at once.
Checked against NumPy in ``tests/metrics/test_mse_mae.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.measuring import Arrays, ClipValue
from vpbench.metrics.region_sums import PEAK, PixelMetric


def mae_per_frame(prediction: Frames, reference: Frames, region: Masks) -> NDArray[np.float64]:
    """Return one value per frame.

    Args:
        prediction: the model's frames, uint8 (T, H, W, 3) RGB.
        reference: the video it is compared with, same shape.
        region: bool (T, H, W), True where the error counts.

    Returns:
        (T,) values from 0 to 1; nan where the region is empty.

    >>> black = np.zeros((1, 2, 2, 3), np.uint8)
    >>> one_white = black.copy(); one_white[0, 0, 0] = 255
    >>> mae_per_frame(one_white, black, np.ones((1, 2, 2), bool))
    array([0.25])
    """
    error = np.abs(prediction.astype(np.float64) - reference).mean(axis=-1)  # (T, H, W)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = (error * region).sum(axis=(1, 2)) / region.sum(axis=(1, 2))
    return mean / PEAK


@dataclass(frozen=True)
class Mae(PixelMetric):
    """Mean absolute error in one region; the options are those of ``PixelMetric``."""

    name: str = "mae"

    direction = "lower"
    digits = 2
    scale = 100.0
    range = (0.0, 1.0)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"pooled,rgb,0-1{self._where()}"

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) values; nan where the region is empty."""
        return self._frames(arrays, "sae")

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the error pooled over the clip."""
        return self._clip(arrays, "sae")
