"""What the flow warping errors share: does the video move as a flow says? Smaller is better, shown times 1000.

For each pair of frames the next frame of a video (the *subject*) is fetched along a flow and compared with the frame itself: the squared
difference on the scale 0-1, averaged over channels and over the pixels that are visible in both frames. The clip's value is the mean over
its pairs. The definition is that of Lai et al. 2018 ("Learning Blind Video Temporal Consistency", phoenix104104/
fast_blind_video_consistency); which network gives the flow is the business of ``ewarp_dis`` and ``ewarp``, and values of different
networks never compare.

A pixel is visible in both frames where its flow ``f`` ends inside the frame, the backward flow ``b`` found there leads back,
``|b + f|^2 <= 0.01 (|b|^2 + |f|^2) + 0.5``, and it lies on no motion boundary, ``|grad f|^2 <= 0.01 |f|^2 + 0.002``. Lai et al. have
all but the first condition; they repeat the border outside the frame.

A perfect prediction does not score 0: it scores what the flow cannot explain.
Checked against MichiganCOG/video-inpainting-evaluation in ``tests/parity/test_ewarp_parity.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.measuring import Arrays, ClipMetric, ClipValue, Comparison, Measure, Part, Region

Subject = Literal["prediction", "reference"]
Floats = NDArray[np.float64]
Flows = NDArray[np.float16]
REGIONS: tuple[Region, ...] = ("frame", "hole", "background")
PAIRS = 32  # frame pairs whose flow is computed and stored together: 57 MB at 480x720, whatever the length of the clip
CHUNK = 8192  # positions sampled at a time; small enough for the processor's cache


def warp(image: NDArray[np.generic], x: Floats, y: Floats) -> Floats:
    """Sample an image between its pixels, bilinearly; positions outside take the nearest border value.

    As ``torch.nn.functional.grid_sample`` with ``align_corners=True`` and ``padding_mode="border"``, in pixels.

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


def visible(forward: Flows, backward: Flows) -> NDArray[np.bool_]:
    """Return where a pixel of the first frame is found again in the second.

    Args:
        forward: flow from the first frame to the second, (H, W, 2), pixels, order (x, y).
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


def error_sums(frames: Frames, masks: Masks, forward: Flows, seen: NDArray[np.bool_]) -> dict[Region, tuple[np.float64, np.intp]]:
    """Return the squared error of one pair of frames and the pixels it is summed over, for each region.

    Args:
        frames: uint8 (2, H, W, 3) RGB, a frame and the next.
        masks: bool (2, H, W), True = hole.
        forward: flow from the first to the second, (H, W, 2), pixels.
        seen: bool (H, W), the pixels that count.

    Returns:
        ``{region: (sum over pixels and channels on the scale 0-1, pixels)}`` for ``frame``; ``hole``, the pixels that are in the hole
        of the first frame or, by more than half, come from the hole of the second; and ``background``, all others.
    """
    x, y = (part[seen] for part in _targets(forward.astype(np.float64)))
    hole_255 = masks[1, ..., None] * np.uint8(255)
    found = warp(np.concatenate([frames[1], hole_255], axis=-1), x, y)
    error = _squares(found[:, :3] - frames[0][seen]) / 255**2
    hole = masks[0][seen] | (found[:, 3] > 127.5)
    sets: dict[Region, NDArray[np.bool_]] = {"frame": np.ones_like(hole), "hole": hole, "background": ~hole}
    return {region: (error[inside].sum(), np.count_nonzero(inside)) for region, inside in sets.items()}


def clip_sums(video: Frames, masks: Masks, flow_of: Callable[[int], Arrays], smallest: int = 1) -> dict[str, NDArray[np.generic]]:
    """Return the sums of ``error_sums`` for every pair of frames of a clip.

    Args:
        video: the subject, uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W), True = hole.
        flow_of: the arrays of the ``FlowChunk`` that begins with a pair; called for one chunk after the other.
        smallest: height and width, pixels, under which frames have no flow and so no visible pixel.

    Returns:
        (T - 1,) arrays ``sum_<region>``, float64, and ``n_<region>``, int64 pixels.
    """
    pairs = len(video) - 1
    sums = {region: np.zeros(pairs, np.float64) for region in REGIONS}
    counts = {region: np.zeros(pairs, np.int64) for region in REGIONS}
    if min(video.shape[1:3]) >= smallest:
        for first in range(0, pairs, PAIRS):
            for t, found in enumerate(_chunk_sums(video[first:], masks[first:], flow_of(first)), start=first):
                for region, (total, count) in found.items():
                    sums[region][t], counts[region][t] = total, count
    return {f"sum_{region}": sums[region] for region in REGIONS} | {f"n_{region}": counts[region] for region in REGIONS}


def _chunk_sums(video: Frames, masks: Masks, flow: Arrays) -> Iterator[dict[Region, tuple[np.float64, np.intp]]]:
    """The sums of the pairs of one chunk; a function of its own, so that no flow outlives it into the next chunk's computation."""
    for t, (forward, seen) in enumerate(zip(flow["forward"], flow["visible"], strict=True)):
        yield error_sums(video[t : t + 2], masks[t : t + 2], forward, seen)


def video_of(comparison: Comparison, subject: Subject) -> Frames:
    """Return the prediction or the reference, uint8 (T, H, W, 3)."""
    return comparison.prediction if subject == "prediction" else comparison.reference


@dataclass(frozen=True)
class FlowChunk(Measure):
    """The measure: flow of up to ``PAIRS`` consecutive frame pairs of one of the two videos, and the pixels where it holds.

    Arrays: ``forward``, float16 (N, H, W, 2) pixels, what is at (x, y) in a frame is at (x, y) + forward[y, x] in the next; and
    ``visible``, bool (N, H, W). Backward flow serves only ``visible`` and is not kept.

    Attributes:
        first: the first pair; pair t is frames t and t + 1.
        subject: whose flow.
    """

    first: int = 0
    subject: Subject = "reference"

    @property
    def reads(self) -> frozenset[Part]:
        """Only the video whose flow it is."""
        return frozenset((self.subject,))

    @property
    def pairs(self) -> str:
        """The chunk as it stands in the array id."""
        return f"pairs{self.first}-{self.first + PAIRS - 1}"

    @abstractmethod
    def flows(self, frames: Frames, device: str) -> tuple[Flows, Flows]:
        """Return forward and backward flow, each float16 (T - 1, H, W, 2), of the consecutive pairs of uint8 (T, H, W, 3) frames."""

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of one comparison."""
        frames = video_of(comparison, self.subject)[self.first : self.first + PAIRS + 1]
        forward, backward = self.flows(frames, comparison.device)
        return {"forward": forward, "visible": np.stack([visible(f, b) for f, b in zip(forward, backward, strict=True)])}


@dataclass(frozen=True)
class WarpMetric(ClipMetric):
    """The mean of ``clip_sums`` in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole`` or ``background``.
        name: a column is ``name[region]``.

    Raises:
        ConfigError: another region.
    """

    direction = "lower"
    digits = 3
    scale = 1000.0
    range = (0.0, 1.0)
    regions = REGIONS

    no_flow: ClassVar[str] = ""  # when the network gives no flow, as a remark in brackets

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
            return ClipValue(float("nan"), 0, excluded, reason=f"no pixel is visible in both frames of any pair{self.no_flow}")
        if not len(used):
            return ClipValue(float("nan"), 0, excluded, reason=f"no pixel of the {self.region} is visible in both frames of any pair")
        reason = f"no pixel of the {self.region} is visible in both frames of {excluded} of {len(pairs)} pairs" if excluded else ""
        return ClipValue(float(used.mean()), len(used), excluded, reason=reason)


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
