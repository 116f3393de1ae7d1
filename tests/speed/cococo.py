"""COCOCO's denoising, second by second, on random weights: narrow on the CPU, or of the released width.

    python -m tests.speed.cococo                             a fifth of the released width, 16 frames of 432x240, 1 step, CPU
    python -m tests.speed.cococo --width released --device cuda --precision float16 --steps 50
    python -m tests.speed.cococo --other 'PYTHON SCRIPT'     another program on the same files, taking turns
    python -m tests.speed.cococo --memory                    what the loop's tensors need for clips of 80, 240 and 720 frames

What is timed is the loop over the steps, from noise to latents, with guidance: two passes of the network per step. VAE and text encoder
are diffusers' and transformers' own and are left out. Every repetition is a process of its own, which runs the loop twice and measures the
second time. ``--other`` names a command that is started in turn with ours, with the folder as its last argument. There it finds
``unet.safetensors`` (under the released names, without tables of positions), ``inputs.npz`` (``noise``, ``mask``, ``masked``, ``texts``:
see ``sampling.sample``) and ``settings.json``. It writes its latents (T, 4, h, w) to ``other.npy`` and prints, as its last line, JSON with
``seconds`` for the loop, the second time it does it, and ``peak_memory_bytes``. The difference is relative to the largest value.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from tests.baselines.cococo import tiny
from tests.baselines.cococo.live import Live
from tests.speed.videopainter import GB, difference, in_turn
from vpbench.baselines.cococo.networks import SMALL
from vpbench.baselines.cococo.sampling import sample, spans
from vpbench.baselines.cococo.unet import attach
from vpbench.provenance import peak_memory_bytes

WIDTHS = {"narrow": (64, 128, 256, 256), "released": (320, 640, 1280, 1280)}
TEXT = 768


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", choices=sorted(WIDTHS), default="narrow")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 432), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are, or are written; default: a temporary folder")
    parser.add_argument("--other", default="", metavar="COMMAND")
    parser.add_argument("--once", action="store_true", help="measure ours once in this process and print JSON, as another program does")
    parser.add_argument("--memory", action="store_true", help="print what clips of several lengths need, on the CPU, and nothing else")
    options = parser.parse_args()
    if options.memory:
        memory()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.once:
            print(json.dumps(once(folder)))
            return
        settings = prepare(folder, options)
        print(json.dumps(settings), f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
        mine = shlex.join([sys.executable, "-m", "tests.speed.cococo", "--once", "--folder"])
        ours, theirs = in_turn(mine, options.other, folder, options.repeats)
        report(ours, theirs, settings["steps"])
        if theirs:
            ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
            print(f"{ratio:.2f} x ours, latents differ by {difference(folder):.1e}")


def memory(height: int = 64, width: int = 96) -> None:
    """Tensors of one step with guidance, in windows of 16 frames, on small random weights; weights and inputs are not counted."""
    unet = attach(UNet2DConditionModel(**SMALL))
    print(f"{'frames':>8}{'windows':>9}{'peak MB':>10}{'inputs MB':>11}")
    for frames in (16, 80, 240, 720):
        clip = {name: torch.zeros(frames, count, height // 8, width // 8) for name, count in (("noise", 4), ("mask", 1), ("masked", 4))}
        windows = spans(frames, 16, 4)
        with torch.inference_mode(), Live() as live:
            sample(unet, **clip, texts=torch.zeros(2, 77, SMALL["cross_attention_dim"]), steps=1, guidance=10.0, windows=windows)
        held = sum(tensor.nbytes for tensor in clip.values())
        print(f"{frames:8}{len(windows):9}{live.peak / 1e6:10.2f}{held / 1e6:11.2f}", flush=True)


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write weights that are not there yet, inputs and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    widths = WIDTHS[options.width]
    if not (folder / "unet.safetensors").is_file():
        shapes = {name: tuple(tensor.shape) for name, tensor in network(widths, device="meta").state_dict().items()}
        save_file({name: tiny.values(f"speed {name}", shape) for name, shape in shapes.items()}, folder / "unet.safetensors")
    height, width = (size // 8 for size in options.size)
    clip = {name: (options.frames, count, height, width) for name, count in (("noise", 4), ("mask", 1), ("masked", 4))}
    drawn = {name: tiny.drawn(name, shape).numpy() for name, shape in {**clip, "texts": (2, 77, TEXT)}.items()}
    np.savez(folder / "inputs.npz", **{**drawn, "mask": (drawn["mask"] > 0).astype(np.float32)})
    settings = {"widths": widths, "steps": options.steps, "guidance": 10.0, "device": options.device, "precision": options.precision}
    settings |= {"frames": options.frames, "height": options.size[0], "width": options.size[1], "text": TEXT}
    (folder / "settings.json").write_text(json.dumps(settings))
    return settings


def network(widths: Any, device: str) -> Any:
    sizes = {**tiny.UNET, "block_out_channels": tuple(widths), "cross_attention_dim": TEXT}
    with torch.device(device):
        return attach(UNet2DConditionModel(**sizes), device=device)


def once(folder: Path) -> dict[str, Any]:
    """Ours: load, run the loop to warm up, then run it and measure."""
    settings = json.loads((folder / "settings.json").read_text())
    device, dtype = settings["device"], getattr(torch, settings["precision"])
    unet = network(settings["widths"], "meta")
    unet.load_state_dict(load_file(folder / "unet.safetensors"), assign=True)
    unet.to(device, dtype)
    with np.load(folder / "inputs.npz") as file:
        inputs = {name: torch.from_numpy(file[name]).to(device) for name in file.files}
    windows = spans(settings["frames"], None, 0)
    for _ in range(2):
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        with torch.inference_mode():
            made = sample(unet, **inputs, steps=settings["steps"], guidance=settings["guidance"], windows=windows)
            latents = made.float().cpu().numpy()
        seconds = time.perf_counter() - started
    np.save(folder / "ours.npy", latents)
    peak = peak_memory_bytes() if device == "cpu" else torch.cuda.max_memory_allocated()
    return {"seconds": seconds, "peak_memory_bytes": peak}


def report(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], steps: int) -> None:
    """Medians over the repetitions, per step."""
    print(f"{'':8}{'median s/step':>14}{'best s/step':>14}{'peak GB':>10}")
    for name, runs in (("ours", ours), ("other", theirs)):
        if runs:
            seconds = [run["seconds"] / steps for run in runs]
            peak = max(run["peak_memory_bytes"] for run in runs) / GB
            print(f"{name:8}{statistics.median(seconds):14.2f}{min(seconds):14.2f}{peak:10.2f}")


if __name__ == "__main__":
    main()
