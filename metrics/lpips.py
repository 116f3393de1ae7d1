"""Learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1; lower is better, 0 for equal frames.

Features of a network, each of length 1, are subtracted, squared and weighted per channel; the mean over positions is summed over five
to seven depths. Frames enter at their own size, on the scale -1 to 1. Checked against the packages ``lpips`` and ``torchmetrics`` in
``tests/metrics/test_lpips.py``.

In the ``background`` the hole of the prediction is filled with the reference first, in the ``hole`` everything around it is, and the
distance is divided by the region's share of the frame (at least 5 %): nothing outside the region can change the value. ``onesided``
instead blackens the hole in the prediction alone and does not divide, as the evaluation script of VideoPainter does
(TencentARC/VideoPainter ``evaluate/metrics.py``, commit bbab6cd): such a value depends mostly on how bright and large the hole is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.errors import ConfigError
from vpbench.measuring import Arrays, ClipMetric, ClipValue, Comparison, Measure, Network, Region, frame_mean
from vpbench.metrics.batching import batch_size, in_batches
from vpbench.weights import label, locate

if TYPE_CHECKING:
    from vpbench.metrics import lpips_network

NETWORKS = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}  # as in the table of weights
SMALLEST = {"alex": 31, "squeeze": 17, "vgg": 16}  # pixels
VARIANTS = ("frame", "hole", "background", "onesided")
SMALLEST_SHARE = 0.05  # of the frame by which a distance is divided
BATCH = 1  # frames on a CPU: more of them need more memory and no less time
CUDA_BYTES_PER_PIXEL = 4000  # of VGG, the hungriest


@dataclass(frozen=True)
class LpipsPass(Measure):
    """The measure: a float64 (T,) array per variant, nan where the region is empty, and ``side``, the smaller side of the frames in pixels.

    Frames that are too small for the network have nan in all variants.

    Attributes:
        net: ``alex``, ``squeeze`` or ``vgg``.
        source: where the network's weights come from, see ``Network``.
        variants: what is computed, of ``frame``, ``hole``, ``background`` and ``onesided``; kept in this order.

    Raises:
        ConfigError: an unknown network or variant, or no variant.
    """

    net: str = "alex"
    source: str = ""
    variants: tuple[str, ...] = ("frame", "hole", "background")

    def __post_init__(self) -> None:
        if self.net not in NETWORKS:
            raise ConfigError(f"lpips: unknown net {self.net!r}; known: {', '.join(NETWORKS)}.")
        unknown = [variant for variant in self.variants if variant not in VARIANTS]
        if unknown or not self.variants:
            raise ConfigError(f"lpips: unknown variants {unknown}; known: {', '.join(VARIANTS)}; at least one.")
        object.__setattr__(self, "variants", tuple(variant for variant in VARIANTS if variant in self.variants))

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"lpips-{label(self.networks[0])}-{'.'.join(self.variants)}-fp32-v1"

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network whose features are compared; the linear heads come with the package ``lpips``."""
        return (Network(NETWORKS[self.net], self.source),)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the distances of one comparison.

        Raises:
            WeightsError: the weights are missing, or of another network.
        """
        frames, height, width = comparison.masks.shape
        side = min(height, width)
        found = np.full((frames, len(self.variants)), np.nan)
        if side >= SMALLEST[self.net]:
            import torch

            from vpbench.metrics import lpips_network

            network = lpips_network.load(self.net, locate(self.networks[0]), comparison.device)
            size = batch_size(comparison.device, BATCH, CUDA_BYTES_PER_PIXEL * height * width)
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                found = in_batches(lambda part: self._distances(network, comparison, part), frames, size)
        return {"side": np.full(frames, side, np.int64), **{variant: found[:, i] for i, variant in enumerate(self.variants)}}

    def _distances(self, network: lpips_network.Network, comparison: Comparison, part: slice) -> NDArray[np.float64]:
        """The variants of some frames, (n, variants)."""
        from vpbench.metrics.lpips_network import Pass, to_tensor, total

        device = comparison.device
        reference, prediction, masks = comparison.reference[part], comparison.prediction[part], comparison.masks[part]
        differs = (prediction != reference).any(axis=-1)
        in_hole, outside = (differs & masks).any(axis=(1, 2)), (differs & ~masks).any(axis=(1, 2))

        original = network.reference(to_tensor(reference, device))
        # With an exact background the reference's own pass serves for the prediction's: they differ in the hole alone.
        exact = not outside.any()
        base = original if exact or self.variants == ("hole",) else network.compare(to_tensor(prediction, device), original)

        # The box depends on the masks alone: nothing in the hole changes the background's arithmetic, nor the other way round.
        box = rows, columns = _box(masks)
        reference, prediction, hole = reference[:, rows, columns], prediction[:, rows, columns], masks[:, rows, columns, None]

        def changed(before: Pass, pixels: Frames) -> NDArray[np.float64]:
            return total(network.changed(before, to_tensor(pixels, device), box, original) if pixels.size else before.maps)

        none = np.zeros(len(masks))
        filled = none
        if in_hole.any() and ("hole" in self.variants or exact):
            filled = changed(original, np.where(hole, prediction, reference)) * in_hole
        share = masks.mean(axis=(1, 2))
        compute: dict[str, Callable[[], NDArray[np.float64]]] = {
            "frame": lambda: filled if exact else total(base.maps) * (in_hole | outside),
            "hole": lambda: _per_share(filled, share),
            "background": lambda: _per_share(none if exact else changed(base, np.where(hole, reference, prediction)) * outside, 1 - share),
            "onesided": lambda: changed(base, prediction * ~hole),
        }
        return np.stack([compute[variant]() for variant in self.variants], axis=1)


@dataclass(frozen=True)
class Lpips(ClipMetric):
    """Learned perceptual image patch similarity in one region; see the module's text.

    Attributes:
        region: ``frame``, ``hole`` or ``background``.
        net: ``alex``, ``squeeze`` or ``vgg``; frames of 480x720 take 0.9 GB of memory, with ``vgg`` 1.8 GB.
        weights: of the network: empty for the table's files, the path of a file, or ``random-<seed>``.
        onesided: blacken the hole in the prediction instead; only in the background.
        variants: what the pass computes: metrics with equal variants share one.

    Raises:
        ConfigError: an unknown network, region or variant; ``onesided`` outside the background; ``variants`` without what is asked for.
    """

    name: str = "lpips"
    net: str = "alex"
    weights: str = ""
    onesided: bool = False
    variants: tuple[str, ...] = ("frame", "hole", "background")

    direction: ClassVar[Literal["higher", "lower"]] = "lower"
    digits: ClassVar[int] = 2
    scale: ClassVar[float] = 100.0
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    regions: ClassVar[tuple[Region, ...]] = ("frame", "hole", "background")

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", tuple(self.variants))  # a list in YAML
        super().__post_init__()
        if self.onesided and self.region != "background":
            raise ConfigError(f"lpips: onesided is defined in the background alone, got region {self.region!r}.")
        if self._key not in self.measure.variants:
            raise ConfigError(f"lpips: variants {list(self.variants)} lack {self._key!r}, which {self.name}[{self.region}] needs.")

    @property
    def _key(self) -> str:
        return "onesided" if self.onesided else self.region

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        filled = {
            "frame": "",
            "hole": f",filled,per-share>={SMALLEST_SHARE:g}",
            "background": f",filled,per-share>={SMALLEST_SHARE:g}",
            "onesided": ",onesided",
        }
        return f"{self.net},v0.1,native{filled[self._key]}"

    @property
    def measure(self) -> LpipsPass:
        """The pass that gives the distances."""
        return LpipsPass(self.net, self.weights, self.variants)

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) distances; nan where the region is empty and where the frames are too small for the network."""
        values: NDArray[np.float64] = arrays[self._key]
        return values

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean over the frames in which the region is not empty."""
        values = self.frames(arrays)
        if (arrays["side"] < SMALLEST[self.net]).any():
            reason = f"the frames are smaller than {SMALLEST[self.net]} px, which the network needs"
            return ClipValue(float("nan"), 0, len(values), reason=reason)
        return frame_mean(values, f"the {self.region} is empty")


def _box(masks: Masks) -> tuple[slice, slice]:
    """Rows and columns of the box around all holes; empty where there is none."""
    rows, columns = np.flatnonzero(masks.any(axis=(0, 2))), np.flatnonzero(masks.any(axis=(0, 1)))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _per_share(distances: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances of a region that is this share of the frame; nan where it is empty."""
    values: NDArray[np.float64] = np.where(share > 0, distances / np.maximum(share, SMALLEST_SHARE), np.nan)
    return values
