"""Mean absolute error on the scale 0-1; smaller is better, shown times 100.

The error is averaged over the pixels of one region and the three channels; the clip's value over all its frames at once.
Checked against NumPy in ``tests/metrics/test_mse_mae.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.measuring import Arrays, ClipValue, Region
from vpbench.metrics.region_sums import PEAK, RegionSums, frame_errors, pooled_error
from vpbench.metrics.regions import BOUNDARY_PX, check_boundary, check_region


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
class Mae:
    """Mean absolute error in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole``, ``background`` or ``boundary``.
        boundary_px: half width of the boundary band, pixels, at least 1.

    Raises:
        ConfigError: an unknown region or a ``boundary_px`` out of range.
    """

    region: Region = "frame"
    boundary_px: int = BOUNDARY_PX
    name: str = field(default="mae", init=False)
    unit: str = field(default="", init=False)
    direction: Literal["higher", "lower"] = field(default="lower", init=False)
    digits: int = field(default=2, init=False)
    scale: float = field(default=100.0, init=False)
    range: tuple[float, float] = field(default=(0.0, 1.0), init=False)
    version: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        check_region(self.name, self.region)
        check_boundary(self.boundary_px)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return "pooled,rgb,0-1" + (f",px={self.boundary_px}" if self.region == "boundary" else "")

    @property
    def measure(self) -> RegionSums:
        """The pass that gives the sums."""
        return RegionSums(self.boundary_px)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) values; nan where the region is empty."""
        return frame_errors(arrays, "sae", self.region)

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the error pooled over the clip."""
        return pooled_error(arrays, "sae", self.region)
