"""Peak memory of the passes over one clip of 480x720: what they need beside the clip, by its length.

    python -m tests.speed.memory                        every block at its own lengths: about an hour on 2 cores
    python -m tests.speed.memory --blocks clip-l14 ewarp
    python -m tests.speed.memory --blocks pixels lpips --frames 120 240

Every row is a process of its own. 720 frames are 1.75 GB as uint8 prediction, reference and masks. Weights are random and count in the
peak. The slow networks, ViT-L/14 and RAFT, are measured on a few dozen frames at two lengths: what they need beyond the clip must not grow
with its length. (That of ``vfid`` does, see docs/performance.md.)
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import composed_protocol
from vpbench.scoring import ClipStore, Protocol, measure_clip

SOURCE = "random-0"


@dataclass(frozen=True)
class Block:
    """Metrics of a protocol, and the lengths of clips, in frames, on which they are measured."""

    protocol: str
    metrics: tuple[str, ...]
    lengths: tuple[int, ...] = (720,)
    network: str = ""  # in place of ViT-L/14


CLIP = ("clip_text", "clip_hole", "clip_tc", "clip_tc_delta")
BLOCKS = {
    "pixels": Block("standard", ("psnr", "ssim", "mse", "mae")),
    "pixels-official": Block("vpbench-official", ("psnr", "ssim", "mse", "mae", "psnr_onesided", "ssim_onesided")),
    "lpips": Block("standard", ("lpips",)),
    "lpips-official": Block("vpbench-official", ("lpips", "lpips_onesided")),
    "clip-b32": Block("standard", CLIP, (120,), "clip-vit-b32"),
    "clip-l14": Block("standard", CLIP, (24, 72)),
    "fvd": Block("standard", ("fvd", "kvd")),
    "vfid": Block("vpbench-official", ("vfid",), (24, 72)),
    "ewarp_dis": Block("standard", ("ewarp_dis",)),
    "ewarp": Block("standard", ("ewarp",), (33, 65)),  # one and two chunks of flow
}


def one(name: str, frames: int) -> None:
    """Run one block and print peak memory and the size of the clip, in bytes."""
    from tests.speed.metrics import example

    block = BLOCKS[name]
    leaf = composed_protocol(block.protocol)
    leaf["metrics"] = {metric: leaf["metrics"][metric] for metric in block.metrics}
    for options in leaf["metrics"].values():
        if "weights" in options:
            options["weights"] = SOURCE
        if block.network and "clip_text" in options["_target_"]:
            options["network"] = block.network
    protocol = Protocol.of({**leaf, "mean_rank": []})
    clip, (prediction,) = example(frames, models=1)
    with tempfile.TemporaryDirectory() as folder:
        store = ClipStore(Path(folder) / "run", Path(folder) / ".reference", clip.name, "00" * 32, protocol.view)
        measure_clip(store, clip, prediction, protocol.measures(), "cpu")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, clip.frames.nbytes * 2 + clip.masks.nbytes, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", nargs="+", choices=list(BLOCKS), default=list(BLOCKS))
    parser.add_argument("--frames", nargs="+", type=int, help="lengths in place of the blocks' own")
    parser.add_argument("--one", choices=list(BLOCKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, *options.frames)
        return
    print("| block | frames | clip GB | peak GB | beyond the clip GB |\n|---|--:|--:|--:|--:|")
    for name in options.blocks:
        for frames in options.frames or BLOCKS[name].lengths:
            command = [sys.executable, "-m", "tests.speed.memory", "--one", name, "--frames", str(frames)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            peak, clip = (int(value) / 1e9 for value in done.stdout.split()[-2:])
            print(f"| {name} | {frames} | {clip:.2f} | {peak:.2f} | {peak - clip:.2f} |", flush=True)


if __name__ == "__main__":
    main()
