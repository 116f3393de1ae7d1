"""Ranked tables of many models: seconds and peak memory of ``vpbench rank`` in a process of its own.

    python -m tests.speed.tables                                       200 models x 150 clips x 20 metrics
    python -m tests.speed.tables --models 16 --options --by operation --pairs

The runs are made up: 18 metrics with a value per clip and two set metrics, eight of them in the mean rank, with the properties and the
frame counts that scoring stores. The time is that of the whole command: start, reading every summary, intervals, ranks, rank ranges, the
resampled mean rank, and writing all files.
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
from typing import Any

import numpy as np

from vpbench.results import SCHEMA
from vpbench.storage import write_json

OPERATIONS = ("inpaint", "add", "remove", "swap", "change")


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="all that follows is passed to `vpbench rank`")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder) / "runs", given.models, given.clips, given.metrics)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.json"))
        seconds, cpu, gigabytes = measure([str(Path(folder) / "runs"), "-o", str(Path(folder) / "out"), *given.options])
        written = sum(path.stat().st_size for path in (Path(folder) / "out").iterdir())
    what = f"{given.models} models x {given.clips} clips x {given.metrics} metrics {' '.join(given.options)}".strip()
    took = f"{seconds:.1f} s ({cpu:.1f} s of one core), {gigabytes:.2f} GB peak"
    print(f"{what}: {took}; reads {size / 1e6:.0f} MB, writes {written / 1e6:.1f} MB")


def measure(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of processor time, and peak gigabytes (1e9 bytes) of ``vpbench rank``; it is this process's only child."""
    begin = time.perf_counter()
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "vpbench", "rank", *arguments], check=True, stdout=subprocess.DEVNULL, env=one_thread)
    seconds = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9


def write_runs(folder: Path, models: int, clips: int, metrics: int) -> None:
    """Run folders whose models differ by a little more than the noise."""
    rng = np.random.default_rng(0)
    names = [f"clip-{i:06}" for i in range(clips)]
    hard = rng.normal(0, 4, (metrics, clips))
    properties = {name: _properties(rng, i) for i, name in enumerate(names)}
    columns = [f"metric{i:02}[{'hole' if i % 2 else 'frame'}]" for i in range(metrics)]
    for model in range(models):
        skill = 0.02 * model + rng.normal(0, 0.3, metrics)
        values = 25 + hard + skill[:, None] + rng.normal(0, 1, (metrics, clips))
        cells = [_column(name, values[i], i >= metrics - 2) for i, name in enumerate(columns)]
        summary = {
            "schema": SCHEMA,
            "benchmark": {"name": "made-up", "fingerprint": "ab" * 32, "clips": clips},
            "model": {"name": f"model-{model:03}", "needs_reference": False, "ranked": True},
            "run": f"model-{model:03}-0123456789",
            "protocol": "standard",
            "track": "raw",
            "clips": {"total": clips, "ok": clips, "names": names, "properties": properties, "failed": [], "missing": []},
            "mean_rank": [*columns[:7], columns[-1]],
            "columns": cells,
        }
        write_json(folder / f"model-{model:03}" / "scores" / "standard-raw" / "summary.json", summary)


def _properties(rng: np.random.Generator, index: int) -> dict[str, Any]:
    return {
        "operation": OPERATIONS[index % 5],
        "tags": ["made-up"],
        "frames": 49,
        "fps": 8.0,
        "seconds": 6.125,
        "height": 480,
        "width": 720,
        "coverage": float(rng.uniform(0.02, 0.6)),
        "motion": float(rng.uniform(0, 2)),
    }


def _column(name: str, values: np.ndarray[Any, np.dtype[np.float64]], is_set: bool) -> dict[str, Any]:
    metric, _, region = name.removesuffix("]").partition("[")
    n, mean = len(values), float(np.mean(values))
    about = {"metric": metric, "region": region, "column": name, "unit": "dB", "direction": "higher", "digits": 2, "scale": 1}
    shared = {"version": 1, "absent": "", "unranked": "", "signature": f"{name}|pooled,rgb|region_sums-b8-v2|track=raw|mean=clips|v1"}
    counts = {"value": mean, "n": n, "excluded": [], "exact_frames": 0, "excluded_frames": 0}
    if is_set:
        without = ((n * mean - values) / (n - 1)).tolist()
        extra: dict[str, Any] = {
            "average": "set",
            "vectors": n,
            "dimensions": 400,
            "leave_one_out": without,
            "standard_error": 0.1,
            "note": "",
        }
        return {**about, **shared, **counts, **extra, "frames": 0}
    return {**about, **shared, **counts, "average": "clips", "frames": 49 * n, "values": values.tolist(), "clip_frames": [49] * n}


if __name__ == "__main__":
    main()
