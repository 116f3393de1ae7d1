"""Clips per minute of a sweep in one process and in two, on models that need the processor alone.

    python -m tests.speed.processes
    python -m tests.speed.processes --frames 48 --repeats 3

Each process is started afresh, as ``vpbench run`` with shards; both ways take turns. The sweep is ``flow_propagation`` and
``temporal_median`` over the demo under ``pixels``; a process uses one thread. Starting Python counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS, CLIPS = ("flow_propagation", "temporal_median"), 8


def seconds(out: Path, processes: int, frames: int) -> float:
    """How long the sweep takes in so many processes, into an empty folder."""
    line = [sys.executable, "-m", "vpbench", "run", "-m", f"model={','.join(MODELS)}", "benchmark=demo", f"benchmark.frames={frames}"]
    line += ["protocol=pixels", f"out={out}", f"num_shards={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begun = time.perf_counter()
    started = [
        subprocess.Popen([*line, f"shard={shard}"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for shard in range(processes)
    ]
    assert [process.wait() for process in started] == [0] * processes
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=48, help="of each clip")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    print("clips per minute: one process, two processes, ratio")
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            one, two = (seconds(Path(folder) / str(n), n, options.frames) for n in (1, 2))
        rates = [60 * CLIPS * len(MODELS) / taken for taken in (one, two)]
        ratios.append(one / two)
        print(f"{repeat}: {rates[0]:.1f}  {rates[1]:.1f}  {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}; load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
