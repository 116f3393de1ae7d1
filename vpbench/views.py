"""What of a clip is scored: which prediction, beside which reference, under which mask. Part of a value's meaning.

The default view is the clip as the benchmark gives it. The other settings are conventions of official evaluation scripts, each a switch
of its own, so that its effect can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Clip, Frames, Masks
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison, Part, Store, compute

QUANTISERS = ("exact", "vpbench-official")
AGAINST = ("truth", "source")


def official_round_trip() -> NDArray[np.uint8]:
    """What each of the 256 levels becomes in the reference of the VideoPainter evaluation: 1 to 63 lose one, the others stay.

    Source: TencentARC/VideoPainter ``evaluate/eval_inpainting.py``: in float32 ``x / 255``, to [-1, 1] and back, clamped, times 255,
    cut to whole numbers.
    """
    one, two = np.float32(1), np.float32(2)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    back = np.clip((two * levels - one) / two + np.float32(0.5), 0, 1)
    cut: NDArray[np.uint8] = (back * np.float32(255)).astype(np.uint8)
    return cut


@dataclass(frozen=True)
class View:
    """Which arrays a comparison is made of.

    Attributes:
        track: ``raw`` (the prediction as made) or ``composite`` (outside the mask the source is pasted back).
        quantise: of the reference and the source: ``exact``, or ``vpbench-official``, see ``official_round_trip``.
        against: ``truth`` (the true result where one exists, and no value in the hole of an edit without one) or ``source``
            (always the unedited video, whatever the operation; as the VideoPainter evaluation does).
        mask_dilate_px: side of the square by which the scoring mask is grown; even sides are off-centre by one pixel, as in OpenCV.

    Raises:
        ConfigError: a value out of its range.
    """

    track: str = "raw"
    quantise: str = "exact"
    against: str = "truth"
    mask_dilate_px: int = 0

    def __post_init__(self) -> None:
        if self.quantise not in QUANTISERS:
            raise unknown_name("protocol.quantise", str(self.quantise), QUANTISERS)
        if self.against not in AGAINST:
            raise unknown_name("protocol.against", str(self.against), AGAINST)
        if isinstance(self.mask_dilate_px, bool) or not isinstance(self.mask_dilate_px, int) or self.mask_dilate_px < 0:
            raise ConfigError(f"protocol.mask_dilate_px: expected a whole number of pixels, at least 0, got {self.mask_dilate_px!r}.")

    def tags(self, reads: frozenset[Part]) -> str:
        """What of this view decides arrays that read these parts, e.g. ``raw`` or ``composite-source-dilate16``."""
        pasted = "prediction" in reads and self.track == "composite"
        parts = [self.track] if "prediction" in reads else []
        if "reference" in reads and self.against == "source":
            parts.append("source")
        if ("reference" in reads or pasted) and self.quantise != "exact":
            parts.append(self.quantise)
        if ("masks" in reads or pasted) and self.mask_dilate_px > 1:
            parts.append(f"dilate{self.mask_dilate_px}")
        return "-".join(parts)

    def comparison(
        self,
        clip: Clip,
        prediction: Frames,
        device: str = "cpu",
        stored: Store = compute,
    ) -> Comparison:
        """Return the comparison of ``prediction``, uint8 (T, H, W, 3), with ``clip`` in this view."""
        masks = self._masks(clip.masks)
        source = self._quantised(clip.frames)
        reference = source if self.against == "source" or clip.target is None else self._quantised(clip.target)
        scored = prediction if self.track == "raw" else np.where(masks[..., None], prediction, source)
        truth = clip.has_truth or self.against == "source"
        return Comparison(scored, reference, masks, truth, clip.caption, clip.region_caption, device, stored)

    def _quantised(self, frames: Frames) -> Frames:
        return frames if self.quantise == "exact" else official_round_trip()[frames]

    def _masks(self, masks: Masks) -> Masks:
        if self.mask_dilate_px <= 1:
            return masks
        import cv2

        square = np.ones((self.mask_dilate_px, self.mask_dilate_px), np.uint8)
        return np.stack([cv2.dilate(mask.astype(np.uint8), square) for mask in masks]).astype(bool)
