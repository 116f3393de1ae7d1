"""Perceptual video clip similarity (PVCS; Szeto and Corso, "The DEVIL is in the Details", 2022); lower is better, 0 for equal windows.

A distance, despite its name: as LPIPS, with I3D on every 10-frame window (stride 1). The features of four depths, each position scaled to
length 1 over its channels, are subtracted, squared and summed over the channels; the mean over positions is summed over the depths. Frames
at their own size, on the scale 0-1; evaluation mode. Checked against MichiganCOG/video-inpainting-evaluation (commit d339a12) in
``tests/parity/test_i3d_parity.py``.

Clips with fewer than 10 frames repeat the last frame of each video. Upstream (``pvcs_computer.py:49``) appends frames of the reference to
the prediction instead, which hides part of the error; clips of 10 frames and more have the same value there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames
from vpbench.measuring import Arrays, ClipMetric, ClipValue, Comparison, Measure, Network, Part, Region
from vpbench.metrics.i3d_features import EPS, LOW, NETWORKS, as_video, every, frames_of
from vpbench.weights import label

if TYPE_CHECKING:
    import torch

    from vpbench.metrics.i3d import I3D

WINDOW = 10  # frames
TAPS = ("Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c")


@dataclass(frozen=True)
class PvcsWindows(Measure):
    """The measure: float64 (windows, 4) distances ``taps`` at the four depths, and ``repeated``, how many frames a short clip lacks.

    Attributes:
        source: where the weights of I3D come from, see ``Network``.
    """

    source: str = ""

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"pvcs-{label(self.networks[0])}-eps{EPS['i3d']:g}-w{WINDOW}-r0-1-fp32-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """Both videos."""
        return frozenset(("prediction", "reference"))

    @property
    def networks(self) -> tuple[Network, ...]:
        """I3D."""
        return (Network(NETWORKS["i3d"], self.source),)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the distances of one clip, one window at a time."""
        from vpbench.metrics import i3d

        model = i3d.load(self.networks[0], comparison.device, EPS["i3d"], "eval")
        count = len(comparison.reference)
        taps = []
        for start in every(count, WINDOW):
            window = frames_of(start, WINDOW, count)
            with i3d.arithmetic(comparison.device):
                one, other = (
                    _features(model, frames[window], comparison.device) for frames in (comparison.prediction, comparison.reference)
                )
                taps.append([float((a - b).square_().sum(dim=1).mean()) for a, b in zip(one, other, strict=True)])
        return {"taps": np.array(taps, np.float64), "repeated": np.array(max(WINDOW - count, 0), np.int64)}


@dataclass(frozen=True)
class Pvcs(ClipMetric):
    """Distance of the features of windows; see the module's text. The clip's value is the mean over its windows.

    Attributes:
        region: ``frame``.
        weights: where the weights of I3D come from, see ``Network``.

    Raises:
        ConfigError: another region.
    """

    name: str = "pvcs"
    weights: str = ""

    direction: ClassVar[Literal["higher", "lower"]] = "lower"
    digits: ClassVar[int] = 4
    range: ClassVar[tuple[float, float]] = (0.0, 8.0)  # features are not negative: at most 2 per depth
    regions: ClassVar[tuple[Region, ...]] = ("frame",)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"i3d,eps={EPS['i3d']:g},taps4,eval,0-1,native,every{WINDOW}"

    @property
    def measure(self) -> PvcsWindows:
        """The pass that gives the distances."""
        return PvcsWindows(self.weights)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (windows,) values."""
        values: NDArray[np.float64] = arrays["taps"].sum(axis=1)
        return values

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean over the windows."""
        values = self.frames(arrays)
        repeated = int(arrays["repeated"])
        reason = f"the clip is shorter than a window: last frame repeated {repeated} times" if repeated else ""
        return ClipValue(float(values.mean()), len(values), reason=reason)


def _features(model: I3D, window: Frames, device: str) -> list[torch.Tensor]:
    found = model.activations(as_video(window)[None].to(device), LOW["0-1"], TAPS)
    return [features / (features.norm(dim=1, keepdim=True) + 1e-10) for features in (found[tap] for tap in TAPS)]
