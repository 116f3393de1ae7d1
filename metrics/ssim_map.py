"""The map behind SSIM (Wang et al. 2004): the similarity of every window of a frame, and its sums per region.

With ``s = prediction + reference`` and ``d = prediction - reference``, of which ``m`` are the means and ``v`` the variances in a window,

    SSIM = (m_s^2 - m_d^2 + 2 C1) (v_s - v_d + 2 C2) / ((m_s^2 + m_d^2 + 2 C1) (v_s + v_d + 2 C2)).

This is the usual formula with four filters in place of five; it is symmetric, and exactly 1 where the frames are equal, so only
windows that see a difference are computed. Sums are taken over whole numbers: they do not depend on where the computed part begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.measuring import REGIONS, Comparison, Measure
from vpbench.metrics.regions import BOUNDARY_PX, Box, boundary, check_boundary, difference_box, mask_box
from vpbench.metrics.threads import over_frames

Window = Literal["gauss11", "uniform7", "uniform65"]
Border = Literal["valid", "reflect"]
Image = NDArray[np.uint8]
PEAK = 255.0
RADIUS = {"gauss11": 5, "uniform7": 3, "uniform65": 32}  # pixels
SIGMA = 1.5  # pixels
K1, K2 = 0.01, 0.03
STRIP = {"gauss11": 48, "uniform7": 32, "uniform65": 64}  # rows of windows computed at a time, for the processor's cache
UNIT = 2.0**38  # the loss of a window is rounded to whole parts of 1 / UNIT before it is summed
LANES = 16  # pixels; a multiple of what vector instructions take at a time
MEAN_OF_CHANNELS = np.full((1, 3), 1 / 3)
_WEIGHTS = np.exp(-0.5 * (np.arange(-5, 6) / SIGMA) ** 2)
KERNEL: NDArray[np.float64] = _WEIGHTS / _WEIGHTS.sum()


def ssim_map(
    prediction: Image,
    reference: Image,
    window: Window = "gauss11",
    border: Border = "valid",
    data_range: float = 1.0,
) -> NDArray[np.float64]:
    """Return the similarity at every pixel.

    Args:
        prediction: uint8 (H, W, 3) RGB, at least as large as the window.
        reference: uint8, same shape.
        window: ``gauss11`` (sigma 1.5, biased variances), ``uniform7`` or ``uniform65`` (sample variances, as in scikit-image).
        border: ``valid``: windows inside the image, in float64; ``reflect``: windows at all pixels, the image mirrored about its
            outermost pixels, in float32 (torchmetrics since 1.4.2; within 2e-6 of float64).
        data_range: L in the constants ``(K L)^2``, in units of the full range 0-255.

    Returns:
        values from -1 to 1, the mean of the channels; (H, W), for ``valid`` less the radius of the window on each side.

    >>> flat = np.full((11, 12, 3), 40, np.uint8)
    >>> ssim_map(flat, flat)
    array([[1., 1.]])
    """
    measure = SsimMap(window, border, data_range)
    return 1 - measure.loss(prediction, reference, measure.inner(*reference.shape[:2]))


@dataclass(frozen=True)
class SsimMap(Measure):
    """The measure: (T,) arrays ``ssim_<where>``, float64 sums of the map, and ``n_<where>``, int64 counts of windows.

    ``gauss11`` with ``valid`` gives the four regions: in ``background`` only windows without any pixel of the hole count, in ``hole``
    and ``boundary`` the centre of the window decides. ``gauss11`` with ``reflect`` gives ``frame`` and ``onesided``: the whole map
    after the hole was blanked in the prediction but not in the reference. Uniform windows give ``frame``.
    Frames smaller than the window have none: all counts are 0.

    Attributes:
        window: as in ``ssim_map``.
        border: as in ``ssim_map``.
        data_range: as in ``ssim_map``.
        boundary_px: half width of the boundary band, pixels, at least 1; only ``gauss11`` with ``valid`` looks at it.

    Raises:
        ConfigError: ``boundary_px`` out of range.
    """

    window: Window = "gauss11"
    border: Border = "valid"
    data_range: float = 1.0
    boundary_px: int = BOUNDARY_PX

    def __post_init__(self) -> None:
        check_boundary(self.boundary_px)

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        band = f"-b{self.boundary_px}" if self.where == REGIONS else ""
        precision = "f32" if self.border == "reflect" else "f64"
        return f"ssim_map-{self.window}-{self.border}-L{self.data_range:g}{band}-{precision}-v2"

    @property
    def where(self) -> tuple[str, ...]:
        """What the arrays are sums over."""
        if self.window != "gauss11":
            return ("frame",)
        return REGIONS if self.border == "valid" else ("frame", "onesided")

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.generic]]:
        """Return the sums of one comparison."""
        frames, height, width = comparison.masks.shape
        parts: list[dict[str, tuple[int, int]]] = [dict.fromkeys(self.where, (0, 0))] * frames
        if min(height, width) > 2 * RADIUS[self.window]:
            parts = over_frames(lambda t: self._frame(comparison.prediction[t], comparison.reference[t], comparison.masks[t]), frames)
        arrays: dict[str, NDArray[np.generic]] = {}
        for where in self.where:
            loss, n = np.array([part[where] for part in parts], np.int64).T
            arrays |= {f"ssim_{where}": n - loss / UNIT, f"n_{where}": n}
        return arrays

    def inner(self, height: int, width: int) -> Box:
        """Return the box of the pixels that have a window."""
        margin = RADIUS[self.window] if self.border == "valid" else 0
        return margin, height - margin, margin, width - margin

    def loss(self, prediction: Image, reference: Image, box: Box) -> NDArray[np.float64]:
        """Return ``1 - similarity`` of the windows centred in ``box``, a part of ``inner``, for whole frames."""
        top, bottom, left, right = box
        radius, strip = RADIUS[self.window], STRIP[self.window]
        # In float32 small variances survive only beside a mean near 0; it may not depend on what a model puts into the hole.
        shift = 2 * round(sum(cv2.mean(reference)[:3]) / 3) if self.border == "reflect" else 0
        # Vector instructions round unlike the rest of a row. From one multiple of LANES to another every pixel is where it is in the
        # whole row, so a window has the same loss in every box that holds it.
        before, after = max(left - radius, 0) // LANES * LANES, -(-(right + radius) // LANES) * LANES
        strips = []
        for start in range(top, bottom, strip):
            stop = min(start + strip, bottom)
            above = max(start - radius, 0)
            seen = slice(above, stop + radius), slice(before, after)
            loss = self._strip_loss(prediction[seen], reference[seen], slice(start - above, stop - above), shift)
            strips.append(loss[:, left - before : right - before])
        return np.concatenate(strips)

    def _frame(self, prediction: Image, reference: Image, mask: NDArray[np.bool_]) -> dict[str, tuple[int, int]]:
        """The loss of every part of ``where``, in units, and its count of windows."""
        top, bottom, left, right = self.inner(*mask.shape)
        count = (bottom - top) * (right - left)
        loss = self._units(prediction, reference, difference_box(prediction, reference))
        total = int(loss.sum())
        parts = {"frame": (total, count)}
        if "onesided" in self.where:
            hole = mask_box(mask)
            blanked = cv2.bitwise_and(prediction, prediction, mask=(~mask).view(np.uint8))
            above, below, before, after = self._near(hole, mask.shape)
            inside = int(self._units(blanked, reference, hole).sum()) - int(loss[above:below, before:after].sum())
            parts["onesided"] = total + inside, count
        if "hole" in self.where:
            touched = cv2.dilate(mask.view(np.uint8), np.ones((2 * RADIUS[self.window] + 1,) * 2, np.uint8)).view(np.bool_)
            for region, centres in (("hole", mask), ("background", touched), ("boundary", boundary(mask, self.boundary_px))):
                parts[region] = int(loss[centres].sum()), int(np.count_nonzero(centres[top:bottom, left:right]))
            parts["background"] = total - parts["background"][0], count - parts["background"][1]
        return parts

    def _units(self, prediction: Image, reference: Image, box: Box | None) -> NDArray[np.int64]:
        """The loss in units, (H, W), where windows see ``box``; 0 elsewhere."""
        loss = np.zeros(reference.shape[:2], np.int64)
        top, bottom, left, right = near = self._near(box, loss.shape)
        if box:
            loss[top:bottom, left:right] = np.rint(self.loss(prediction, reference, near) * UNIT)
        return loss

    def _near(self, box: Box | None, shape: tuple[int, ...]) -> Box:
        """The pixels whose windows see ``box``."""
        if box is None:
            return 0, 0, 0, 0
        radius, inner = RADIUS[self.window], self.inner(shape[0], shape[1])
        return (
            max(box[0] - radius, inner[0]),
            min(box[1] + radius, inner[1]),
            max(box[2] - radius, inner[2]),
            min(box[3] + radius, inner[3]),
        )

    def _strip_loss(self, prediction: Image, reference: Image, keep: slice, shift: int) -> NDArray[Any]:
        # In place where it can be: the strip stays in the processor's cache.
        depth = cv2.CV_32F if self.border == "reflect" else cv2.CV_64F
        total = np.asarray(cv2.add(prediction, reference, dtype=depth))
        difference = np.asarray(cv2.subtract(prediction, reference, dtype=depth))
        if shift:
            total -= shift
        luminance, square = self._mean(total)[keep], self._mean(difference)[keep]
        square *= square
        total *= total
        contrast = self._mean(total)[keep]
        contrast -= luminance * luminance
        difference *= difference
        variance = self._mean(difference)[keep]
        variance -= square
        if self.window != "gauss11":
            n = (2 * RADIUS[self.window] + 1) ** 2
            contrast *= n / (n - 1)
            variance *= n / (n - 1)
        if shift:
            luminance += shift
        luminance *= luminance
        luminance += 2 * (K1 * self.data_range * PEAK) ** 2
        contrast += 2 * (K2 * self.data_range * PEAK) ** 2
        similarity = (luminance - square) * (contrast - variance)
        luminance += square
        contrast += variance
        similarity /= luminance * contrast
        return np.asarray(cv2.transform(1 - similarity, MEAN_OF_CHANNELS))

    def _mean(self, values: NDArray[Any]) -> NDArray[Any]:
        """The weighted mean of the window around every pixel, the image mirrored about its outermost pixels."""
        if self.window == "gauss11":
            return np.asarray(cv2.sepFilter2D(values, -1, KERNEL, KERNEL))
        return np.asarray(cv2.blur(values, (2 * RADIUS[self.window] + 1,) * 2))
