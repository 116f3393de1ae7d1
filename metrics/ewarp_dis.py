"""Flow warping error with OpenCV's DIS flow: does the video move as the reference does? Smaller is better, shown times 1000.

The definition is that of ``warping`` (Lai et al. 2018), with DIS flow of the reference (Kroeger et al. 2016, OpenCV's preset ``medium``)
in place of FlowNet2, so values compare only with each other. Needs no weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames
from vpbench.measuring import Comparison, Measure
from vpbench.metrics.warping import FlowChunk, Flows, WarpMetric, clip_sums

MIN_SIZE = 16  # pixels; DIS at preset medium needs this much in both directions (OpenCV 5.0.0 crashes on 12x64)


def dis_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Flows:
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


@dataclass(frozen=True)
class DisFlow(FlowChunk):
    """The measure: DIS flow of a chunk of frame pairs, see ``FlowChunk``."""

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"dis_flow-medium-cv{cv2.__version__}-{self.subject}-{self.pairs}-v1"

    def flows(self, frames: Frames, device: str) -> tuple[Flows, Flows]:
        """Return forward and backward flow, each float16 (T - 1, H, W, 2); always on the CPU."""
        pairs = list(itertools.pairwise(frames))
        return np.stack([dis_flow(a, b) for a, b in pairs]), np.stack([dis_flow(b, a) for a, b in pairs])


@dataclass(frozen=True)
class WarpErrorDis(Measure):
    """The measure: the prediction's sums along DIS flow of the reference, see ``clip_sums``. Frames under 16 pixels have none."""

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return "ewarp_dis-medium-v1"

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.generic]]:
        """Return the sums of one comparison."""
        return clip_sums(
            comparison.prediction, comparison.masks, lambda first: comparison.arrays(DisFlow(first), keep=False), smallest=MIN_SIZE
        )


@dataclass(frozen=True)
class EwarpDis(WarpMetric):
    """Flow warping error in one region, with DIS flow of the reference; see the module's text.

    Attributes:
        region: ``frame``, ``hole`` or ``background``.
        name: a column is ``name[region]``.

    Raises:
        ConfigError: another region.
    """

    name: str = "ewarp_dis"

    no_flow = f" (frames under {MIN_SIZE} pixels have no flow)"

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return "mean_of_pairs,flow=reference"

    @property
    def measure(self) -> WarpErrorDis:
        """The pass that gives the sums."""
        return WarpErrorDis()
