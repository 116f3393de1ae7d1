"""Kernel video distance; lower is better, unbiased around 0 for equal distributions, shown times 1000.

The paired kernel distance (see ``vpbench.metrics.frechet``) of the features that ``vpbench.metrics.fvd`` compares. Unlike the Fréchet
distance it has no bias in small sets, so it is the one to trust there. Pairs of windows of one clip do not count: they are not independent.
Follows KID (Binkowski et al. 2018), with the U-statistic for paired samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vpbench.metrics.frechet import kernel_distances
from vpbench.metrics.i3d_features import Groups, ScoresMetric


@dataclass(frozen=True)
class Kvd(ScoresMetric):
    """Paired kernel distance of the class scores; see the module's text. The options are those of ``ScoresMetric``."""

    name: str = "kvd"

    digits: ClassVar[int] = 3
    scale: ClassVar[float] = 1e3
    range: ClassVar[tuple[float, float]] = (-float("inf"), float("inf"))

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"{super().variant},cubic,paired"

    def distances(self, x: NDArray[np.float32], y: NDArray[np.float32], groups: Groups) -> tuple[float, NDArray[np.float64]]:
        """Return the kernel distance over pairs of different clips, and those without each group of rows."""
        return kernel_distances(x, y, groups)
