"""PSNR, MSE, MAE and SSIM, whole and official masked, against the loop of the official VPBench evaluation.

    python -m tests.speed.pixels --frames 49 --repeats 5

The official loop scores one frame at a time: it calls the four torchmetrics objects for the whole frame and again with the hole
blanked in the prediction, and every call converts both frames from uint8. The contenders take turns, so that what else runs on the
machine slows all alike; the speed is the median of the ratios of single turns.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np

from vpbench.measuring import Comparison
from vpbench.metrics.mae import Mae
from vpbench.metrics.mse import Mse
from vpbench.metrics.psnr import Psnr
from vpbench.metrics.ssim import Ssim

METRICS = ("psnr", "ssim", "mse", "mae")


def natural(frames, height=480, width=720, seed=0):
    """Frames with the spectrum of photographs, a noisy prediction of them and a moving ellipse as hole (a tenth of the frame)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    reference = np.empty((frames, height, width, 3), np.uint8)
    prediction, masks = np.empty_like(reference), np.zeros((frames, height, width), np.uint8)
    for t in range(frames):
        for channel in range(3):
            spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency
            values = np.fft.irfft2(spectrum, (height, width))
            reference[t, :, :, channel] = np.clip(120 + 50 * values / values.std(), 0, 255)
        prediction[t] = np.clip(reference[t] + rng.normal(0, 8, reference[t].shape), 0, 255)
        centre = (int(width * (0.4 + 0.2 * t / frames)), height // 2)
        cv2.ellipse(masks[t], centre, (width // 6, height // 7), 0, 0, 360, 1, -1)
    return Comparison(prediction, reference, masks.astype(bool))


class Official:
    """The four metrics of the official loop, as torchmetrics objects that are used again and again."""

    def __init__(self, device="cpu"):
        from torchmetrics import MeanAbsoluteError, MeanSquaredError
        from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

        self.device = device
        self.objects = {
            "psnr": PeakSignalNoiseRatio(data_range=1.0).to(device),
            "ssim": StructuralSimilarityIndexMeasure(data_range=1.0).to(device),
            "mse": MeanSquaredError().to(device),
            "mae": MeanAbsoluteError().to(device),
        }

    def __call__(self, comparison):
        values = {f"{name}{where}": [] for where in ("", "_onesided") for name in METRICS}
        for prediction, reference, mask in zip(comparison.prediction, comparison.reference, comparison.masks, strict=True):
            for where, keep in (("", None), ("_onesided", kept(mask))):
                for name in METRICS:
                    values[f"{name}{where}"].append(self.objects[name](*official_pair(reference, prediction, keep, self.device)).item())
        return {name: np.array(frames) for name, frames in values.items()}


def kept(mask):
    """What the official loop multiplies a prediction by: uint8 (H, W, 3), 0 in the hole."""
    return 1 - np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8)


def official_pair(reference, prediction, keep=None, device="cpu"):
    """A frame of both videos as the official loop converts it for every call, float32 (1, 3, H, W) on 0-1; ``keep`` blanks one of them."""
    import torch

    wanted, predicted = reference.astype(np.float32) / 255, prediction.astype(np.float32) / 255
    if keep is not None:
        predicted = predicted * keep.astype(np.float32)
    return [torch.tensor(frame).permute(2, 0, 1)[None].to(device).contiguous() for frame in (wanted, predicted)]


def ours(border):
    """A function from a comparison to frame values, in the official variant (``reflect``) or the standard one (``valid``)."""
    metrics = [Psnr(), Ssim(border=border), Mse(), Mae()]
    if border == "reflect":
        metrics += [kind("background", onesided=True) for kind in (Psnr, Mse, Mae)] + [Ssim("background", border=border, onesided=True)]

    def values(comparison):
        fresh = Comparison(comparison.prediction, comparison.reference, comparison.masks)  # has computed nothing yet
        return {f"{m.name}{'_onesided' if m.onesided else ''}": m.frames(fresh.arrays(m.measure)) for m in metrics}

    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    comparison = natural(options.frames)
    contenders = {"official loop": Official(), "ours, official variant": ours("reflect"), "ours, standard": ours("valid")}
    few = Comparison(comparison.prediction[:2], comparison.reference[:2], comparison.masks[:2])
    for contender in contenders.values():
        contender(few)  # imports and first allocations
    seconds, results = {name: [] for name in contenders}, {}
    for _ in range(options.repeats):
        for name, contender in contenders.items():
            start = time.perf_counter()
            results[name] = contender(comparison)
            seconds[name].append((time.perf_counter() - start) / options.frames)
    print(f"{options.frames} frames of 720x480, hole {comparison.masks.mean():.1%}, {options.repeats} turns")
    print(f"{'':24s}{'ms/frame':>10s}{'speed':>8s}")
    for name, own in seconds.items():
        ratio = statistics.median(loop / mine for loop, mine in zip(seconds["official loop"], own, strict=True))
        print(f"{name:24s}{1000 * statistics.median(own):10.1f}{ratio:7.1f}x")
    print("largest difference from the official loop, any frame:")
    for name, wanted in results["official loop"].items():
        print(f"  {name:16s}{np.abs(results['ours, official variant'][name] - wanted).max():.1e}")


if __name__ == "__main__":
    main()
