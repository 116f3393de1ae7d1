"""Metrics on a toy network that counts its passes, for tests of the harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.measuring import Arrays, ClipMetric, ClipValue, Comparison, Measure, Network, Part, SetMetric, SetValue, frame_mean

passes: list[str] = []  # what the network was asked for, in order


@dataclass(frozen=True)
class Means(Measure):
    """The mean colour of every frame, (T, 3); stands for a network's features."""

    of: Literal["prediction", "reference"] = "prediction"
    source: str = ""

    @property
    def array_id(self) -> str:
        return f"means-{self.of}" + (f"-{self.source}" if self.source else "")

    @property
    def reads(self) -> frozenset[Part]:
        return frozenset({self.of})

    @property
    def networks(self) -> tuple[Network, ...]:
        return (Network("alexnet", "" if self.source == "search" else self.source),) if self.source else ()

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        passes.append(self.of)
        return {"means": getattr(comparison, self.of).mean(axis=(1, 2))}


@dataclass(frozen=True)
class Both(Measure):
    """The features of both sides."""

    source: str = ""

    @property
    def array_id(self) -> str:
        return "both" + (f"-{self.source}" if self.source else "")

    @property
    def networks(self) -> tuple[Network, ...]:
        return Means(source=self.source).networks

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        sides: tuple[Literal["prediction", "reference"], ...] = ("prediction", "reference")
        return {side: comparison.arrays(Means(side, self.source))["means"] for side in sides}


@dataclass(frozen=True)
class Distance(ClipMetric):
    """Distance of the mean colours, per frame."""

    name: str = "distance"
    source: str = ""
    infinite: bool = False

    direction: ClassVar[Literal["higher", "lower"]] = "lower"
    digits: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (0.0, 500.0)

    @property
    def variant(self) -> str:
        return "l1"

    @property
    def measure(self) -> Both:
        return Both(self.source)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.abs(arrays["prediction"] - arrays["reference"]).sum(axis=1)
        return np.where(values == values.min(), np.inf, values) if self.infinite else values

    def clip(self, arrays: Arrays) -> ClipValue:
        return frame_mean(np.abs(arrays["prediction"] - arrays["reference"]).sum(axis=1) ** 2, "no colour")


@dataclass(frozen=True)
class Spread(SetMetric):
    """Squared distance of the sets' means."""

    name: str = "spread"
    source: str = ""

    direction: ClassVar[Literal["higher", "lower"]] = "lower"
    digits: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (0.0, 500.0)

    @property
    def variant(self) -> str:
        return "l2"

    @property
    def measure(self) -> Both:
        return Both(self.source)

    def reduce(self, clips: Mapping[str, Arrays]) -> SetValue:
        if len(clips) < 2:
            return SetValue(float("nan"), len(clips), reason="a set metric needs at least 2 clips")
        whole = _spread(clips)
        return SetValue(whole, len(clips), {name: _spread({k: v for k, v in clips.items() if k != name}) for name in clips})


def _spread(clips: Mapping[str, Arrays]) -> float:
    sides = [np.concatenate([arrays[side] for arrays in clips.values()]).mean(axis=0) for side in ("prediction", "reference")]
    return float(np.square(sides[0] - sides[1]).sum())


def leaf(**options: Any) -> dict[str, Any]:
    """A protocol of both."""
    return {
        "name": "toy",
        "metrics": {
            "distance": {"_target_": "tests.toy_metrics.Distance", "regions": ["frame"], **options},
            "spread": {"_target_": "tests.toy_metrics.Spread", "regions": ["frame"], **{k: v for k, v in options.items() if k == "source"}},
        },
        "mean_rank": ["distance[frame]", "spread[frame]"],
    }
