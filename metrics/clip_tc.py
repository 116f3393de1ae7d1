"""Temporal consistency: the cosine between CLIP's embeddings of consecutive frames; larger is steadier.

By default each frame is seen in the squares of ``cover`` (``vpbench.metrics.clip_image``), whose embeddings are averaged and made of
length 1 again. A frozen video scores exactly 1, so the value says little without the reference's own: ``value=delta`` is the difference.

``preprocessing=vpbench-official`` is the temporal consistency of TencentARC/VideoPainter ``evaluate/metrics.py``; in ``hole`` the frames
are black outside the hole, which makes them alike. ``value=vbench`` is the combination of Vchitect/VBench: the mean of the cosines with
the previous and with the first frame, negative ones counted as 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench import weights
from vpbench.errors import ConfigError
from vpbench.measuring import Arrays, ClipMetric, ClipValue, Comparison, Measure, Network, Part, Region, frame_mean
from vpbench.metrics.clip_encoder import NETWORKS, PRECISIONS, Precision, cosine
from vpbench.metrics.clip_image import ClipImages, Crop
from vpbench.metrics.options import check_options

Preprocessing = Literal["clip", "vpbench-official"]
PREPROCESSINGS: tuple[Preprocessing, ...] = get_args(Preprocessing)
Value = Literal["consistency", "delta", "vbench"]
VALUES: tuple[Value, ...] = get_args(Value)


@dataclass(frozen=True)
class ClipPairs(Measure):
    """The measure: float64 (T - 1,) cosines of every frame but the first, with the previous frame (``next``) and with the first.

    Attributes:
        images: what is seen of the frames of the prediction.
        with_reference: also give ``next_reference``, the same of the reference's frames.
    """

    images: ClipImages
    with_reference: bool = False

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        videos = "both" if self.with_reference else self.images.of
        return f"clip_pairs-{weights.label(self.networks[0])}-{videos}-{self.images.crop}-{self.images.precision}-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """What its passes read."""
        return self.images.reads | (self._reference.reads if self.with_reference else frozenset())

    @property
    def networks(self) -> tuple[Network, ...]:
        """CLIP."""
        return self.images.networks

    @property
    def _reference(self) -> ClipImages:
        return replace(self.images, of="reference")

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[np.float64]]:
        """Return the cosines of one comparison."""
        frames = _averaged(comparison.arrays(self.images))
        arrays = {"next": cosine(frames[1:], frames[:-1]), "first": cosine(frames[1:], frames[:1])}
        if self.with_reference:
            frames = _averaged(comparison.arrays(self._reference))
            arrays["next_reference"] = cosine(frames[1:], frames[:-1])
        return arrays


def _averaged(arrays: Arrays) -> NDArray[np.float64]:
    """The mean direction of each frame's squares; ``cosine`` makes it of length 1."""
    mean: NDArray[np.float64] = arrays["embeddings"].mean(axis=1, dtype=np.float64)
    return mean


@dataclass(frozen=True)
class ClipTc(ClipMetric):
    """Temporal consistency; see the module's text.

    ``delta`` is signed, with 0 as its aim: a value above 0 is a video steadier than the reference, such as a frozen one. It is there to
    be read beside the consistency and must not count in a mean rank.

    Attributes:
        region: ``frame``, or ``hole`` with the official preprocessing.
        network: ``clip-vit-b32`` or ``clip-vit-l14``.
        weights: where its weights come from, see ``vpbench.measuring.Network``.
        preprocessing: ``clip`` or ``vpbench-official``.
        value: ``consistency``, ``delta`` (the prediction's consistency minus the reference's) or ``vbench``.
        precision: ``exact`` (float32) or ``fast`` (bfloat16 on CUDA).

    Raises:
        ConfigError: an unknown name, or the hole without the official preprocessing.
    """

    name: str = "clip_tc"
    network: str = "clip-vit-b32"
    weights: str = ""
    preprocessing: Preprocessing = "clip"
    value: Value = "consistency"
    precision: Precision = "exact"

    direction: ClassVar[Literal["higher", "lower"]] = "higher"
    digits: ClassVar[int] = 4
    range: ClassVar[tuple[float, float]] = (-2.0, 2.0)  # of delta; the others stay within -1 and 1
    regions: ClassVar[tuple[Region, ...]] = ("frame", "hole")
    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, network=NETWORKS, preprocessing=PREPROCESSINGS, value=VALUES, precision=PRECISIONS)
        if self.region == "hole" and self.preprocessing != "vpbench-official":
            raise ConfigError(f"{self.name}: the region 'hole' is defined with preprocessing=vpbench-official only.")

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"pairs,{self.value},{self.preprocessing}"

    @property
    def measure(self) -> ClipPairs:
        """The pass that gives the cosines."""
        crop: Crop = "cover"
        if self.preprocessing == "vpbench-official":
            crop = "squash" if self.region == "frame" else "masked_squash"
        return ClipPairs(ClipImages(self.network, self.weights, crop, self.precision), self.value == "delta")

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T - 1,) values, of every frame but the first."""
        if self.value == "delta":
            return np.asarray(arrays["next"] - arrays["next_reference"])
        if self.value == "vbench":
            return np.asarray((np.maximum(arrays["next"], 0) + np.maximum(arrays["first"], 0)) / 2)
        return np.asarray(arrays["next"])

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean over the pairs; nan for a single frame."""
        values = self.frames(arrays)
        if not len(values):
            return ClipValue(float("nan"), 0, reason="a single frame has no pair of consecutive frames")
        return frame_mean(values, "undefined")
