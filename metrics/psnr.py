"""Peak signal-to-noise ratio in decibels; larger is better.

``10 log10(255^2 / MSE)``, with the error averaged over the pixels of one region and the three channels. The clip's value comes
from the error of all its frames at once, so that frames without error need no special rule, and is capped at 100 dB.
Checked against ``skimage.metrics.peak_signal_noise_ratio`` in ``tests/metrics/test_psnr.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.measuring import Arrays, ClipValue
from vpbench.metrics.mse import mse_per_frame
from vpbench.metrics.region_sums import PixelMetric

CAP_DB = 100.0  # a mean squared error of 1e-10 on the scale 0-1


def psnr_per_frame(prediction: Frames, reference: Frames, region: Masks) -> NDArray[np.float64]:
    """Return one value per frame.

    Args:
        prediction: the model's frames, uint8 (T, H, W, 3) RGB.
        reference: the video it is compared with, same shape.
        region: bool (T, H, W), True where the error counts.

    Returns:
        (T,) decibels: inf where the region is reproduced exactly, nan where the region is empty.

    >>> black = np.zeros((1, 2, 2, 3), np.uint8)
    >>> one_white = black.copy(); one_white[0, 0, 0] = 255
    >>> psnr_per_frame(one_white, black, np.ones((1, 2, 2), bool)).round(2)
    array([6.02])
    """
    return _decibels(mse_per_frame(prediction, reference, region))


def _decibels(mse: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(1 / mse)


@dataclass(frozen=True)
class Psnr(PixelMetric):
    """Peak signal-to-noise ratio in one region; the options are those of ``PixelMetric``."""

    name: str = "psnr"

    unit = "dB"
    direction = "higher"
    digits = 2
    scale = 1.0
    range = (0.0, CAP_DB)
    kind = "sse"

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"pooled,rgb,cap={CAP_DB:g}{self._where()}"

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) decibels: inf where the region is reproduced exactly, nan where it is empty; not capped."""
        return _decibels(super().frames(arrays))

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the value of the error pooled over the clip, at most 100 dB."""
        error = super().clip(arrays)
        return replace(error, value=float(np.minimum(_decibels(np.array(error.value)), CAP_DB)))
