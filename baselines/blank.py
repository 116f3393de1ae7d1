"""One flat colour: the floor of every table, never ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vpbench.baselines.spatial import mean_colour
from vpbench.clip import Frames, MaskedClip


@dataclass(frozen=True)
class Blank:
    """Fills the hole with the mean colour of the clip's visible pixels; mid grey where nothing is visible."""

    version: ClassVar[int] = 1

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3); ``seed`` has no effect."""
        result = clip.frames.copy()
        result[clip.masks] = mean_colour(clip.frames, clip.masks)
        return result
