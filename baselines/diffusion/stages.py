"""What a model spends on one clip: seconds and peak memory of each stage; and what it keeps to use again in other runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from vpbench.errors import ModelError
from vpbench.provenance import peak_memory_bytes
from vpbench.storage import cached_arrays, sha256_json

HOST_OUT_OF_MEMORY = "DefaultCPUAllocator"  # torch has no class of its own for it


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

        cuda = torch.cuda.is_available()
        if cuda:
            for device in range(torch.cuda.device_count()):
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        try:
            yield
        finally:
            if cuda:
                for device in range(torch.cuda.device_count()):
                    torch.cuda.synchronize(device)
                peak: int | None = sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
            else:
                peak = peak_memory_bytes()
            before = self._found.get(name, {})
            self._found[name] = {
                "seconds": time.perf_counter() - started + (before.get("seconds") or 0.0),
                "peak_memory_bytes": max(peak or 0, before.get("peak_memory_bytes") or 0) or None,
            }

    def record(self) -> dict[str, dict[str, float | int | None]]:
        """Per stage ``seconds`` and ``peak_memory_bytes``: of the CUDA devices' allocator together, else of the process so far."""
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


class Placement:
    """Which networks are on the device.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``: what is brought stays. ``model``: what was brought before leaves. ``sequential``: each layer comes when it is
            run. On the CPU all networks stay where they are.
    """

    def __init__(self, device: str = "auto", offload: str = "none") -> None:
        from vpbench.baselines.diffusion.loading import torch_device

        self.target = torch_device(device)
        self.offload = "none" if self.target.type == "cpu" else offload
        self._there: list[Any] = []

    def bring(self, *networks: Any) -> None:
        """Make ``networks`` ready to run, together."""
        if all(any(network is other for other in self._there) for network in networks):
            return
        if self.offload == "sequential":
            from accelerate import cpu_offload  # type: ignore[import-untyped]

            for network in networks:
                cpu_offload(network, execution_device=self.target)
            self._there += networks
            return
        if self.offload == "model":
            for other in self._there:
                if not any(other is network for network in networks):
                    other.to("cpu")
            self._there = []
        for network in networks:
            network.to(self.target)
        self._there += [network for network in networks if not any(network is other for other in self._there)]

    def put_away(self, network: Any) -> None:
        """Give the memory of ``network`` on the device back."""
        if self.offload != "sequential" and self.target.type != "cpu":
            network.to("cpu")
            self._there = [other for other in self._there if other is not network]


class Staged(Protocol):
    """A model that knows its stages and can drop its networks."""

    def stages(self) -> dict[str, dict[str, float | int | None]]:
        """See ``Stages.record``."""

    def release(self) -> None:
        """Drop all networks."""


@contextmanager
def out_of_memory(clip: str, model: Staged, advice: str = "offload=model, vae_tiling=true, precision=bfloat16") -> Iterator[None]:
    """Turn running out of memory into an error with the numbers, and give the memory back, so that the next clip can be tried.

    Args:
        clip: its name.
        model: what runs.
        advice: settings that take less.

    Raises:
        ModelError: the block ran out of memory, of the device or of the host.
    """
    import torch

    try:
        yield
        return
    except torch.OutOfMemoryError as error:
        message = f"out of memory on the device ({'. '.join(str(error).split('. ')[:3]).rstrip('.')})"
    except MemoryError as error:
        message = f"out of memory ({error or 'host memory'})"
    except RuntimeError as error:
        if HOST_OUT_OF_MEMORY not in str(error):
            raise
        message = f"out of memory on the host ({str(error).splitlines()[0]})"
    model.release()  # outside of the handler: the traceback holds the tensors
    stages = ", ".join(f"{name} {(values['peak_memory_bytes'] or 0) / 1e9:.1f} GB" for name, values in model.stages().items())
    raise ModelError(f"{clip}: {message}. Peak memory by stage: {stages or 'none'}. Try {advice}.")
