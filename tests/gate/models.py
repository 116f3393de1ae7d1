"""A model, and the same made worse in the ways that real ones get worse."""

from __future__ import annotations

import cv2
import numpy as np

from vpbench.clip import Frames, MaskedClip


def steady(clip: MaskedClip, *, seed: int) -> Frames:
    """Every frame filled by OpenCV."""
    frames = [cv2.inpaint(frame, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA) for frame, mask in zip(clip.frames, clip.masks, strict=True)]
    return np.stack(frames).astype(np.uint8)


def blurred(clip: MaskedClip, *, seed: int) -> Frames:
    """As a decoder at too small a size would give it."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in steady(clip, seed=seed)]).astype(np.uint8)


def delayed(clip: MaskedClip, *, seed: int) -> Frames:
    """Everything one frame late."""
    frames = steady(clip, seed=seed)
    return np.concatenate([frames[:1], frames[:-1]])


def tinted(clip: MaskedClip, *, seed: int) -> Frames:
    """The hole, and nothing else, has its red and blue exchanged."""
    frames = steady(clip, seed=seed)
    frames[clip.masks] = frames[clip.masks][:, ::-1]
    return frames


def failing(clip: MaskedClip, *, seed: int) -> Frames:
    """Gives up on one clip."""
    if clip.name == "galaxies":
        raise RuntimeError("out of stars")
    return steady(clip, seed=seed)
