"""How often the gate raises an alarm in experiments whose truth is known, and how long a verdict takes in a fresh process.

    python -m tests.speed.gate

Every experiment goes through the gate's own decision (``vpbench.gate.judge``). The timing compares two saved results of 150 clips and 20
columns, one of them a set metric, through the command line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.gate import simulation
from vpbench import statistics
from vpbench.results import SCHEMA

CLIPS, COLUMNS = 150, 20
EXPERIMENTS = {  # what is simulated, and the rate that it should have
    "no difference, 1 column, 45 clips": (simulation.one_column(45), 0.05),
    "no difference, 1 column, 8 clips": (simulation.one_column(8), 0.05),
    "no difference, 5 columns (correlation 0.6)": (simulation.several_columns(45), 0.05),
    "no difference, 5 independent columns": (simulation.several_columns(45, correlation=0.0), 0.05),
    "no difference, mean weighted by frames": (simulation.weighted(45), 0.05),
    "no difference, set metric (jackknife)": (simulation.set_metric(45), 0.05),
    "no difference, skewed (exponential), 45 clips": (simulation.skewed(45), 0.05),
    "no difference, skewed (exponential), 8 clips": (simulation.skewed(8), 0.05),
    "drop 0.5 dB, sd 1 dB, 45 clips": (simulation.one_column(45, 0.5), statistics.power(45, 0.5, 1.0, sides=1)),
    "drop 0.5 dB, sd 1 dB, 8 clips": (simulation.one_column(8, 0.5), statistics.power(8, 0.5, 1.0, sides=1)),
}


def result(path: Path, seed: int) -> None:
    """Write a result as a run does, its values drawn at random."""
    rng = np.random.default_rng(seed)
    names = [f"clip-{i:03d}" for i in range(CLIPS)]
    columns = []
    for i in range(COLUMNS):
        of_set = i == COLUMNS - 1
        values = rng.normal(25, 5, CLIPS).tolist()
        column = {"metric": f"metric{i}", "region": "hole", "column": f"metric{i}[hole]", "unit": "dB", "direction": "higher", "digits": 2}
        column |= {"scale": 1.0, "average": "set" if of_set else "clips", "signature": f"metric{i}|v1", "n": CLIPS, "excluded": []}
        column |= {"value": float(np.mean(values)), "exact_frames": 0, "absent": "", "unranked": ""}
        columns.append(column | ({"leave_one_out": values} if of_set else {"values": values, "clip_frames": [49] * CLIPS}))
    summary = {
        "schema": SCHEMA,
        "benchmark": {"name": "made", "fingerprint": "0" * 64, "clips": CLIPS},
        "model": {"name": "model", "needs_reference": False, "ranked": True},
        "run": "model-0",
        "protocol": "standard",
        "track": "raw",
        "clips": {"total": CLIPS, "ok": CLIPS, "names": names, "properties": {}, "failed": [], "missing": []},
        "mean_rank": [column["column"] for column in columns],
        "columns": columns,
    }
    path.write_text(json.dumps(summary))


def seconds(repeats: int) -> float:
    """The median time of a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("baseline.json", "candidate.json")]
        for seed, path in enumerate(paths):
            result(path, seed)
        outputs = ["--json", f"{folder}/gate.json", "--junit", f"{folder}/gate.xml", "--markdown", f"{folder}/gate.md"]
        command = [sys.executable, "-m", "vpbench", "gate", "--baseline", str(paths[0]), "--candidate", str(paths[1]), *outputs]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True)
            times.append(time.perf_counter() - start)
            assert done.returncode in (0, 1), done.stderr
    return float(np.median(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.experiments} experiments each{'':22s}alarms   theory")
    for name, (draw, expected) in EXPERIMENTS.items():
        print(f"{name:48s}{simulation.alarm_rate(draw, options.experiments):7.1%}{expected:9.1%}")
    print(f"verdict in a fresh process, {CLIPS} clips x {COLUMNS} columns: {seconds(options.repeats):.2f} s (median of {options.repeats})")


if __name__ == "__main__":
    main()
