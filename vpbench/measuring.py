"""The contract between the harness and the metrics: comparisons, measures, metrics.

A *measure* is one pass over a comparison (region sums, an SSIM map, a network). It gives arrays, which are stored and found again by
its ``array_id``, so that each pass runs at most once per clip whatever protocols ask for it. A *metric* is a reduction of one measure's
arrays: to a value of one clip (``ClipMetric``) or, over all clips, to one value of the set (``SetMetric``). Protocols choose metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.errors import ConfigError

Arrays = Mapping[str, NDArray[Any]]
Region = Literal["frame", "hole", "background", "boundary"]
Part = Literal["prediction", "reference", "masks", "texts"]
REGIONS: tuple[Region, ...] = get_args(Region)
PAIR: frozenset[Part] = frozenset(("prediction", "reference", "masks"))
T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """A network that a measure needs.

    Attributes:
        name: of the network, as in the table of weights (``vpbench weights list``): ``alexnet``, ``clip-vit-l14``, ...
        source: where its weights come from: empty for the table's files wherever they lie, the path of a file, or ``random-<seed>``.
    """

    name: str
    source: str = ""


class Measure(ABC):
    """One pass over a comparison. Implementations are frozen dataclasses whose fields are the pass's settings."""

    @property
    @abstractmethod
    def array_id(self) -> str:
        """Names the pass with every setting that changes its arrays (network and weight hash, preprocessing, precision, version).

        A valid folder name, e.g. ``region_sums-b8-v2``.
        """

    @property
    def reads(self) -> frozenset[Part]:
        """What its arrays depend on; a pass that does not read the prediction is shared by all models."""
        return PAIR

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks it needs, those of the passes it calls included."""
        return ()

    @abstractmethod
    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the arrays, per frame, frame pair or window of the clip; other passes come from ``comparison.arrays``."""


Compute = Callable[[], dict[str, NDArray[Any]]]
Store = Callable[[Measure, Compute], Arrays]  # gives the arrays of a pass, computing them when it has none


def compute(measure: Measure, call: Compute) -> Arrays:
    """The store that keeps nothing."""
    return call()


@dataclass(frozen=True)
class Comparison:
    """A prediction beside its reference, with everything derived from the pair computed at most once.

    Attributes:
        prediction: uint8 (T, H, W, 3) RGB.
        reference: uint8 (T, H, W, 3) RGB, the video the prediction is compared with.
        masks: bool (T, H, W), True = hole.
        has_truth: whether the reference is the true answer inside the hole; False for edits without a known result.
        caption: text describing the whole (for edits: the edited) video; may be empty.
        region_caption: text describing what belongs into the hole; may be empty.
        device: where networks run, a torch device (``cpu``, ``cuda:0``).
        stored: the store behind ``arrays``.
    """

    prediction: Frames
    reference: Frames
    masks: Masks
    has_truth: bool = True
    caption: str = ""
    region_caption: str = ""
    device: str = "cpu"
    stored: Store = compute
    _derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: str, call: Callable[[], T]) -> T:
        """Return the derived thing ``key``, computing it on the first call."""
        if key not in self._derived:
            self._derived[key] = call()
        value: T = self._derived[key]
        return value

    def arrays(self, measure: Measure, *, keep: bool = True) -> Arrays:
        """Return the arrays of a pass: from memory, from disk, or computed now and stored.

        Args:
            measure: the pass.
            keep: hold the arrays in memory as long as the comparison lives; False for what is large and read once.
        """
        if not keep:
            return self.stored(measure, lambda: measure(self))
        return self.once(f"arrays {measure.array_id}", lambda: self.stored(measure, lambda: measure(self)))


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


@dataclass(frozen=True)
class SetValue:
    """A set metric's value over all clips.

    Attributes:
        value: the number, or nan when it is undefined for this set.
        n: feature vectors that contributed.
        leave_one_out: the value without each clip, by the clip's name (for the jackknife); empty where it is undefined.
        reason: why ``value`` is nan, or what a reader must know of it; empty otherwise.
        dimensions: the length of a feature vector; 0 where the metric has none.
    """

    value: float
    n: int
    leave_one_out: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    dimensions: int = 0


@dataclass(frozen=True)
class Metric(ABC):
    """What every metric tells about itself; tables read this and never the name.

    The protocol constructs metrics as ``Metric(region=..., name=<its key>, **options)``.

    Attributes:
        region: where it looks.
        name: a column is ``name[region]``.

    Raises:
        ConfigError: a region in which it is not defined.
    """

    region: Region = "frame"
    name: str = ""

    unit: ClassVar[str] = ""  # ``dB``, or empty where there is none
    direction: ClassVar[Literal["higher", "lower"]]  # which values are better
    digits: ClassVar[int]  # decimals in tables
    scale: ClassVar[float] = 1.0  # people's tables show ``value * scale``
    range: ClassVar[tuple[float, float]]  # smallest and largest possible value
    version: ClassVar[int] = 1  # counts up whenever the same inputs would give another value
    regions: ClassVar[tuple[Region, ...]] = REGIONS  # where it is defined
    needs_truth: ClassVar[bool] = True  # outside the background it is undefined for edits without a known result

    def __post_init__(self) -> None:
        if self.region not in self.regions:
            raise ConfigError(f"{self.name}: unknown region {self.region!r}; known: {', '.join(self.regions)}.")

    @property
    @abstractmethod
    def variant(self) -> str:
        """Every convention that fixes the value's meaning, e.g. ``pooled,cap=100``; goes into the signature."""

    @property
    @abstractmethod
    def measure(self) -> Measure:
        """The pass whose arrays this metric reduces."""


class ClipMetric(Metric):
    """A metric with a value for every clip."""

    @abstractmethod
    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """(T,) values per frame (or pair of frames); may hold inf and nan."""

    @abstractmethod
    def clip(self, arrays: Arrays) -> ClipValue:
        """The value of the whole clip; never inf."""


class SetMetric(Metric):
    """A metric with one value for all clips together."""

    @abstractmethod
    def reduce(self, clips: Mapping[str, Arrays]) -> SetValue:
        """The value over the clips, by name, in the order given; equal arrays give equal bits wherever they were computed."""


def frame_mean(values: NDArray[np.float64], why_empty: str) -> ClipValue:
    """The mean over the frames that have a value: what most clip metrics do.

    Args:
        values: (T,) values, nan where undefined.
        why_empty: what a frame lacks when it has no value, as in "the hole is empty".
    """
    used = values[~np.isnan(values)]
    excluded = len(values) - len(used)
    if not len(used):
        return ClipValue(float("nan"), 0, excluded, reason=f"{why_empty} in every frame")
    reason = f"{why_empty} in {excluded} of {len(values)} frames" if excluded else ""
    return ClipValue(float(used.mean()), len(used), excluded, reason=reason)
