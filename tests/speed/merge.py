"""What putting a large benchmark together takes: set metrics over made-up features of many clips, seconds and peak memory.

    python -m tests.speed.merge                     390,000 clips for the Fréchet distance, 39,000 for the kernel distance
    python -m tests.speed.merge --clips 39000 --pairs 10000

Every clip has one vector of 400 features per side. The time is that of the distance and of the distances without each clip, which
intervals and tests need. (``python -m tests.speed.tables --models 3 --clips 390000 --metrics 40`` measures the table that is made of it.)
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vpbench.metrics.frechet import frechet_distances, kernel_distances

FEATURES = 400


def features(clips: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Paired float32 (clips, 400) with a decaying spectrum, the second with a disturbance."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, FEATURES + 1, dtype=np.float32) ** -0.7
    x = rng.standard_normal((clips, FEATURES), dtype=np.float32) * spectrum
    return x, x + 0.3 * rng.standard_normal((clips, FEATURES), dtype=np.float32) * spectrum


def measure(name: str, distances: Callable[..., tuple[float, NDArray[np.float64]]], clips: int) -> None:
    """Print one line."""
    x, y = features(clips)
    begun = time.perf_counter()
    distance, without = distances(x, y, np.arange(clips))
    seconds, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{name}, {clips} clips: {seconds:.1f} s, {peak:.2f} GB peak; {distance:.6g}, {len(without)} values without a clip", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=390_000)
    parser.add_argument("--pairs", type=int, default=39_000, help="clips for the kernel distance, whose time grows with the square")
    options = parser.parse_args()
    measure("kernel distance", kernel_distances, options.pairs)
    measure("Fréchet distance", frechet_distances, options.clips)


if __name__ == "__main__":
    main()
