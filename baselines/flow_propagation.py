"""Carries visible pixels into the hole along optical flow, from both sides in time.

The classical recipe of flow-guided video inpainting (Xu et al., "Deep Flow-Guided Video Inpainting", CVPR 2019) without a
network: flow by DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016), continued smoothly into
the hole, then followed until it reaches a visible pixel. Coordinates are carried instead of colours, so each filled pixel is
interpolated once however long its way was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.baselines.spatial import inpaint, interpolate, one_thread
from vpbench.clip import Frames, MaskedClip, Masks
from vpbench.errors import ConfigError

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
SMALLEST_PX = 32  # frames with a shorter side get zero flow: DIS has nothing to match
HOLE_MARGIN_PX = 7  # flow this close to the hole is not trusted: DIS compares patches of 8 x 8
ERROR_FLOOR_PX = 0.1  # disagreement that every step is charged, so that short ways win

Flow = NDArray[np.float32]


class Step(NamedTuple):
    """One step in time for the N hole pixels of a frame."""

    target: NDArray[np.float32]  # (N, 2) x, y in the neighbouring frame
    error: NDArray[np.float32]  # (N,) forward-backward disagreement, px


class Source(NamedTuple):
    """Where the N hole pixels of a frame come from."""

    time: NDArray[np.int32]  # (N,) frame index, -1 = nowhere
    place: NDArray[np.float32]  # (N, 2) x, y in that frame
    cost: NDArray[np.float32]  # (N,) sum of the disagreements on the way


@dataclass(frozen=True)
class FlowPropagation:
    """Follows the flow to visible pixels before and after, mixes the two by confidence; the rest by Telea's method.

    Attributes:
        preset: OpenCV's DIS preset: ``ultrafast``, ``fast`` or ``medium``.
        consistency_px: forward-backward disagreement, summed along the way, that still counts as the same point.
        passes: how often the flow is computed: first on the visible pixels alone, then on the result of the pass before.

    Raises:
        ConfigError: an unknown preset, no pass.
    """

    preset: str = "medium"
    consistency_px: float = 3.0
    passes: int = 2
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"preset={self.preset!r}: expected one of {', '.join(PRESETS)}.")
        if self.passes < 1:
            raise ConfigError(f"passes={self.passes}: expected at least 1.")

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3); ``seed`` has no effect."""
        result = clip.frames.copy()
        if not clip.masks.any():
            return result
        unknown = clip.masks
        for _ in range(self.passes):
            with one_thread():
                to_next, to_previous = self._steps(result, unknown, clip.masks)
            before = self._trace(clip.masks, to_previous, range(len(result)), -1)
            after = self._trace(clip.masks, to_next, range(len(result) - 1, -1, -1), 1)
            result = _mix(clip.frames, clip.masks, before, after)
            unknown = np.zeros_like(clip.masks)
        return result

    def _steps(self, frames: Frames, unknown: Masks, masks: Masks) -> tuple[list[Step | None], list[Step | None]]:
        """Return for every frame the step of its hole pixels to the next and to the previous frame (None: none needed).

        Args:
            frames: what the flow is computed on, uint8 (T, H, W, 3).
            unknown: where ``frames`` shows nothing to go by, bool (T, H, W).
            masks: the hole, bool (T, H, W).
        """
        dis = cv2.DISOpticalFlow.create(PRESETS[self.preset])
        to_next: list[Step | None] = [None] * len(frames)
        to_previous: list[Step | None] = [None] * len(frames)
        here = _prepare(frames[0], unknown[0])
        for t in range(len(frames) - 1):
            there = _prepare(frames[t + 1], unknown[t + 1])
            if masks[t].any() or masks[t + 1].any():
                forward = _complete_flow(dis, here, there)
                backward = _complete_flow(dis, there, here)
                to_next[t] = _step(masks[t], forward, backward)
                to_previous[t + 1] = _step(masks[t + 1], backward, forward)
            here = there
        return to_next, to_previous

    def _trace(self, masks: Masks, steps: list[Step | None], order: range, direction: int) -> list[Source]:
        """Follow ``steps`` from every hole pixel to a visible one; one Source for every frame, in the order of time."""
        height, width = masks.shape[1:]
        sources: list[Source] = [_nowhere(int(mask.sum())) for mask in masks]
        for t in order:
            step, source = steps[t], sources[t]
            if step is None:
                continue
            neighbour = t + direction
            x, y = np.rint(step.target).astype(np.int64).T
            ok = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            x, y, target = x[ok], y[ok], step.target[ok]
            hole = masks[neighbour][y, x]
            index = (np.cumsum(masks[neighbour]).reshape(height, width) - 1)[y, x]  # which hole pixel of the neighbour
            time, place, cost = np.full(len(x), neighbour, np.int32), target.copy(), step.error[ok] + np.float32(ERROR_FLOOR_PX)
            via = sources[neighbour]
            time[hole] = via.time[index[hole]]
            place[hole] = via.place[index[hole]] + (target - np.rint(target))[hole]
            cost[hole] += via.cost[index[hole]]
            time[cost > self.consistency_px] = -1
            source.time[ok], source.place[ok], source.cost[ok] = time, place, cost
        return sources


def _mix(frames: Frames, masks: Masks, before: list[Source], after: list[Source]) -> Frames:
    """Fill the hole with the colours at the sources, weighted by ``1 / cost^2``; what has none by Telea's method."""
    result, left = frames.copy(), masks.copy()
    for t, mask in enumerate(masks):
        colour, weight = np.zeros((int(mask.sum()), 3), np.float32), np.zeros(int(mask.sum()), np.float32)
        for source in (before[t], after[t]):
            found = source.time >= 0
            share = 1 / np.square(source.cost[found])
            colour[found] += share[:, None] * _sample(frames, masks, source, found)
            weight[found] += share
        done = weight > 0
        y, x = (axis[done] for axis in np.nonzero(mask))
        result[t, y, x] = np.rint(colour[done] / weight[done, None]).clip(0, 255).astype(np.uint8)
        left[t, y, x] = False
    return inpaint(result, left)


def _nowhere(count: int) -> Source:
    return Source(np.full(count, -1, np.int32), np.zeros((count, 2), np.float32), np.zeros(count, np.float32))


def _prepare(frame: Frames, mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the grey frame with its hole filled smoothly, uint8 (H, W), and bool (H, W): where its flow may be trusted."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    smooth = interpolate(grey.astype(np.float32)[..., None], ~mask)[..., 0]
    size = 2 * HOLE_MARGIN_PX + 1
    near = cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8))
    return np.rint(smooth).astype(np.uint8), near == 0


def _complete_flow(
    dis: cv2.DISOpticalFlow,
    here: tuple[NDArray[np.uint8], NDArray[np.bool_]],
    there: tuple[NDArray[np.uint8], NDArray[np.bool_]],
) -> Flow:
    """Return the flow from ``here`` to ``there``, float32 (H, W, 2), continued smoothly where either hole disturbs it."""
    if min(here[0].shape) < SMALLEST_PX:
        return np.zeros((*here[0].shape, 2), np.float32)
    flow = np.asarray(dis.calc(here[0], there[0], None), np.float32)
    trusted = here[1] & (_remap(there[1].astype(np.float32), _target(flow)) > 0.99)
    return interpolate(flow, trusted)


def _target(flow: Flow) -> NDArray[np.float32]:
    """Return where each pixel lands: float32 (H, W, 2) x, y."""
    rows, columns = np.indices(flow.shape[:2], np.float32)
    return np.stack([columns, rows], axis=-1) + flow


def _remap(values: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sample ``values`` (H, W[, C]) bilinearly at x, y (H, W, 2)."""
    return np.asarray(cv2.remap(values, target[..., 0], target[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _step(mask: NDArray[np.bool_], flow: Flow, reverse: Flow) -> Step:
    """Return where the hole pixels of a frame go along ``flow`` and how far ``reverse`` misses the way back."""
    target = _target(flow)
    error = np.linalg.norm(flow + _remap(reverse, target), axis=-1)
    return Step(target[mask], error[mask].astype(np.float32))


def _sample(frames: Frames, masks: Masks, source: Source, found: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the colours at the sources, float32 (M, 3): bilinear over those of the four neighbours that are visible."""
    time, place = source.time[found], source.place[found]
    corner = np.floor(place)
    fraction = place - corner
    x0, y0 = corner.astype(np.int64).T
    colour, total = np.zeros((len(time), 3), np.float32), np.zeros(len(time), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = (x0 + dx).clip(0, masks.shape[2] - 1), (y0 + dy).clip(0, masks.shape[1] - 1)
            weight = np.abs(1 - dx - fraction[:, 0]) * np.abs(1 - dy - fraction[:, 1]) * ~masks[time, y, x]
            colour += weight[:, None] * frames[time, y, x]
            total += weight
    return np.asarray(colour / np.maximum(total, 1e-6)[:, None], np.float32)
