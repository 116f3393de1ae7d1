"""Frame by frame with the fast marching method.

Telea, "An Image Inpainting Technique Based on the Fast Marching Method", Journal of Graphics Tools 9(1), 2004;
OpenCV's implementation (``cv2.INPAINT_TELEA``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2

from vpbench.baselines.spatial import inpaint
from vpbench.clip import Frames, MaskedClip


@dataclass(frozen=True)
class Telea:
    """Fills every frame from its own visible pixels; a frame without any gets the mean colour of the clip.

    Attributes:
        radius_px: how far around a pixel the method looks.
    """

    radius_px: float = 5.0
    version: ClassVar[int] = 1

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3); ``seed`` has no effect."""
        return inpaint(clip.frames, clip.masks, self.radius_px, cv2.INPAINT_TELEA)
