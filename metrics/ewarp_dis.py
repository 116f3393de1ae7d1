"""Flow warping error with OpenCV's DIS flow: does the video move as the reference does? Smaller is better, shown times 1000.

For each pair of frames the next predicted frame is fetched along the flow of the *reference* and compared with the predicted
frame: the squared difference on the scale 0-1, averaged over channels and over the pixels that are visible in both frames. The
clip's value is the mean over its pairs. The definition is that of Lai et al. 2018 ("Learning Blind Video Temporal Consistency"),
with DIS flow (Kroeger et al. 2016, OpenCV's preset ``medium``) in place of FlowNet2, so values compare only with each other.

A pixel is visible in both frames where its flow ``f`` ends inside the frame, the backward flow ``b`` found there leads back,
``|b + f|^2 <= 0.01 (|b|^2 + |f|^2) + 0.5``, and it lies on no motion boundary, ``|grad f|^2 <= 0.01 |f|^2 + 0.002``.
A perfect prediction does not score 0: it scores what the flow cannot explain.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames
from vpbench.measuring import Arrays, ClipValue, Comparison, Region
from vpbench.metrics.regions import check_region

REGIONS: tuple[Region, ...] = ("frame", "hole", "background")
MIN_SIZE = 16  # pixels; DIS at preset medium needs this much in both directions (OpenCV 5.0.0 crashes on 12x64)
CHUNK = 8192  # positions sampled at a time; small enough for the processor's cache
Floats = NDArray[np.float64]


def dis_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return the flow from one frame to another, rounded to float16.

    Args:
        first: uint8 (H, W, 3) RGB, at least 16x16.
        second: uint8, same shape.

    Returns:
        float16 (H, W, 2), pixels: what is at (x, y) in ``first`` is at (x, y) + flow[y, x] in ``second``; order (x, y).
    """
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # Any: OpenCV's own types forbid the None below
    flow = dis.calc(cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY), None)
    return np.asarray(flow, np.float16)


def warp(image: NDArray[np.generic], x: Floats, y: Floats) -> Floats:
    """Sample an image between its pixels, bilinearly; positions outside take the nearest border value.

    Args:
        image: (H, W, C), any real dtype.
        x: columns, pixels (0 is the centre of the first), any shape S.
        y: rows, same shape.

    Returns:
        float64 S + (C,).

    >>> warp(np.array([[[0], [10]]]), np.array([0.25, 1.0, 7.0]), np.array([0.0, 0.0, 0.0]))[:, 0]
    array([ 2.5, 10. , 10. ])
    """
    height, width, channels = image.shape
    pixels = np.ascontiguousarray(image).reshape(height * width, channels)
    columns, rows = x.ravel(), y.ravel()
    found = np.empty((columns.size, channels))
    for start in range(0, columns.size, CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = _sample(pixels, width, np.clip(columns[part], 0, width - 1), np.clip(rows[part], 0, height - 1))
    return found.reshape(*x.shape, channels)


def visible(forward: NDArray[np.float16], backward: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Return where a pixel of the first frame is found again in the second.

    Args:
        forward: flow from the first frame to the second, (H, W, 2), pixels.
        backward: flow from the second frame to the first, same shape.

    Returns:
        bool (H, W): inside the frame, consistent in both directions and on no motion boundary (see the module's text).
    """
    height, width = forward.shape[:2]
    f = forward.astype(np.float64)
    x, y = _targets(f)
    b = warp(backward.astype(np.float64), x, y)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    length = _squares(f)
    consistent = _squares(b + f) <= 0.01 * (_squares(b) + length) + 0.5
    steepness = np.zeros((height, width))
    steepness[:, :-1] += _squares(f[:, 1:] - f[:, :-1])
    steepness[:-1] += _squares(f[1:] - f[:-1])
    keep: NDArray[np.bool_] = inside & consistent & (steepness <= 0.01 * length + 0.002)
    return keep


@dataclass(frozen=True)
class WarpErrorDis:
    """The measure: (T - 1,) arrays ``sum_<region>``, float64 squared errors, and ``n_<region>``, int64 pixels, per frame pair.

    Regions are ``frame``; ``hole``, the pixels that are in the hole of the first frame or, by more than half, come from the hole
    of the second; and ``background``, all others. Only visible pixels count. Frames under 16 pixels have none.
    """

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return "ewarp_dis-medium-v1"

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.generic]]:
        """Return the sums of one comparison; the flow comes from ``comparison.reference_arrays``."""
        pairs = len(comparison.reference) - 1
        sums = {region: np.zeros(pairs, np.float64) for region in REGIONS}
        counts = {region: np.zeros(pairs, np.int64) for region in REGIONS}
        if pairs and min(comparison.reference.shape[1:3]) >= MIN_SIZE:
            flows = comparison.reference_arrays(f"dis_flow-medium-cv{cv2.__version__}-v1", lambda: _reference_flows(comparison.reference))
            holes = comparison.masks.astype(np.uint8)[..., None] * np.uint8(255)
            for t in range(pairs):
                seen = flows["visible"][t]
                x, y = (part[seen] for part in _targets(flows["forward"][t].astype(np.float64)))
                found = warp(np.concatenate([comparison.prediction[t + 1], holes[t + 1]], axis=-1), x, y)
                error = _squares(found[:, :3] - comparison.prediction[t][seen]) / 255**2
                hole = comparison.masks[t][seen] | (found[:, 3] > 127.5)
                sets: dict[Region, NDArray[np.bool_]] = {"frame": np.ones_like(hole), "hole": hole, "background": ~hole}
                for region, inside in sets.items():
                    sums[region][t] = error[inside].sum()
                    counts[region][t] = np.count_nonzero(inside)
        return {f"sum_{region}": sums[region] for region in REGIONS} | {f"n_{region}": counts[region] for region in REGIONS}


@dataclass(frozen=True)
class EwarpDis:
    """Flow warping error in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole`` or ``background``.

    Raises:
        ConfigError: another region.
    """

    region: Region = "frame"
    name: str = field(default="ewarp_dis", init=False)
    unit: str = field(default="", init=False)
    direction: Literal["higher", "lower"] = field(default="lower", init=False)
    digits: int = field(default=3, init=False)
    scale: float = field(default=1000.0, init=False)
    range: tuple[float, float] = field(default=(0.0, 1.0), init=False)
    version: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        check_region(self.name, self.region, REGIONS)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return "mean_of_pairs,flow=reference"

    @property
    def measure(self) -> WarpErrorDis:
        """The pass that gives the sums."""
        return WarpErrorDis()

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T - 1,) errors, one per pair of frames; nan where no pixel of the region is visible in both."""
        n = arrays[f"n_{self.region}"]
        mean: NDArray[np.float64] = np.where(n > 0, arrays[f"sum_{self.region}"], np.nan) / (3 * np.maximum(n, 1))
        return mean

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean over the pairs in which a pixel of the region is visible."""
        pairs = self.frames(arrays)
        used = pairs[~np.isnan(pairs)]
        excluded = len(pairs) - len(used)
        if not len(pairs):
            return ClipValue(float("nan"), 0, reason="the clip has one frame; the error needs pairs")
        if not arrays["n_frame"].any():
            reason = f"no pixel is visible in both frames of any pair (frames under {MIN_SIZE} pixels have no flow)"
            return ClipValue(float("nan"), 0, excluded, reason=reason)
        if not len(used):
            return ClipValue(float("nan"), 0, excluded, reason=f"no pixel of the {self.region} is visible in both frames of any pair")
        reason = f"no pixel of the {self.region} is visible in both frames of {excluded} of {len(pairs)} pairs" if excluded else ""
        return ClipValue(float(used.mean()), len(used), excluded, reason=reason)


def _reference_flows(reference: Frames) -> dict[str, NDArray[np.generic]]:
    """Forward flow, float16 (T - 1, H, W, 2), and the visible pixels, bool (T - 1, H, W); all that the error needs."""
    forward = np.stack([dis_flow(a, b) for a, b in itertools.pairwise(reference)])
    backward = [dis_flow(b, a) for a, b in itertools.pairwise(reference)]
    return {"forward": forward, "visible": np.stack([visible(f, b) for f, b in zip(forward, backward, strict=True)])}


def _targets(flow: Floats) -> tuple[Floats, Floats]:
    """Where every pixel goes: columns and rows, (H, W) each."""
    height, width = flow.shape[:2]
    return flow[..., 0] + np.arange(width), flow[..., 1] + np.arange(height)[:, None]


def _sample(pixels: NDArray[np.generic], width: int, x: Floats, y: Floats) -> Floats:
    """Bilinear samples, (N, C), of an image given as rows of pixels; positions lie inside it."""
    left, top = x.astype(np.intp), y.astype(np.intp)
    across, down = (x - left)[:, None], (y - top)[:, None]
    right = (left < width - 1).astype(np.intp)
    below = (top < len(pixels) // width - 1) * np.intp(width)
    corner = top * width + left
    upper = _blend(pixels, corner, right, across)
    lower = _blend(pixels, corner + below, right, across)
    return upper + (lower - upper) * down


def _blend(pixels: NDArray[np.generic], corner: NDArray[np.intp], right: NDArray[np.intp], across: Floats) -> Floats:
    first = pixels.take(corner, axis=0).astype(np.float64)
    step = pixels.take(corner + right, axis=0).astype(np.float64)
    return first + (step - first) * across


def _squares(vectors: Floats) -> Floats:
    """Squared length along the last axis."""
    squared: Floats = np.einsum("...c,...c->...", vectors, vectors)
    return squared
