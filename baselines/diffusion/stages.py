"""What a model spends on one clip: seconds and peak memory of each stage; and what it keeps to use again in other runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vpbench.provenance import peak_memory_bytes
from vpbench.storage import cached_arrays, sha256_json


class Stages:
    """Collects the stages of one clip. A stage that is entered again (one per window) adds to its seconds and keeps its higher peak."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, float | int | None]] = {}

    def clear(self) -> None:
        """Forget the clip before."""
        self._found = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure the block as the stage ``name``; on a CUDA device after everything queued has run."""
        import torch

        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                torch.cuda.synchronize()
                peak: int | None = torch.cuda.max_memory_allocated()
            else:
                peak = peak_memory_bytes()
            before = self._found.get(name, {})
            self._found[name] = {
                "seconds": time.perf_counter() - started + (before.get("seconds") or 0.0),
                "peak_memory_bytes": max(peak or 0, before.get("peak_memory_bytes") or 0) or None,
            }

    def record(self) -> dict[str, dict[str, float | int | None]]:
        """Per stage ``seconds`` and ``peak_memory_bytes``: of the device's allocator on CUDA, else of the process so far."""
        return {name: dict(values) for name, values in self._found.items()}


class Kept:
    """Arrays that are the same for many runs (text embeddings, first frames), as files beside the runs.

    A file's name is a hash of everything that decides its content. Without a folder everything is computed.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None

    def arrays(self, what: str, key: Mapping[str, Any], compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the arrays ``what`` for ``key``, from the folder where they are there, else from ``compute``, and kept."""
        if self.folder is None:
            return compute()
        return cached_arrays(self.folder / what / f"{sha256_json(dict(key))[:32]}.npz", compute)
