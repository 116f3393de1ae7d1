"""What a process of a sweep does before its first clip, and what `vpbench status` takes, over a VPBench layout of many made-up clips.

    python -m tests.speed.start                     2,000 clips, files of 64 kB
    python -m tests.speed.start --clips 390000 --kilobytes 1

The first process hashes all files, the next one finds the hashes noted. Files are junk: no clip is read. They are in the cache of the
file system, which no disk and no network slows down.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vpbench.file_hashes import SETTLED_SECONDS

COLUMNS = "path,mask_id,start_frame,end_frame,fps,video_inpainting_prompt,image_inpainting_prompt\n"


def write_layout(root: Path, clips: int, kilobytes: int) -> None:
    """A video and a mask file for every row of a list."""
    data, rows = os.urandom(kilobytes * 1024), []
    for number in range(clips):
        stem = f"{number:012}_{number}_seg_0_49"
        for path in (
            root / "pexels/pexels/raw_video" / stem[:9] / f"{stem}.mp4",
            root / "video_inpainting/pexels" / stem / "all_masks.npz",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        rows.append(f"{stem}.mp4,1,0,49,24,a caption of the usual length that says what is to be seen,what is in the hole\n")
    (root / "list.csv").write_text(COLUMNS + "".join(rows))


def start(root: Path, shard: int, shards: int) -> None:
    """In a process of its own: build a run."""
    from vpbench.check import _composed
    from vpbench.configuration import resolved
    from vpbench.running import Run

    overrides = ["model=telea", "protocol=pixels", "benchmark=vpbench", f"benchmark.root={root}", "benchmark.csv=list.csv"]
    config = resolved(_composed([*overrides, f"out={root}/runs", f"shard={shard}", f"num_shards={shards}"], None))
    begun = time.perf_counter()
    run = Run(config)
    waiting = sum(not run.is_done(handle.name) for handle in run.selected)
    seconds, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"shard {shard} of {shards}: {seconds:.1f} s until the first of its {waiting} clips, {peak:.2f} GB peak", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2_000)
    parser.add_argument("--kilobytes", type=int, default=64)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of is not None:
        start(options.of, options.shard, options.shards)
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_layout(root, options.clips, options.kilobytes)
        time.sleep(SETTLED_SECONDS + 0.5)
        for shard in (0, 1):
            line = [sys.executable, "-m", "tests.speed.start", "--of", place, "--shard", str(shard), "--shards", str(options.shards)]
            subprocess.run(line, check=True)
        for path in (root / "runs/vpbench-inpaint/.hashes.json", *root.glob("runs/*/*/run.json")):
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vpbench", "status", f"{place}/runs"], stdout=subprocess.DEVNULL, check=False)
        print(f"vpbench status: {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
