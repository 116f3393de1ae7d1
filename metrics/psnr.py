"""Peak signal-to-noise ratio in decibels; larger is better.

``10 log10(255^2 / MSE)``, with the error averaged over the pixels of one region and the three channels. The clip's value comes
from the error of all its frames at once, so that frames without error need no special rule, and is capped at 100 dB.
Checked against ``skimage.metrics.peak_signal_noise_ratio`` in ``tests/metrics/test_psnr.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.measuring import Arrays, ClipValue, Region
from vpbench.metrics.mse import mse_per_frame
from vpbench.metrics.region_sums import RegionSums, frame_errors, pooled_error
from vpbench.metrics.regions import BOUNDARY_PX, check_boundary, check_region

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
class Psnr:
    """Peak signal-to-noise ratio in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole``, ``background`` or ``boundary``.
        boundary_px: half width of the boundary band, pixels, at least 1.

    Raises:
        ConfigError: an unknown region or a ``boundary_px`` out of range.
    """

    region: Region = "frame"
    boundary_px: int = BOUNDARY_PX
    name: str = field(default="psnr", init=False)
    unit: str = field(default="dB", init=False)
    direction: Literal["higher", "lower"] = field(default="higher", init=False)
    digits: int = field(default=2, init=False)
    scale: float = field(default=1.0, init=False)
    range: tuple[float, float] = field(default=(0.0, CAP_DB), init=False)
    version: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        check_region(self.name, self.region)
        check_boundary(self.boundary_px)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"pooled,rgb,cap={CAP_DB:g}" + (f",px={self.boundary_px}" if self.region == "boundary" else "")

    @property
    def measure(self) -> RegionSums:
        """The pass that gives the sums."""
        return RegionSums(self.boundary_px)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) decibels: inf where the region is reproduced exactly, nan where it is empty; not capped."""
        return _decibels(frame_errors(arrays, "sse", self.region))

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the value of the error pooled over the clip, at most 100 dB."""
        error = pooled_error(arrays, "sse", self.region)
        return replace(error, value=float(np.minimum(_decibels(np.array(error.value)), CAP_DB)))
