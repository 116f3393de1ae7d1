"""The contract between the harness and the metrics: comparisons, measures, metrics.

A *measure* is one pass over a comparison (region sums, an SSIM map, a network). It gives arrays per frame, which are stored
in the run folder. A *metric* is a reduction of one measure's arrays to a value of one clip in one region. Protocols choose metrics;
metrics that read the same measure share its pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks

Arrays = Mapping[str, NDArray[Any]]
Region = Literal["frame", "hole", "background", "boundary"]
T = TypeVar("T")


def _compute(array_id: str, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return compute()


@dataclass(frozen=True)
class Comparison:
    """A prediction beside its reference, with everything derived from the pair computed at most once.

    Attributes:
        prediction: uint8 (T, H, W, 3) RGB.
        reference: uint8 (T, H, W, 3) RGB, the video the prediction is compared with.
        masks: bool (T, H, W), True = hole.
        has_truth: whether the reference is the true answer inside the hole; False for edits without a known result.
        reference_arrays: ``(array_id, compute) -> arrays``, a cache for what depends on the reference alone (optical flow,
            say); it may come from disk, so ``compute`` must give the values in the precision in which they are used.
    """

    prediction: Frames
    reference: Frames
    masks: Masks
    has_truth: bool = True
    reference_arrays: Callable[[str, Callable[[], dict[str, NDArray[Any]]]], Arrays] = _compute
    _derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: str, compute: Callable[[], T]) -> T:
        """Return the derived thing ``key``, computing it on the first call."""
        if key not in self._derived:
            self._derived[key] = compute()
        value: T = self._derived[key]
        return value


class Measure(Protocol):
    """One pass over a comparison."""

    @property
    def array_id(self) -> str:
        """Names the pass with every setting that changes its arrays, e.g. ``region_sums-b8-v1``; a valid folder name."""

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return arrays whose first axis runs over the frames (or frame pairs) of the clip."""


@dataclass(frozen=True)
class ClipValue:
    """A metric's value for one clip.

    Attributes:
        value: the number, or nan when it is undefined for this clip.
        n: frames (or pairs) that contributed.
        excluded: frames (or pairs) that did not.
        exact: frames that reproduce the reference exactly (their PSNR is infinite).
        reason: why ``value`` is nan or frames were excluded; empty otherwise.
    """

    value: float
    n: int
    excluded: int = 0
    exact: int = 0
    reason: str = ""


class Metric(Protocol):
    """A reduction of one measure's arrays to one value per clip; carries the metadata that tables read.

    Implementations are frozen dataclasses constructed by the protocol as ``Metric(region=..., **options)``.
    """

    @property
    def name(self) -> str:
        """The metric's name; a column is ``name[region]``."""

    @property
    def region(self) -> Region:
        """Where it looks."""

    @property
    def unit(self) -> str:
        """``dB``, or empty where there is none."""

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which values are better."""

    @property
    def digits(self) -> int:
        """Decimals in tables."""

    @property
    def scale(self) -> float:
        """People's tables show ``value * scale``."""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest possible clip value."""

    @property
    def version(self) -> int:
        """Counts up whenever the same inputs would give another value."""

    @property
    def variant(self) -> str:
        """Every convention that fixes the value's meaning, e.g. ``pooled,cap=100``; goes into the signature."""

    @property
    def measure(self) -> Measure:
        """The pass whose arrays this metric reduces."""

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """(T,) values per frame; may hold inf and nan."""

    def clip(self, arrays: Arrays) -> ClipValue:
        """The value of the whole clip; never inf."""
