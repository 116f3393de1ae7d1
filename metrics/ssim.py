"""Structural similarity (Wang et al. 2004); larger is better, 1 where the window is reproduced exactly.

K1 = 0.01, K2 = 0.03, the mean of the three channels of RGB, in these variants:

* ``gauss11``, ``valid``, the default: Gaussian window of 11x11 pixels with sigma 1.5, biased variances, windows inside the image.
  In ``background`` only windows without any pixel of the hole count, so that nothing in the hole can change the value. In ``hole``
  and ``boundary`` the centre of the window decides: such windows also see pixels outside the region.
* ``gauss11``, ``reflect``: the same window at every pixel of the mirrored image, as torchmetrics since 1.4.2 and with it the official
  VPBench evaluation (TencentARC/VideoPainter). Its masked value is the background with ``onesided``: the hole is blanked in the
  prediction but not in the reference, and every window counts.
* ``uniform65``: mean of 65x65 pixels and sample variances, as in the evaluation of E2FGVI and ProPainter.
* ``uniform7``: the same with 7x7 pixels; with ``data_range`` 2 it is the SSIM of DEVIL (MichiganCOG/video-inpainting-evaluation),
  whose library took frames on 0-1 for a range from -1 to 1.

Checked against scikit-image and torchmetrics in ``tests/metrics/test_ssim.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import ConfigError
from vpbench.measuring import Arrays, ClipMetric, ClipValue
from vpbench.metrics.regions import BOUNDARY_PX
from vpbench.metrics.ssim_map import RADIUS, Border, SsimMap, Window

VALID = """\
  window=gauss11 border=valid: region frame, hole, background or boundary
  window=gauss11 border=reflect: region frame, or background with onesided=true
  window=uniform65 or uniform7, border=valid, data_range=1 or 2: region frame"""


@dataclass(frozen=True)
class Ssim(ClipMetric):
    """Structural similarity in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole``, ``background`` or ``boundary``; which of them depends on the variant.
        name: a column is ``name[region]``.
        boundary_px: half width of the boundary band, pixels, at least 1.
        window: ``gauss11``, ``uniform7`` or ``uniform65``.
        border: ``valid``: windows inside the image; ``reflect``: windows at all pixels of the mirrored image.
        data_range: L in the constants ``(K L)^2``, for frames on the scale 0-1.
        onesided: with ``reflect``, in the background: the hole is blanked in the prediction alone.

    Raises:
        ConfigError: an unknown region, a ``boundary_px`` out of range, or options that do not go together.
    """

    name: str = "ssim"
    boundary_px: int = BOUNDARY_PX
    window: Window = "gauss11"
    border: Border = "valid"
    data_range: float = 1.0
    onesided: bool = False

    direction = "higher"
    digits = 4
    range = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self._defined():
            raise ConfigError(
                f"{self.name}: not defined for region={self.region} window={self.window} border={self.border} "
                f"data_range={self.data_range} onesided={self.onesided}; defined are\n{VALID}."
            )
        SsimMap(boundary_px=self.boundary_px)  # checks the width of the band in every variant

    def _defined(self) -> bool:
        if self.window in ("uniform7", "uniform65"):
            return self.border == "valid" and self.data_range in (1, 2) and self.region == "frame" and not self.onesided
        if self.window != "gauss11" or self.data_range != 1:
            return False
        if self.border == "reflect":
            return (self.region, self.onesided) in (("frame", False), ("background", True))
        return self.border == "valid" and not self.onesided

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return (
            f"pooled,rgb,{self.window},{self.border}"
            + (f",L={self.data_range:g}" if self.data_range != 1 else "")
            + (f",px={self.boundary_px}" if self.region == "boundary" else "")
            + (",onesided" if self.onesided else "")
        )

    @property
    def measure(self) -> SsimMap:
        """The pass that gives the sums."""
        return SsimMap(self.window, self.border, self.data_range, self.boundary_px)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) means of the map; nan where the region has no window."""
        total, n = self._sums(arrays)
        return np.where(n > 0, total, np.nan) / np.maximum(n, 1)

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean of the map over all windows of the region in the clip."""
        total, n = self._sums(arrays)
        used = n > 0
        count, excluded = int(used.sum()), int((~used).sum())
        if not arrays["n_frame"].any():
            size = 2 * RADIUS[self.window] + 1
            return ClipValue(float("nan"), 0, excluded, reason=f"the frames are smaller than the window of {size}x{size} pixels")
        if not count:
            return ClipValue(float("nan"), 0, excluded, reason=f"no window lies in the {self.region} in any frame")
        reason = f"no window lies in the {self.region} in {excluded} of {len(n)} frames" if excluded else ""
        return ClipValue(float(total[used].sum()) / int(n.sum()), count, excluded, reason=reason)

    def _sums(self, arrays: Arrays) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        where = "onesided" if self.onesided else self.region
        return arrays[f"ssim_{where}"], arrays[f"n_{where}"]
