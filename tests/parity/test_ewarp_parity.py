"""The warping error beside that of MichiganCOG/video-inpainting-evaluation, on the same flow; see fixtures/ewarp_devil.txt."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpbench.metrics.warping import clip_sums, visible

FIXTURE = Path(__file__).parent / "fixtures" / "ewarp_devil.json"
PAIRS, HEIGHT, WIDTH = 3, 48, 64


def videos():
    """A reference, a prediction that differs everywhere, and masks: a box in the lower half that moves two pixels per frame."""
    rng = np.random.default_rng(5)
    noise = rng.random((PAIRS + 1, HEIGHT, WIDTH, 3))
    reference = (255 * np.stack([cv2.blur(frame, (5, 5)) for frame in noise])).round().astype(np.uint8)
    prediction = np.clip(reference + rng.normal(0, 12, reference.shape), 0, 255).round().astype(np.uint8)
    masks = np.zeros((PAIRS + 1, HEIGHT, WIDTH), bool)
    for t, mask in enumerate(masks):
        mask[30:40, 20 + 2 * t : 34 + 2 * t] = True
    return reference, np.where(masks[..., None], prediction, reference), masks


def flows():
    """Forward and backward flow of the pairs, float32 (PAIRS, H, W, 2): a smooth motion, one object that moves on its own, and a part
    where the two directions disagree.

    No pixel leaves the frame (theirs repeats the border there, ours does not count it), all values are multiples of 1/64, which float16
    holds exactly, and the lower half moves by whole pixels, so that masks stay 0 or 1 when they are warped.
    """
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    wave = [np.stack([2 + np.sin(y / 9 + t), np.cos(x / 11) - 0.5 * t], axis=-1) for t in range(PAIRS)]
    forward, backward = np.stack(wave), -np.stack(wave)
    for flow, sign in ((forward, 1), (backward, -1)):
        flow[:, 8:18, 10:26] += [1.5 * sign, -0.75 * sign]
    backward[:, 4:14, 40:52, 0] += 2.25
    return tuple(_inside(np.round(64 * flow) / 64, x, y) for flow in (forward, backward))


def _inside(flow, x, y):
    flow[:, HEIGHT // 2 :] = np.round(flow[:, HEIGHT // 2 :])
    ends = np.stack([np.clip(x + flow[..., 0], 0, WIDTH - 1), np.clip(y + flow[..., 1], 0, HEIGHT - 1)], axis=-1)
    return (ends - np.stack([x, y], axis=-1)).astype(np.float32)


@pytest.fixture(scope="module")
def theirs():
    return json.loads(FIXTURE.read_text())


@pytest.fixture(scope="module")
def seen():
    return np.stack([visible(f.astype(np.float16), b.astype(np.float16)) for f, b in zip(*flows(), strict=True)])


def test_the_same_pixels_are_visible(theirs, seen):
    rows = ["".join("01"[int(pixel)] for pixel in row) for row in seen.reshape(-1, WIDTH)]
    assert 0.2 < seen.mean() < 0.9
    assert rows == theirs["visible"]


@pytest.mark.parametrize("region", ["frame", "hole"])
def test_the_error_is_the_same(theirs, seen, region):
    _, prediction, masks = videos()
    sums = clip_sums(prediction, masks, lambda first: {"forward": flows()[0].astype(np.float16), "visible": seen})
    errors = sums[f"sum_{region}"] / (3 * sums[f"n_{region}"])
    np.testing.assert_allclose(errors, theirs[f"pairs_{region}"], rtol=2e-6)
    assert errors.mean() == pytest.approx(theirs[f"clip_{region}"], rel=2e-6)
