"""Fréchet video distance (Unterthiner et al. 2018); lower is better, 0 for equal sets.

Fréchet distance between the I3D class scores (400, before softmax) of 16-frame windows of all predictions and of all references: see
``vpbench.metrics.frechet`` and ``vpbench.metrics.i3d_features``. One value per set of clips, in squared units of the scores, comparable
only between equal lists of clips. Checked against songweige/content-debiased-fvd in ``tests/parity/test_i3d_parity.py``.

``resize=stylegan`` with ``detector=torchscript`` follows StyleGAN-V (Skorokhodov et al. 2022), ``resize=cd`` with ``detector=videogpt``
and ``ddof=0`` cd-fvd (Ge et al. 2024). I3D reacts weakly to temporal errors (Ge et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import ConfigError
from vpbench.metrics.frechet import frechet_distances
from vpbench.metrics.i3d_features import Groups, ScoresMetric


@dataclass(frozen=True)
class Fvd(ScoresMetric):
    """Fréchet distance of the class scores; see the module's text. The options are those of ``ScoresMetric``, and one more.

    Attributes:
        ddof: covariances divide by ``n - ddof``: 1, or 0 as in cd-fvd.
    """

    name: str = "fvd"
    ddof: int = 1

    digits: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ddof not in (0, 1):
            raise ConfigError(f"{self.name}: ddof is 0 or 1, got {self.ddof!r}.")

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"{super().variant},ddof={self.ddof}"

    def distances(self, x: NDArray[np.float32], y: NDArray[np.float32], groups: Groups) -> tuple[float, NDArray[np.float64]]:
        """Return the Fréchet distance, and those without each group of rows."""
        return frechet_distances(x, y, groups, self.ddof)
