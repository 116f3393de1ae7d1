"""The exact sums behind PSNR, MSE and MAE: errors per frame and region as whole numbers.

With ``D = |prediction - reference|`` on the scale 0-255, every frame and region gives ``sse = sum D^2``, ``sae = sum D`` and
``n = 3 * pixels``. Any average of the three metrics (pooled, mean of frames, mean of clips) follows from them without loss.

The ``onesided`` sums are those of the official VPBench evaluation (TencentARC/VideoPainter, ``evaluate/metrics.py``), which blanks
the hole in the prediction but not in the reference: the background's error plus the reference's own content in the hole, over all
pixels of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Masks
from vpbench.errors import ConfigError
from vpbench.measuring import REGIONS, Arrays, ClipMetric, ClipValue, Comparison, Measure
from vpbench.metrics.regions import BOUNDARY_PX, boundary, check_boundary
from vpbench.metrics.threads import over_frames

PEAK = 255.0
NORMS = {"sse": cv2.NORM_L2SQR, "sae": cv2.NORM_L1}
KEYS = tuple(f"{kind}_{where}" for kind in NORMS for where in (*REGIONS, "onesided")) + tuple(f"n_{region}" for region in REGIONS)


@dataclass(frozen=True)
class RegionSums(Measure):
    """The measure: int64 (T,) arrays ``sse_<region>``, ``sae_<region>`` and ``n_<region>``; ``sse_onesided`` and ``sae_onesided``.

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
        return f"region_sums-b{self.boundary_px}-v2"

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.int64]]:
        """Return the sums of one comparison."""

        def frame(t: int) -> dict[str, int]:
            return _sums(comparison.prediction[t], comparison.reference[t], comparison.masks[t], self.boundary_px)

        frames = over_frames(frame, len(comparison.masks))
        return {key: np.array([sums[key] for sums in frames], np.int64) for key in KEYS}


@dataclass(frozen=True)
class PixelMetric(ClipMetric):
    """The mean error over one region, read from ``RegionSums``, on the scale 0-1: MSE and MAE, and the base of PSNR.

    Attributes:
        region: ``frame``, ``hole``, ``background`` or ``boundary``.
        name: a column is ``name[region]``.
        boundary_px: half width of the boundary band, pixels, at least 1.
        onesided: in the background: as the official VPBench evaluation masks (see the module's text), not the background alone.

    Raises:
        ConfigError: an unknown region, a ``boundary_px`` out of range, or ``onesided`` in a region other than the background.
    """

    boundary_px: int = BOUNDARY_PX
    onesided: bool = False

    direction: ClassVar[Literal["higher", "lower"]] = "lower"
    scale: ClassVar[float] = 100.0
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: ClassVar[Literal["sse", "sae"]]  # of the error: squared or absolute

    def __post_init__(self) -> None:
        super().__post_init__()
        check_boundary(self.boundary_px)
        if self.onesided and self.region != "background":
            raise ConfigError(f"{self.name}: onesided is only defined in the background, not in {self.region!r}.")

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"pooled,rgb,0-1{self._where()}"

    @property
    def measure(self) -> RegionSums:
        """The pass that gives the sums."""
        return RegionSums(self.boundary_px)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) values; nan where the region is empty."""
        total, n = self._sums(arrays)
        return np.where(n > 0, total, np.nan) / np.maximum(n, 1) / self._peak

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the error pooled over the clip.

        Frames in which the region is empty count as excluded; the value is nan where that is every frame.
        """
        total, n = self._sums(arrays)
        used = n > 0
        count, excluded = int(used.sum()), int((~used).sum())
        if not count:
            return ClipValue(float("nan"), 0, excluded, reason=f"the {self.region} is empty in every frame")
        value = int(total.sum()) / int(n.sum()) / self._peak
        reason = f"the {self.region} is empty in {excluded} of {len(n)} frames" if excluded else ""
        return ClipValue(value, count, excluded, int((used & (total == 0)).sum()), reason)

    @property
    def _peak(self) -> float:
        return PEAK**2 if self.kind == "sse" else PEAK

    def _where(self) -> str:
        """What the variant says of the pixels that count."""
        return (f",px={self.boundary_px}" if self.region == "boundary" else "") + (",onesided" if self.onesided else "")

    def _sums(self, arrays: Arrays) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.onesided:
            return arrays[f"{self.kind}_onesided"], arrays["n_frame"]
        return arrays[f"{self.kind}_{self.region}"], arrays[f"n_{self.region}"]


def region_mean(error: NDArray[np.float64], region: Masks) -> NDArray[np.float64]:
    """Return the mean of (T, H, W, 3) errors over the channels and the pixels of a (T, H, W) region: (T,), nan where it is empty."""
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = (error.mean(axis=-1) * region).sum(axis=(1, 2)) / region.sum(axis=(1, 2))
    return mean


def _sums(prediction: NDArray[np.uint8], reference: NDArray[np.uint8], mask: NDArray[np.bool_], boundary_px: int) -> dict[str, int]:
    hole, band = mask.view(np.uint8), boundary(mask, boundary_px).view(np.uint8)
    pixels = {"frame": mask.size, "hole": int(np.count_nonzero(hole)), "boundary": int(np.count_nonzero(band))}
    pixels["background"] = pixels["frame"] - pixels["hole"]
    sums = {f"n_{region}": 3 * count for region, count in pixels.items()}
    for kind, norm in NORMS.items():
        # OpenCV adds whole numbers, but some builds return the square of a square root.
        sums[f"{kind}_frame"] = round(cv2.norm(prediction, reference, norm))
        sums[f"{kind}_hole"] = round(cv2.norm(prediction, reference, norm, hole))
        sums[f"{kind}_boundary"] = round(cv2.norm(prediction, reference, norm, band))
        sums[f"{kind}_background"] = sums[f"{kind}_frame"] - sums[f"{kind}_hole"]
        sums[f"{kind}_onesided"] = sums[f"{kind}_background"] + round(cv2.norm(reference, norm, hole))
    return sums
