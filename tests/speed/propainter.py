"""ProPainter, second by second, on random weights under the released names: its networks have one size only, so these times are real.

    python -m tests.speed.propainter                             12 frames of 432x240 on the CPU
    python -m tests.speed.propainter --frames 80 --device cuda
    python -m tests.speed.propainter --other 'PYTHON SCRIPT'     another program on the same files, taking turns
    python -m tests.speed.propainter --memory                    what the device holds for 80, 240 and 720 frames

What is timed goes from frames in memory to frames in memory; loading is left out. ``--other`` names a command that is started in turn with
ours, with the folder as its last argument. There it finds the three weight files, ``frames/00000.png`` ..., ``masks/00000.png`` ... and
``settings.json``. It writes its frames to ``other.npy``, uint8 (T, H, W, 3), and prints, as its last line, JSON with ``seconds`` and
``peak_memory_bytes``.
"""

from __future__ import annotations

import argparse
import gc
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
from PIL import Image

from tests.baselines.propainter import recipe
from tests.speed.videopainter import GB, in_turn
from vpbench.baselines.propainter import steps
from vpbench.baselines.propainter.model import ProPainter
from vpbench.clip import MaskedClip
from vpbench.provenance import peak_memory_bytes
from vpbench.video import read_frame_folder, read_mask_picture

LENGTHS = (80, 240, 720)
ENDS = 20  # frames at both ends that have a hole where memory is measured


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 432), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compat", default="inference", help="inference does as much as the authors' script; none leaves out idle windows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are, or are written; default: a temporary folder")
    parser.add_argument("--other", default="", metavar="COMMAND")
    parser.add_argument("--once", action="store_true", help="measure ours once in this process and print JSON, as another program does")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.once:
            print(json.dumps(once(folder)))
            return
        settings = prepare(folder, options)
        print(json.dumps(settings), f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
        if options.memory:
            memory(folder, settings)
            return
        mine = shlex.join([sys.executable, "-m", "tests.speed.propainter", "--once", "--folder"])
        ours, theirs = in_turn(mine, options.other, folder, options.repeats)
        report(ours, theirs)
        if theirs:
            ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
            apart = np.abs(np.load(folder / "ours.npy").astype(int) - np.load(folder / "other.npy").astype(int))
            print(f"{ratio:.2f} x ours; levels differ by at most {apart.max()}, {100 * (apart > 0).mean():.3f} % of them at all")


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write weights, frames with a black hole, masks and settings."""
    height, width = options.size
    recipe.write(folder)
    video, masks = recipe.video(options.frames, height, width)
    video[masks] = 0
    for name in ("frames", "masks"):
        (folder / name).mkdir(exist_ok=True)
    for t, (frame, mask) in enumerate(zip(video, masks, strict=True)):
        Image.fromarray(frame).save(folder / "frames" / f"{t:05}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{t:05}.png")
    settings = {"frames": options.frames, "height": height, "width": width, "updates": options.updates}
    settings |= {"device": options.device, "precision": options.precision, "compat": options.compat}
    (folder / "settings.json").write_text(json.dumps(settings))
    return settings


def model(folder: Path, settings: dict[str, Any]) -> ProPainter:
    """Ours, with its networks loaded."""
    options = {key: settings[key] for key in ("device", "precision", "compat")}
    made = ProPainter(str(folder), raft_updates=settings["updates"], **options)
    assert made._networks is not None
    return made


def once(folder: Path) -> dict[str, Any]:
    """Ours, timed."""
    settings = json.loads((folder / "settings.json").read_text())
    frames = read_frame_folder(folder / "frames")
    masks = np.stack([read_mask_picture(path) for path in sorted((folder / "masks").iterdir())])
    clip = MaskedClip("clip", frames, masks, 8.0, "", "", "inpaint", "", None)
    painter = model(folder, settings)
    cuda = settings["device"] != "cpu"
    if cuda:
        painter(clip, seed=0)
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    made = painter(clip, seed=0)
    seconds = time.perf_counter() - started
    np.save(folder / "ours.npy", made)
    stages = {name: round(stage["seconds"] or 0, 2) for name, stage in painter.stages().items()}
    return {"seconds": seconds, "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else peak_memory_bytes(), "stages": stages}


def memory(folder: Path, settings: dict[str, Any]) -> None:
    """The most that one piece of work puts on the device, by the clip's length: everything that a step brings there or makes there.

    On a CUDA device that is the allocator's peak; on the CPU, where device and host are one, the bytes that each step's networks are given.
    """
    painter = model(folder, {**settings, "compat": "none"})
    print(f"{'frames':>8}{'device MB':>12}{'process GB':>12}")
    for length in LENGTHS:
        video, masks = recipe.video(8, settings["height"], settings["width"])
        video, masks = (np.concatenate([part] * (length // 8)) for part in (video, masks))
        video[masks] = 0
        masks[ENDS:-ENDS] = False  # the middle has flow to compute and to complete; the generator, the slowest, is left to both ends
        given: list[int] = []
        undo = [watched(steps.raft, "flows", given), watched(steps, "complete", given), watched(steps, "propagate", given)]
        undo += [watched(painter._networks.generator, name, given) for name in ("encode", "fill")]
        gc.collect()
        if settings["device"] != "cpu":
            torch.cuda.reset_peak_memory_stats()
        painter(MaskedClip("clip", video, masks, 8.0, "", "", "inpaint", "", None), seed=0)
        for put_back in undo:
            put_back()
        most = max(given) if settings["device"] == "cpu" else torch.cuda.max_memory_allocated()
        print(f"{length:8}{most / 1e6:12.1f}{(peak_memory_bytes() or 0) / GB:12.2f}", flush=True)


def watched(owner: Any, name: str, given: list[int]) -> Any:
    """Note the bytes of the tensors that a function is given, call by call; returns what undoes it."""
    call = getattr(owner, name)

    def size(value: Any) -> int:
        if torch.is_tensor(value):
            return value.nbytes
        return sum(map(size, value)) if isinstance(value, list | tuple) else 0

    def noted(*arguments: Any) -> Any:
        given.append(size(arguments))
        return call(*arguments)

    setattr(owner, name, noted)
    return lambda: setattr(owner, name, call)


def report(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Medians over the repetitions."""
    print(f"{'':8}{'median s':>10}{'best s':>10}{'peak GB':>10}")
    for name, runs in (("ours", ours), ("other", theirs)):
        if runs:
            seconds = [run["seconds"] for run in runs]
            print(
                f"{name:8}{statistics.median(seconds):10.1f}{min(seconds):10.1f}{max(run['peak_memory_bytes'] for run in runs) / GB:10.2f}"
            )
    print("ours by stage:", json.dumps(ours[-1]["stages"]))


if __name__ == "__main__":
    main()
