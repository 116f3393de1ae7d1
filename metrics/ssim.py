"""Structural similarity (Wang et al. 2004); larger is better, 1 where the window is reproduced exactly.

Gaussian window of 11x11 pixels with sigma 1.5, biased weights, K1 = 0.01, K2 = 0.03, L = 255, the mean of the three channels of
RGB. Only windows that lie inside the image count. Checked against ``skimage.metrics.structural_similarity`` in
``tests/metrics/test_ssim.py``.

In ``background`` only windows without any pixel of the hole count, so that nothing in the hole can change the value. In ``hole``
and ``boundary`` the centre of the window decides: such windows also see pixels outside the region.

Where a window is reproduced exactly the map is exactly 1, so only windows that see a difference are computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.measuring import Arrays, ClipValue, Comparison, Region
from vpbench.metrics.regions import BOUNDARY_PX, REGIONS, check_boundary, check_region, difference_box, regions_of

RADIUS = 5  # pixels; the window is 11x11
SIGMA = 1.5  # pixels
STRIP = 32  # rows of windows computed at a time; small enough for the processor's cache
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2
_OFFSETS = np.arange(-RADIUS, RADIUS + 1)
_WEIGHTS = np.exp(-0.5 * (_OFFSETS / SIGMA) ** 2)
KERNEL: NDArray[np.float64] = _WEIGHTS / _WEIGHTS.sum()


def ssim_map(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the similarity at every pixel whose window lies inside the image, computed in float64.

    Args:
        prediction: uint8 (H, W, 3) RGB, at least 11x11.
        reference: uint8, same shape.

    Returns:
        (H - 10, W - 10) values from -1 to 1, the mean of the channels.

    >>> flat = np.full((11, 12, 3), 40, np.uint8)
    >>> ssim_map(flat, flat)
    array([[1., 1.]])
    """
    height = reference.shape[0] - 2 * RADIUS
    strips = [slice(top, top + STRIP + 2 * RADIUS) for top in range(0, height, STRIP)]
    return np.concatenate([_strip_map(prediction[rows], reference[rows]) for rows in strips])


def _strip_map(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    # With d = prediction - reference: var p + var r = 2 cov(p, r) + var d, and the same for the squared means. Written so,
    # the map is exactly 1 where d = 0.
    predicted, wanted = prediction.astype(np.float64), reference.astype(np.float64)
    difference = predicted - wanted
    mean = _window_mean(wanted)
    mean_difference = _window_mean(difference)
    luminance = mean * (mean + mean_difference)  # product of the two means
    covariance = _window_mean(predicted * wanted) - luminance
    square = mean_difference * mean_difference
    variance = _window_mean(difference * difference) - square
    luminance = 2 * luminance + C1
    covariance = 2 * covariance + C2
    channels = (luminance * covariance) / ((luminance + square) * (covariance + variance))
    similarity: NDArray[np.float64] = (channels[..., 0] + channels[..., 1] + channels[..., 2]) / 3
    return similarity


@dataclass(frozen=True)
class SsimMap:
    """The measure: (T,) arrays ``ssim_<region>``, float64 sums of the map, and ``n_<region>``, int64 counts of windows.

    Frames smaller than 11 pixels have no window: all counts are 0.

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
        return f"ssim_map-g11-b{self.boundary_px}-v1"

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.generic]]:
        """Return the sums of one comparison."""
        frames, height, width = comparison.masks.shape
        sums = {region: np.zeros(frames, np.float64) for region in REGIONS}
        counts = {region: np.zeros(frames, np.int64) for region in REGIONS}
        if min(height, width) > 2 * RADIUS:
            regions = comparison.once(f"ssim-windows-b{self.boundary_px}", lambda: _windows(comparison, self.boundary_px))
            for region, windows in regions.items():
                counts[region][:] = [np.count_nonzero(window) for window in windows]
                sums[region][:] = counts[region]
            for t, (prediction, reference) in enumerate(zip(comparison.prediction, comparison.reference, strict=True)):
                box = difference_box(prediction, reference)
                if box is None:
                    continue
                # Window (y, x) covers pixels y .. y + 10 and x .. x + 10.
                top, left = max(box[0] - 2 * RADIUS, 0), max(box[2] - 2 * RADIUS, 0)
                bottom, right = min(box[1], height - 2 * RADIUS), min(box[3], width - 2 * RADIUS)
                seen = (slice(top, bottom + 2 * RADIUS), slice(left, right + 2 * RADIUS))
                loss = 1 - ssim_map(prediction[seen], reference[seen])
                for region, windows in regions.items():
                    sums[region][t] -= loss[windows[t, top:bottom, left:right]].sum()
        return {f"ssim_{region}": sums[region] for region in REGIONS} | {f"n_{region}": counts[region] for region in REGIONS}


@dataclass(frozen=True)
class Ssim:
    """Structural similarity in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole``, ``background`` or ``boundary``.
        boundary_px: half width of the boundary band, pixels, at least 1.

    Raises:
        ConfigError: an unknown region or a ``boundary_px`` out of range.
    """

    region: Region = "frame"
    boundary_px: int = BOUNDARY_PX
    name: str = field(default="ssim", init=False)
    unit: str = field(default="", init=False)
    direction: Literal["higher", "lower"] = field(default="higher", init=False)
    digits: int = field(default=4, init=False)
    scale: float = field(default=1.0, init=False)
    range: tuple[float, float] = field(default=(-1.0, 1.0), init=False)
    version: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        check_region(self.name, self.region)
        check_boundary(self.boundary_px)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return "pooled,rgb,gauss11,valid" + (f",px={self.boundary_px}" if self.region == "boundary" else "")

    @property
    def measure(self) -> SsimMap:
        """The pass that gives the sums."""
        return SsimMap(self.boundary_px)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) means of the map; nan where the region has no window."""
        n = arrays[f"n_{self.region}"]
        total: NDArray[np.float64] = np.where(n > 0, arrays[f"ssim_{self.region}"], np.nan)
        return total / np.maximum(n, 1)

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean of the map over all windows of the region in the clip."""
        n, total = arrays[f"n_{self.region}"], arrays[f"ssim_{self.region}"]
        used = n > 0
        count, excluded = int(used.sum()), int((~used).sum())
        if not arrays["n_frame"].any():
            return ClipValue(float("nan"), 0, excluded, reason="the frames are smaller than the window of 11x11 pixels")
        if not count:
            return ClipValue(float("nan"), 0, excluded, reason=f"no window lies in the {self.region} in any frame")
        reason = f"no window lies in the {self.region} in {excluded} of {len(n)} frames" if excluded else ""
        return ClipValue(float(total[used].sum()) / int(n.sum()), count, excluded, reason=reason)


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean of every whole window: (H, W, 3) -> (H - 10, W - 10, 3)."""
    filtered = np.asarray(cv2.sepFilter2D(values, cv2.CV_64F, KERNEL, KERNEL), np.float64)
    return filtered[RADIUS:-RADIUS, RADIUS:-RADIUS]


def _windows(comparison: Comparison, boundary_px: int) -> dict[Region, NDArray[np.bool_]]:
    """The windows of every region, bool (T, H - 10, W - 10); index (y, x) is the window centred on pixel (y + 5, x + 5)."""
    inner = slice(RADIUS, -RADIUS)
    windows = {region: masks[:, inner, inner] for region, masks in regions_of(comparison, boundary_px).items()}
    square = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8)
    grown = np.stack([cv2.dilate(mask.astype(np.uint8), square) for mask in comparison.masks]).astype(bool)
    windows["background"] = ~grown[:, inner, inner]
    return windows
