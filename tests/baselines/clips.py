"""Clips for the tests of the baselines, made from smooth noise."""

import cv2
import numpy as np

from vpbench.clip import Clip, MaskedClip


def photo(height, width, seed=0):
    """Noise of several scales with the spectrum of a photograph, uint8 (H, W, 3)."""
    noise = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for sigma in (0.8, 1.5, 3, 6, 12):
        layer = cv2.GaussianBlur(noise.standard_normal((height, width, 3)), (0, 0), sigma)
        image += layer / layer.std() * sigma**0.5
    return (128 + 40 * image / image.std()).clip(0, 255).astype(np.uint8)


def still(count=6, height=48, width=64):
    return np.repeat(photo(height, width)[None], count, axis=0)


def pan(count=12, height=96, width=128, step=3):
    wide = photo(height, width + step * count)
    return np.stack([wide[:, step * t : step * t + width] for t in range(count)])


def box(frames, rows, columns):
    """A hole that stands still."""
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, rows, columns] = True
    return masks


def walking(frames, size=10, step=7):
    """A hole that crosses the frame."""
    masks = np.zeros(frames.shape[:3], bool)
    for t in range(len(frames)):
        x = step * t % (frames.shape[2] - size)
        masks[t, 10 : 10 + size, x : x + size] = True
    return masks


def whole(frames, masks):
    return Clip("clip", frames, masks, 24.0)


def blind(frames, masks, fill=(0, 0, 0)):
    return MaskedClip.of(whole(frames, masks), fill)


def hole_psnr(result, frames, masks):
    return 10 * np.log10(255**2 / np.mean(np.square(result[masks].astype(float) - frames[masks])))
