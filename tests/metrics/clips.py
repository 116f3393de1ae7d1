"""Small clips made of smooth noise, for the tests of the metrics."""

import cv2
import numpy as np
import torch

from vpbench.measuring import Comparison


def textured(frames=4, height=40, width=56, seed=0, shift=0):
    """A smooth coloured texture, uint8 (T, H, W, 3), that moves ``shift`` pixels to the right per frame."""
    rng = np.random.default_rng(seed)
    wide = cv2.GaussianBlur(rng.random((height, width + frames * abs(shift), 3)), (0, 0), 1.5)
    wide = (255 * (wide - wide.min()) / (wide.max() - wide.min())).round().astype(np.uint8)
    start = (frames - 1) * shift
    return np.stack([wide[:, start - t * shift : start - t * shift + width] for t in range(frames)])


def noisy(clip, strength, seed=1, where=None):
    """``clip`` with Gaussian noise of the standard deviation ``strength`` on 0-255, in the pixels ``where`` (all if None)."""
    noise = np.random.default_rng(seed).normal(0, strength, clip.shape)
    result = np.clip(clip + noise, 0, 255).round().astype(np.uint8)
    return result if where is None else np.where(where[..., None], result, clip)


def holes(clip, top=14, bottom=26, left=20, right=34):
    """A box that moves one pixel to the right per frame, bool (T, H, W)."""
    masks = np.zeros(clip.shape[:3], bool)
    for t, mask in enumerate(masks):
        mask[top:bottom, left + t : right + t] = True
    return masks


def score(metric, prediction, reference, masks):
    """The clip value of one metric."""
    return metric.clip(metric.measure(Comparison(prediction, reference, masks)))


def frame_scores(metric, prediction, reference, masks):
    """The frame values of one metric."""
    return metric.frames(metric.measure(Comparison(prediction, reference, masks)))


def torchmetric(function, prediction, reference, masks=None, **options):
    """What a function of torchmetrics says of every frame, float32 in batches of one, as the official VPBench evaluation calls it.

    With ``masks`` the hole is blanked in the prediction and, as there, not in the reference.
    """
    if masks is not None:
        prediction = prediction * ~masks[..., None]
    tensors = (torch.from_numpy(clip.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous() for clip in (reference, prediction))
    return [function(wanted[None], predicted[None], **options).item() for wanted, predicted in zip(*tensors, strict=True)]
