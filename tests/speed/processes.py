"""Clips per minute: of two processes beside one, and of scoring beside the model.

    python -m tests.speed.processes
    python -m tests.speed.processes --frames 48 --repeats 3

Every process is started afresh, as ``vpbench run``, and what is compared takes turns. Starting Python counts; a process uses one thread.

* Two processes: three models that need the processor alone over the demo under ``pixels``, as one process that has one core, as two
  (``hydra/launcher=cores``, four shards) that have two cores, and as one that has two cores, which it uses in part: it reads ahead, and
  FFmpeg has threads.
* Scoring beside the model: a model that waits, as the host does while a GPU works, on two cores with ``overlap=false`` and ``true``.
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

from vpbench.clip import Frames, MaskedClip

MODELS, CLIPS = ("flow_propagation", "temporal_median", "telea"), 8
WAIT = 3.0  # seconds for a clip: about what scoring one of 48 frames takes
CORES = sorted(os.sched_getaffinity(0))


def waiting(clip: MaskedClip, *, seed: int) -> Frames:
    """A model that leaves the processor alone, as one on a GPU does."""
    time.sleep(WAIT)
    return clip.frames


def seconds(out: Path, cores: int, line: list[str]) -> float:
    """How long a command takes into an empty folder, on the first cores of this machine."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "vpbench", "run", *line, "benchmark=demo", "protocol=pixels", f"out={out}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, CORES[:cores]),
    )
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=48, help="of each clip")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    size = f"benchmark.frames={options.frames}"
    sweep = ["-m", f"model={','.join(MODELS)}", size]
    shards = [*sweep, "shard=range(0,4)", "num_shards=4", "hydra/launcher=cores", "hydra.launcher.n_jobs=2"]
    model = ["model=custom", "model.target=tests.speed.processes.waiting", size]
    ways: dict[str, tuple[int, int, list[str]]] = {
        "one process, one core": (len(MODELS), 1, sweep),
        "two processes, two cores": (len(MODELS), 2, shards),
        "one process, two cores": (len(MODELS), 2, sweep),
        "overlap=false": (1, 2, [*model, "overlap=false"]),
        "overlap=true": (1, 2, [*model, "overlap=true"]),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    print("clips per minute:", " | ".join(ways))
    for _ in range(options.repeats):
        for way, (models, cores, line) in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                rates[way].append(60 * CLIPS * models / seconds(Path(folder), cores, line))
        print(" | ".join(f"{found[-1]:.1f}" for found in rates.values()), flush=True)
    for one, other in (("one process, one core", "two processes, two cores"), ("overlap=false", "overlap=true")):
        ratios = [b / a for a, b in zip(rates[one], rates[other], strict=True)]
        print(f"{other} / {one}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}, median {statistics.median(ratios):.2f}")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
