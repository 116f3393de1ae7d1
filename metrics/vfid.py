"""VFID (Wang et al. 2018, as computed by the video inpainting papers); lower is better, 0 for equal sets.

Fréchet distance between the pooled I3D features (1024) of all predictions and of all references, at the frames' own size and on the
scale 0-1: see ``vpbench.metrics.frechet`` and ``vpbench.metrics.i3d_features``. One value per set of clips. VideoPainter prints it as
FVID; it is not the Fréchet video distance. Checked in ``tests/parity/test_i3d_parity.py`` against TencentARC/VideoPainter
``evaluate/metrics.py`` (commit bbab6cd) and MichiganCOG/video-inpainting-evaluation (d339a12).

``norm=instance`` with whole clips is what the lineage of E2FGVI, ProPainter and VideoPainter computes: its network is never switched to
evaluation, so every clip is normalised by its own statistics. ``norm=eval`` is DEVIL's VFID, and with ``window=10`` its VFID (clips).
The two scales differ by an order of magnitude. Whole clips go through the network at once; ``vpbench.metrics.i3d`` says what that takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import ConfigError
from vpbench.measuring import Region
from vpbench.metrics.frechet import frechet_distances
from vpbench.metrics.i3d_features import EPS, BothSides, FeatureMetric, Groups, I3dPooled, InputRange, Norm
from vpbench.metrics.options import check_options


@dataclass(frozen=True)
class Vfid(FeatureMetric):
    """Fréchet distance of the pooled features; see the module's text.

    Needs 2 clips or more. For an edit the references are the source clips.

    Attributes:
        region: ``frame``.
        norm: ``instance`` or ``eval``.
        window: 0 for one vector per clip, or the frames of windows with stride 1 (DEVIL: 10; shorter clips repeat the last frame).
        input_range: ``0-1``, or ``-1-1`` as the network was trained.
        weights: where the weights of I3D come from, see ``Network``.

    Raises:
        ConfigError: an unknown region or option.
    """

    name: str = "vfid"
    norm: Norm = "instance"
    window: int = 0
    input_range: InputRange = "0-1"
    weights: str = ""

    digits: ClassVar[int] = 3
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    regions: ClassVar[tuple[Region, ...]] = ("frame",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, norm=get_args(Norm), input_range=get_args(InputRange))
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 0:
            raise ConfigError(f"{self.name}: window: expected a number of frames, or 0 for whole clips, got {self.window!r}.")

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        window = f"every{self.window}" if self.window else "clip"
        return f"i3d,eps={EPS['i3d']:g},pooled1024,{self.norm},{self.input_range},native,{window},ddof=1"

    @property
    def measure(self) -> BothSides:
        """The features of both sides."""
        return BothSides(I3dPooled("prediction", self.norm, self.window, self.input_range, self.weights))

    def distances(self, x: NDArray[np.float32], y: NDArray[np.float32], groups: Groups) -> tuple[float, NDArray[np.float64]]:
        """Return the Fréchet distance, and those without each group of rows."""
        return frechet_distances(x, y, groups)
