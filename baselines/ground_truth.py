"""The reference itself: the ceiling of every table, never ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vpbench.clip import Clip, Frames


@dataclass(frozen=True)
class GroundTruth:
    """Returns a copy of the reference. Needs the whole clip (``needs_reference: true`` in its config)."""

    version: ClassVar[int] = 1

    def __call__(self, clip: Clip, *, seed: int) -> Frames:
        """Return ``clip.reference``, uint8 (T, H, W, 3); ``seed`` has no effect."""
        return clip.reference.copy()
