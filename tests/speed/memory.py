"""Peak memory of the passes over one long clip: 720 frames of 480x720, 1.75 GB as uint8 prediction, reference and masks.

    python tests/speed/memory.py                    every block, each in a process of its own: about half an hour on 2 cores
    python tests/speed/memory.py --frames 240 --blocks pixels lpips

Weights are random and count in the peak. The text block uses ViT-B/32 (0.6 GB) in place of ViT-L/14 (1.7 GB), which would take hours
here: a frame's activations do not depend on the number of frames. For the same reason RAFT's flow is measured on fewer frames
(``--flow-frames``); it is computed and stored in chunks.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import composed_protocol
from vpbench.scoring import ClipStore, Protocol, measure_clip

SOURCE = "random-0"
BLOCKS = {
    "pixels": ("standard", ("psnr", "ssim", "mse", "mae")),
    "pixels-official": ("vpbench-official", ("psnr", "ssim", "mse", "mae", "psnr_onesided", "ssim_onesided")),
    "lpips": ("standard", ("lpips",)),
    "lpips-official": ("vpbench-official", ("lpips", "lpips_onesided")),
    "clip": ("standard", ("clip_text", "clip_hole", "clip_tc", "clip_tc_delta")),
    "fvd": ("standard", ("fvd", "kvd")),
    "vfid": ("vpbench-official", ("vfid",)),
    "ewarp_dis": ("standard", ("ewarp_dis",)),
    "ewarp": ("standard", ("ewarp", "ewarp_self")),
}


def one(block: str, frames: int) -> None:
    """Run one block and print frames, peak memory and the size of the networks, in bytes."""
    from tests.speed.metrics import example

    name, metrics = BLOCKS[block]
    leaf = composed_protocol(name)
    leaf["metrics"] = {metric: leaf["metrics"][metric] for metric in metrics}
    for options in leaf["metrics"].values():
        if "weights" in options:
            options["weights"] = SOURCE
        if "clip_text" in options["_target_"]:
            options["network"] = "clip-vit-b32"
    protocol = Protocol.of({**leaf, "mean_rank": []})
    clip, (prediction,) = example(frames, models=1)
    with tempfile.TemporaryDirectory() as folder:
        store = ClipStore(Path(folder) / "run", Path(folder) / ".reference", clip.name, "00" * 32, protocol.view)
        measure_clip(store, clip, prediction, protocol.measures(), "cpu")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, clip.frames.nbytes * 2 + clip.masks.nbytes, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=720)
    parser.add_argument("--flow-frames", type=int, default=34)
    parser.add_argument("--blocks", nargs="+", choices=list(BLOCKS), default=list(BLOCKS))
    parser.add_argument("--one", choices=list(BLOCKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.frames)
        return
    print("| block | frames | clip GB | peak GB | beyond the clip GB |\n|---|--:|--:|--:|--:|")
    for block in options.blocks:
        frames = options.flow_frames if block == "ewarp" else options.frames
        command = [sys.executable, "-m", "tests.speed.memory", "--one", block, "--frames", str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, clip = (int(value) / 1e9 for value in done.stdout.split()[-2:])
        print(f"| {block} | {frames} | {clip:.2f} | {peak:.2f} | {peak - clip:.2f} |", flush=True)


if __name__ == "__main__":
    main()
