"""The whole ``vpbench-official`` protocol beside a faithful model of the official per-frame loop, on seeded random weights.

    python tests/speed/metrics.py                            49 frames of 480x720, one repetition: about a quarter of an hour on 2 cores
    python tests/speed/metrics.py --frames 8 --repeats 3     shorter, with medians
    python tests/speed/metrics.py --blocks clip              one block; the blocks are pixels, lpips, clip, tc, i3d
    python tests/speed/metrics.py --device cuda

The model of the official loop does what ``evaluate/eval_inpainting.py`` of TencentARC/VideoPainter does per frame, with batches of one:
six torchmetrics objects for the whole frame and for the masked one, three CLIP scores of which torchmetrics updates each twice, images
and texts encoded every time; per clip two temporal consistencies and two I3D passes at full size. Both sides use the same weights, so
the values must be equal; the largest difference is printed. Blocks of both sides alternate, so that a noisy machine disturbs both.
Ratios are official over ours: for the first model (nothing cached) and for the next one (everything of the reference on disk).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.conftest import composed_protocol
from tests.metrics.clips import noisy, textured
from tests.speed import pixels
from tests.speed.lpips import official_metric
from vpbench.clip import Clip, Frames
from vpbench.measuring import Arrays, ClipMetric, Comparison, Network
from vpbench.metrics import clip_encoder, clip_tokens, i3d
from vpbench.scoring import ClipStore, Protocol, measure_clip
from vpbench.views import official_round_trip

SOURCE = "random-0"
BLOCKS = {
    "pixels": ("psnr", "ssim", "mse", "mae", "psnr_onesided", "ssim_onesided", "mse_onesided", "mae_onesided"),
    "lpips": ("lpips", "lpips_onesided"),
    "clip": ("clip_score", "clip_score_masked", "clip_score_region"),
    "tc": ("clip_tc",),
    "i3d": ("vfid",),
}
CAPTION = " ".join(f"In part {i} of the video a person walks along the beach while waves roll in and gulls circle." for i in range(8))
REGION_CAPTION = "a person in a red coat"


class Official:
    """The official loop, one block at a time; every method returns the columns it computes, each the mean over frames."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.four = pixels.Official(device)

    def load(self, blocks: list[str]) -> None:
        """Load what the blocks need, outside the measured time."""
        if "lpips" in blocks:
            self.lpips = official_metric().to(self.device)
        if "clip" in blocks:
            self.clip = clip_encoder.plain_model(Network("clip-vit-l14", SOURCE), self.device)
        if "tc" in blocks:
            self.clip_b = clip_encoder.plain_model(Network("clip-vit-b32", SOURCE), self.device)
        if "i3d" in blocks:
            self.i3d = i3d.load(Network("i3d-rgb-imagenet", SOURCE), self.device, 1e-3, "instance")

    def pixels(self, g: Frames, p: Frames, masks: np.ndarray) -> dict[str, float]:
        found = self.four(Comparison(p, g, masks))
        return {f"{name}[{'background' if name.endswith('onesided') else 'frame'}]": values.mean() for name, values in found.items()}

    def lpips_(self, g: Frames, p: Frames, masks: np.ndarray) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for one, other, mask in zip(g, p, masks, strict=True):
            for name, keep in (("lpips[frame]", None), ("lpips_onesided[background]", pixels.kept(mask))):
                a, b = pixels.official_pair(one, other, keep, self.device)
                found.setdefault(name, []).append(self.lpips(a * 2 - 1, b * 2 - 1).cpu().item())
        return _means(found)

    def clip_(self, g: Frames, p: Frames, masks: np.ndarray) -> dict[str, float]:
        long, short = (clip_tokens.caption_ids(text, "unterminated") for text in (CAPTION, REGION_CAPTION))
        found: dict[str, list[float]] = {}
        for frame, mask in zip(p, masks, strict=True):
            hole = frame * mask[..., None]
            for name, image, ids in (
                ("clip_score[frame]", frame, long),
                ("clip_score_masked[hole]", hole, long),
                ("clip_score_region[hole]", hole, short),
            ):
                for _ in range(2):  # torchmetrics runs update twice for a metric with full state
                    score = self._clip_score(image, ids)
                found.setdefault(name, []).append(score)
        return _means(found)

    def tc(self, g: Frames, p: Frames, masks: np.ndarray) -> dict[str, float]:
        values = {}
        for name, seen in (("clip_tc[frame]", None), ("clip_tc[hole]", masks)):
            images = torch.from_numpy(p).float().to(self.device) / 255
            images = images.permute(0, 3, 1, 2)
            if seen is not None:
                images = images * torch.from_numpy(seen).float().to(self.device)[:, None]
            images = torch.nn.functional.interpolate(images, size=(224, 224), mode="bilinear", align_corners=False, antialias=True)
            features = self.clip_b.encode_image(images)
            features = features / features.norm(dim=1, keepdim=True)
            values[name] = (features[1:] * features[:-1]).sum(dim=1).mean().cpu().item()
        return values

    def i3d_(self, g: Frames, p: Frames, masks: np.ndarray) -> dict[str, float]:
        for frames in (g, p):
            video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float().div(255).to(self.device)
            self.i3d.activations(video, 0.0, ["Mixed_5c"])["Mixed_5c"].mean(dim=(2, 3, 4)).cpu()
        return {}

    def _clip_score(self, image: np.ndarray, ids: np.ndarray) -> float:
        height, width = image.shape[:2]
        shorter = min(height, width)
        small = Image.fromarray(image).resize((224 * width // shorter, 224 * height // shorter), Image.Resampling.BICUBIC)
        left, top = (small.width - 224) // 2, (small.height - 224) // 2
        pixels = torch.from_numpy(np.asarray(small.crop((left, top, left + 224, top + 224))).copy())[None]
        image_features = self.clip.encode_image(clip_encoder.normalised(pixels).to(self.device))
        text_features = self.clip.encode_text(torch.from_numpy(ids).to(self.device))
        unit = [f / f.norm(p=2, dim=-1, keepdim=True) for f in (image_features, text_features)]
        return max(100 * (unit[0] * unit[1]).sum(dim=-1).cpu().item(), 0.0)


def _means(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in found.items()}


def example(frames: int, models: int = 2) -> tuple[Clip, list[Frames]]:
    """A clip of 480x720 with a moving hole of about a tenth of the frame, and predictions that differ from it everywhere."""
    wide = textured(1, 480, 720 + frames)[0]
    reference = np.stack([wide[:, t : t + 720] for t in range(frames)])
    masks = np.zeros(reference.shape[:3], bool)
    for t, mask in enumerate(masks):
        mask[120:310, 200 + t % 300 : 390 + t % 300] = True
    predictions = []
    for seed in range(models):
        prediction = reference.copy()
        for t, (frame, mask) in enumerate(zip(prediction, masks, strict=True)):
            frame[:] = noisy(np.where(mask[..., None], 255 - frame, frame), 4, 1000 * seed + t)
        predictions.append(prediction)
    return Clip("clip", reference, masks, 8.0, CAPTION, REGION_CAPTION), predictions


def protocol_of(blocks: list[str]) -> Protocol:
    """``vpbench-official`` with the metrics of these blocks, on random weights."""
    leaf = composed_protocol("vpbench-official")
    leaf["metrics"] = {name: leaf["metrics"][name] for block in blocks for name in BLOCKS[block]}
    for metric in leaf["metrics"].values():
        if "weights" in metric:
            metric["weights"] = SOURCE
    return Protocol.of({**leaf, "mean_rank": []})


def ours(clip: Clip, prediction: Frames, protocol: Protocol, folder: Path, model: str, device: str) -> dict[str, float]:
    """Measure one prediction; returns the columns that have a value per clip."""
    store = ClipStore(folder / model, folder / ".reference", clip.name, "00" * 32, protocol.view)
    measure_clip(store, clip, prediction, protocol.measures(), device)
    found: dict[str, float] = {}
    for column in protocol.columns:
        if isinstance(column.metric, ClipMetric):
            arrays: Arrays | None = store.read(column.metric.measure)
            assert arrays is not None
            found[column.name] = column.clip(arrays, True).value
    return found


def seconds(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Time a call; work that a GPU has not finished counts."""
    started = time.perf_counter()
    result = call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--blocks", nargs="+", choices=list(BLOCKS), default=list(BLOCKS))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    clip, predictions = example(options.frames)
    official = Official(options.device)
    official.load(options.blocks)
    calls = {"pixels": official.pixels, "lpips": official.lpips_, "clip": official.clip_, "tc": official.tc, "i3d": official.i3d_}
    reference = official_round_trip()[clip.frames]
    warm = replace(clip, frames=clip.frames[:2], masks=clip.masks[:2])
    print(f"{options.frames} frames of 480x720, hole {clip.masks.mean():.1%}, {options.repeats} repetitions, {options.device}, "
          f"torch {torch.__version__}, {torch.get_num_threads()} threads")  # fmt: skip
    times: dict[str, list[tuple[float, float, float]]] = {block: [] for block in options.blocks}
    worst: dict[str, tuple[float, str]] = {}
    with torch.inference_mode():
        for block in options.blocks:  # first calls allocate and choose kernels
            with tempfile.TemporaryDirectory() as folder:
                ours(warm, predictions[0][:2], protocol_of([block]), Path(folder), "warm", options.device)
            calls[block](reference[:2], predictions[0][:2], clip.masks[:2])
        for _ in range(options.repeats):
            for block in options.blocks:
                protocol = protocol_of([block])
                with tempfile.TemporaryDirectory() as folder:
                    scored = partial(ours, clip, protocol=protocol, folder=Path(folder), device=options.device)
                    first, _ = seconds(partial(scored, predictions[1], model="first"), options.device)
                    theirs, expected = seconds(partial(calls[block], reference, predictions[0], clip.masks), options.device)
                    second, found = seconds(partial(scored, predictions[0], model="next"), options.device)
                times[block].append((theirs, first, second))
                worst[block] = max(((abs(expected[name] - found[name]), name) for name in expected), default=(0.0, ""))
    print("| block | official s | first model s | ratio | next model s | ratio | largest difference |\n|---|--:|--:|--:|--:|--:|--:|")
    totals = [tuple(sum(times[block][i][k] for block in options.blocks) for k in range(3)) for i in range(options.repeats)]
    for name, rows in [*times.items(), ("whole suite", totals)]:
        middle = [statistics.median(row[k] for row in rows) for k in range(3)]
        ratios = [statistics.median(row[0] / row[k] for row in rows) for k in (1, 2)]
        difference = f"{worst[name][0]:.1e} {worst[name][1]}" if name in worst and worst[name][1] else ""
        print(f"| {name} | {middle[0]:.2f} | {middle[1]:.2f} | {ratios[0]:.2f} | {middle[2]:.2f} | {ratios[1]:.2f} | {difference} |")


if __name__ == "__main__":
    main()
