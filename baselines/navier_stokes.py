"""Frame by frame by continuing lines of equal brightness, with the equations of fluid flow.

Bertalmio, Bertozzi, Sapiro, "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting", CVPR 2001;
OpenCV's implementation (``cv2.INPAINT_NS``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2

from vpbench.baselines.spatial import inpaint
from vpbench.clip import Frames, MaskedClip


@dataclass(frozen=True)
class NavierStokes:
    """Fills every frame from its own visible pixels; a frame without any gets the mean colour of the clip.

    Attributes:
        radius_px: how far around a pixel the method looks.
    """

    radius_px: float = 5.0
    version: ClassVar[int] = 1

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3); ``seed`` has no effect."""
        return inpaint(clip.frames, clip.masks, self.radius_px, cv2.INPAINT_NS)
