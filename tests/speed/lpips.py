"""LPIPS with SqueezeNet beside a faithful model of the official per-frame loop, on seeded random weights.

    python tests/speed/lpips.py                            8 frames of 480x720, 3 repetitions
    python tests/speed/lpips.py --frames 16 --repeats 5 --hole 0.3

The model of the official loop calls torchmetrics twice per frame with batches of one: for the whole frame and for the prediction with a
black hole. Ours gives the same two numbers. The second row is what the protocol ``standard`` asks for (frame, hole and background), beside
the three calls that its definitions take; the third is the composite track, where the background is exact. Loops alternate, so that a noisy
machine disturbs both; the table shows medians over the repetitions, and the largest relative difference of the values.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from vpbench.clip import Frames, Masks
from vpbench.measuring import Comparison, Network
from vpbench.metrics import lpips_network
from vpbench.metrics.lpips import LpipsPass
from vpbench.weights import locate

SIZE = (480, 720)
SOURCE = "random-0"
Values = dict[str, NDArray[np.float64]]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hole", type=float, default=0.15, help="share of the frame (default: %(default)s)")
    options = parser.parse_args()

    reference, prediction, masks = clip(options.frames, options.hole)
    pasted = np.where(masks[..., None], prediction, reference)
    metric = official_metric()
    rows = {
        "official: frame, onesided": (prediction, ("frame", "onesided")),
        "standard: frame, hole, background": (prediction, ("frame", "hole", "background")),
        "standard, composite track": (pasted, ("frame", "hole", "background")),
    }
    what = f"{options.frames} frames of {SIZE[0]}x{SIZE[1]}, hole {masks.mean():.1%}"
    print(f"{what}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':36}{'loop s/frame':>14}{'ours s/frame':>14}{'ratio':>8}{'difference':>13}")
    for name, (frames, variants) in rows.items():
        print(f"{name:36}" + row(metric, frames, reference, masks, variants, options.repeats), flush=True)


def row(
    metric: LearnedPerceptualImagePatchSimilarity,
    prediction: Frames,
    reference: Frames,
    masks: Masks,
    variants: tuple[str, ...],
    repeats: int,
) -> str:
    """One row of the table after its name."""
    measure, comparison = LpipsPass("squeeze", SOURCE, variants), Comparison(prediction, reference, masks)

    def loop() -> Values:
        return official(metric, prediction, reference, masks, variants)

    def ours() -> Values:
        return measure(comparison)

    measure(Comparison(prediction[:1], reference[:1], masks[:1]))
    official(metric, prediction[:1], reference[:1], masks[:1], variants)
    times = []
    for _ in range(repeats):
        wanted, slow = timed(loop)
        found, fast = timed(ours)
        times.append((slow, fast))
    difference = max(float(np.nanmax(np.abs(found[v] - wanted[v]) / np.maximum(wanted[v], 1e-9))) for v in variants)
    slow, fast = (statistics.median(column) / len(masks) for column in zip(*times, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in times)
    return f"{slow:14.3f}{fast:14.3f}{ratio:8.2f}{difference:13.1e}"


def official(
    metric: LearnedPerceptualImagePatchSimilarity, prediction: Frames, reference: Frames, masks: Masks, variants: tuple[str, ...]
) -> Values:
    """The variants from their definitions, one call per frame and variant."""
    found: Values = {variant: np.zeros(len(masks)) for variant in variants}
    for t, (wanted, given, mask) in enumerate(zip(reference, prediction, masks, strict=True)):
        hole = mask[..., None]
        for variant in variants:
            other, share = {
                "frame": (given, 1.0),
                "onesided": (given * ~hole, 1.0),
                "hole": (np.where(hole, given, wanted), mask.mean()),
                "background": (np.where(hole, wanted, given), 1 - mask.mean()),
            }[variant]
            pair = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in (wanted, other))
            found[variant][t] = metric(*(2 * image - 1 for image in pair)).item() / max(share, 0.05)
            metric.reset()
    return found


def official_metric() -> LearnedPerceptualImagePatchSimilarity:
    """The object of torchmetrics with the random features that our pass uses."""
    features = lpips_network.load("squeeze", locate(Network("squeezenet1_1", SOURCE)), "cpu").features
    plain = copy.deepcopy(features).to(memory_format=torch.contiguous_format)
    with mock.patch.object(torchvision.models, "squeezenet1_1", return_value=SimpleNamespace(features=plain)):
        return LearnedPerceptualImagePatchSimilarity(net_type="squeeze")


def clip(frames: int, share: float) -> tuple[Frames, Frames, Masks]:
    """Reference, prediction and an ellipse that moves: smooth noise, with error everywhere and more of it in the hole."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    scene = cv2.GaussianBlur(rng.random((height, width + 4 * frames, 3)), (0, 0), 3)
    scene = (scene - scene.min()) / np.ptp(scene)
    reference = np.stack([scene[:, 4 * t : 4 * t + width] for t in range(frames)])
    radius = int(np.sqrt(share * height * width / np.pi))
    masks = np.zeros(reference.shape[:3], np.uint8)
    for t, mask in enumerate(masks):
        cv2.ellipse(mask, (width // 3 + 5 * t, height // 2), (radius, radius), 0, 0, 360, 1, cv2.FILLED)
    holes = masks.astype(bool)
    prediction = reference + rng.normal(0, np.where(holes[..., None], 0.1, 0.02))
    return (255 * reference).round().astype(np.uint8), (255 * prediction.clip(0, 1)).round().astype(np.uint8), holes


def timed(call: Callable[[], Values]) -> tuple[Values, float]:
    """The result of a call, and its seconds."""
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start


if __name__ == "__main__":
    main()
