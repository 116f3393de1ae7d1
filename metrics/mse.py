"""Mean squared error on the scale 0-1; smaller is better, shown times 100.

The error is averaged over the pixels of one region and the three channels; the clip's value over all its frames at once.
Checked against ``skimage.metrics.mean_squared_error`` in ``tests/metrics/test_mse_mae.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.metrics.region_sums import PEAK, PixelMetric, region_mean


def mse_per_frame(prediction: Frames, reference: Frames, region: Masks) -> NDArray[np.float64]:
    """Return (T,) values from 0 to 1, nan where the region is empty; the arguments are those of ``psnr_per_frame``.

    >>> black = np.zeros((1, 2, 2, 3), np.uint8)
    >>> one_white = black.copy(); one_white[0, 0, 0] = 255
    >>> mse_per_frame(one_white, black, np.ones((1, 2, 2), bool))
    array([0.25])
    """
    return region_mean(np.square(prediction.astype(np.float64) - reference), region) / PEAK**2


@dataclass(frozen=True)
class Mse(PixelMetric):
    """Mean squared error in one region; the options are those of ``PixelMetric``."""

    name: str = "mse"

    digits = 3
    kind = "sse"
