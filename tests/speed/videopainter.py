"""VideoPainter's denoising and VAE, second by second, on random weights: tiny on the CPU, or at the released size on a GPU.

    python -m tests.speed.videopainter                                       tiny, CPU, 3 repetitions
    python -m tests.speed.videopainter --size full --device cuda --compile   480x720x49, 50 steps, bfloat16; writes 13 GB into --folder
    python -m tests.speed.videopainter --other 'PYTHON SCRIPT'               another program on the same files, taking turns

What is timed is one clip from pixels and text embeddings to pixels: encoding, all steps, decoding. Text encoder and image model are left
out. Every repetition is a process of its own, which makes the clip twice and measures the second time; it loads and compiles before.
``--other`` names a command that is started in turn with ours, with the folder as its last argument.
There it finds ``cog`` and ``branch`` (checkpoints in the layout of diffusers), ``inputs.npz`` (``embeddings``, ``frames``, ``masks``,
``first``: see ``tests/baselines/diffusion/tiny.py``) and ``settings.json``. It writes its latents to ``other.npy`` and prints, as its last
line, JSON with ``seconds`` for the same span, the second time it does it, and ``peak_memory_bytes``. The difference of the latents is
relative to their largest value.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.baselines.diffusion import tiny
from vpbench.baselines.diffusion import windows
from vpbench.baselines.diffusion.latent_blend import OFFICIAL_SEED, LatentBlend
from vpbench.baselines.diffusion.stages import Stages
from vpbench.baselines.diffusion.videopainter import VideoPainter

SIZES = {  # height, width, frames, steps, precision
    "tiny": (tiny.HEIGHT, tiny.WIDTH, tiny.WINDOW, 4, "float32"),
    "full": (480, 720, 49, 50, "bfloat16"),
}
GB = 1e9


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="default: 4 for tiny, 50 for full")
    parser.add_argument("--windows", type=int, default=1, help="length of the clip in windows (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are, or are written; default: a temporary folder")
    parser.add_argument("--other", default="", metavar="COMMAND")
    parser.add_argument("--once", action="store_true", help="measure ours once in this process and print JSON, as another program does")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.once:
            print(json.dumps(once(folder, options)))
            return
        settings = prepare(folder, options)
        what = f"{options.size}, {settings['frames']} frames, {settings['steps']} steps, {settings['precision']}, {options.device}"
        print(f"{what}, {torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
        mine = shlex.join([sys.executable, "-m", "tests.speed.videopainter", *sys.argv[1:], "--once", "--folder"])
        ours, theirs = in_turn(mine, options.other, folder, options.repeats)
        report(ours, theirs, settings, difference(folder) if options.other else None)


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write checkpoints and inputs that are not there yet."""
    height, width, window, steps, precision = SIZES[options.size]
    if not (folder / "cog").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        if options.size == "tiny":
            tiny.write_backbone(folder / "cog")
            tiny.write_branch(folder / "branch")
        else:
            write_full(folder, options.device)
    frames = window * options.windows
    pixels, masks, first = tiny.video(frames, height, width)
    tokens, text = (tiny.TEXT_TOKENS, tiny.TEXT_WIDTH) if options.size == "tiny" else (226, 4096)
    embeddings = tiny.noise("embeddings", (2, tokens, text)).astype(np.float32)
    np.savez(folder / "inputs.npz", embeddings=embeddings, frames=pixels, masks=masks, first=first)
    settings = {
        "height": height,
        "width": width,
        "window": window,
        "frames": frames,
        "overlap": 0,
        "precision": precision,
        "steps": options.steps or steps,
        "guidance": 6.0,
        "seed": OFFICIAL_SEED,
        "device": options.device,
        "text_tokens": tokens,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return settings


def write_full(folder: Path, device: str) -> None:
    """A checkpoint of the released size with torch's initial weights, bfloat16, without text encoder."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    shape = {name: value for name, value in tiny.FULL_BRANCH.items() if name not in ("num_layers", "wo_text", "id_pool_resample_learnable")}
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            CogVideoXTransformer3DModel(num_layers=42, **shape).save_pretrained(folder / "cog" / "transformer", max_shard_size="5GB")
            vae = AutoencoderKLCogVideoX(down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4)
            tensors = {name: torch.randn(size) * 0.02 for name, size in tiny.branch_shapes(tiny.FULL_BRANCH).items()}
    finally:
        torch.set_default_dtype(torch.float32)
    vae.register_to_config(scaling_factor=0.7)
    vae.save_pretrained(folder / "cog" / "vae")
    tiny.save(folder / "branch", tiny.FULL_BRANCH, {name: tensor.cpu() for name, tensor in tensors.items()}, torch.bfloat16)
    tiny.write_index(folder / "cog", text=False)


def once(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Ours with the article's settings: load, make the clip to warm up, then make it and measure."""
    settings = json.loads((folder / "settings.json").read_text())
    backbone = VideoPainter(
        checkpoint=str(folder / "cog"),
        branch=str(folder / "branch"),
        compat="official",
        compile=options.compile,
        attention=options.attention,
        **{name: settings[name] for name in ("height", "width", "window", "steps", "precision", "device")},
    )
    model = LatentBlend(backbone, compat="official", overlap=settings["overlap"])
    clip(model, folder)
    latents, found = clip(model, folder)
    np.save(folder / "ours.npy", latents)
    return found


def clip(model: LatentBlend, folder: Path) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Make the clip once: its latents, and what each stage took; ``clip`` is the whole."""
    with np.load(folder / "inputs.npz") as file:
        inputs = dict(file)
    masks = inputs["masks"].copy()
    masks[0] = False
    layout = windows.plan(len(masks), model.backbone.geometry.window, model.overlap, cover=False)
    frames = [inputs["first"], *inputs["frames"][1:]]
    text = torch.from_numpy(inputs["embeddings"])
    stages = Stages()
    model._stages = stages
    started = time.perf_counter()
    latents = model.latents(frames, masks, layout, text, OFFICIAL_SEED)
    with stages("decode"):
        model.backbone.decode(latents)
    taken = time.perf_counter() - started
    found: dict[str, dict[str, Any]] = dict(stages.record())
    found["clip"] = {"seconds": taken, "peak_memory_bytes": max(stage["peak_memory_bytes"] for stage in found.values())}
    return latents.float().cpu().numpy(), found


def in_turn(mine: str, other: str, folder: Path, repeats: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What our command and another one, where there is any, print about themselves, started one after the other ``repeats`` times."""
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(run(mine, folder))
        if other:
            theirs.append(run(other, folder))
    return ours, theirs


def run(command: str, folder: Path) -> dict[str, Any]:
    """Start a program on the folder; what it measured."""
    done = subprocess.run([*shlex.split(command), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def difference(folder: Path) -> float:
    """Largest difference of the two programs' latents, relative to the largest value."""
    ours, theirs = np.load(folder / "ours.npy"), np.load(folder / "other.npy")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def report(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], settings: dict[str, Any], apart: float | None) -> None:
    """Medians over the repetitions."""
    print(f"{'':12}{'median s':>10}{'best s':>10}{'peak GB':>10}")
    for stage in ours[0]:
        seconds = [run[stage]["seconds"] for run in ours]
        peak = max(run[stage]["peak_memory_bytes"] or 0 for run in ours) / GB
        print(f"{stage:12}{statistics.median(seconds):10.3f}{min(seconds):10.3f}{peak:10.2f}")
    steps = settings["steps"] * max(1, settings["frames"] // settings["window"])
    print(f"per step    {statistics.median(run['denoise']['seconds'] for run in ours) / steps:10.3f}")
    if theirs:
        seconds = [run["seconds"] for run in theirs]
        ratio = statistics.median(b["seconds"] / a["clip"]["seconds"] for a, b in zip(ours, theirs, strict=True))
        best = min(seconds) / min(run["clip"]["seconds"] for run in ours)
        peak = max(run["peak_memory_bytes"] for run in theirs) / GB
        print(f"{'other':12}{statistics.median(seconds):10.3f}{min(seconds):10.3f}{peak:10.2f}   ", end="")
        print(f"{ratio:.2f} (best: {best:.2f}) x ours, latents differ by {apart:.1e}")


if __name__ == "__main__":
    main()
