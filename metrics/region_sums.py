"""The exact sums behind PSNR, MSE and MAE: errors per frame and region as whole numbers.

With ``D = |prediction - reference|`` on the scale 0-255, every frame and region gives ``sse = sum D^2``, ``sae = sum D`` and
``n = 3 * pixels``. Any average of the three metrics (pooled, mean of frames, mean of clips) follows from them without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.measuring import Arrays, ClipValue, Comparison, Region
from vpbench.metrics.regions import BOUNDARY_PX, REGIONS, check_boundary, difference_box, regions_of

PEAK = 255.0


@dataclass(frozen=True)
class RegionSums:
    """The measure: int64 (T,) arrays ``sse_<region>``, ``sae_<region>`` and ``n_<region>`` for every region.

    Attributes:
        boundary_px: half width of the boundary band, pixels, at least 1.

    Raises:
        ConfigError: ``boundary_px`` out of range.
    """

    boundary_px: int = BOUNDARY_PX

    def __post_init__(self) -> None:
        check_boundary(self.boundary_px)

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"region_sums-b{self.boundary_px}-v1"

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.int64]]:
        """Return the sums of one comparison."""
        regions = regions_of(comparison, self.boundary_px)
        frames = len(comparison.reference)
        arrays = {f"{kind}_{region}": np.zeros(frames, np.int64) for kind in ("sse", "sae", "n") for region in REGIONS}
        for region, masks in regions.items():
            arrays[f"n_{region}"][:] = [3 * np.count_nonzero(mask) for mask in masks]
        for t, (prediction, reference) in enumerate(zip(comparison.prediction, comparison.reference, strict=True)):
            box = difference_box(prediction, reference)
            if box is None:
                continue
            top, bottom, left, right = box
            absolute, square = _errors(prediction[top:bottom, left:right], reference[top:bottom, left:right])
            for kind, errors in (("sae", absolute), ("sse", square)):
                arrays[f"{kind}_frame"][t] = errors.sum(dtype=np.int64)
                for region in ("hole", "boundary"):
                    arrays[f"{kind}_{region}"][t] = errors[regions[region][t, top:bottom, left:right]].sum(dtype=np.int64)
                arrays[f"{kind}_background"][t] = arrays[f"{kind}_frame"][t] - arrays[f"{kind}_hole"][t]
        return arrays


def frame_errors(arrays: Arrays, kind: Literal["sse", "sae"], region: Region) -> NDArray[np.float64]:
    """Return the (T,) mean error of each frame on the scale 0-1 (squared for ``sse``); nan where the region is empty."""
    n = arrays[f"n_{region}"]
    total = np.where(n > 0, arrays[f"{kind}_{region}"], np.nan)
    return total / np.maximum(n, 1) / (PEAK**2 if kind == "sse" else PEAK)


def pooled_error(arrays: Arrays, kind: Literal["sse", "sae"], region: Region) -> ClipValue:
    """Return the mean error over all pixels of the region in the clip, on the scale 0-1 (squared for ``sse``).

    Frames in which the region is empty count as excluded; the value is nan where that is every frame.
    """
    n, total = arrays[f"n_{region}"], arrays[f"{kind}_{region}"]
    used = n > 0
    count, excluded = int(used.sum()), int((~used).sum())
    if not count:
        return ClipValue(float("nan"), 0, excluded, reason=f"the {region} is empty in every frame")
    value = int(total.sum()) / int(n.sum()) / (PEAK**2 if kind == "sse" else PEAK)
    reason = f"the {region} is empty in {excluded} of {len(n)} frames" if excluded else ""
    return ClipValue(value, count, excluded, int((used & (total == 0)).sum()), reason)


def _errors(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sum ``D`` and ``D^2`` over the channels of each pixel: int32 (H, W), at most 765 and 195075."""
    absolute, square = (np.zeros(reference.shape[:2], np.int32) for _ in range(2))
    for channel in cv2.split(cv2.absdiff(prediction, reference)):
        wide = channel.astype(np.int32)
        absolute += wide
        square += wide * wide
    return absolute, square
