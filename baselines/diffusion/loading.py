"""Loading a pipeline of diffusers from a folder that is whole, and putting it on a device.

The libraries fill tensors that a file lacks with random numbers and only warn; here that is an error.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.baselines.diffusion.checkpoints import Checkpoint, pipeline_parts, tensor_shapes, weight_files
from vpbench.configuration import unknown_name
from vpbench.devices import usable_device
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16")
OFFLOADS = ("none", "model", "sequential")
DENOISERS = ("transformer", "unet")  # how pipelines call the network that denoises


def load_pipeline(checkpoint: Checkpoint, precision: str, precisions: Mapping[str, str] | None = None, without: Sequence[str] = ()) -> Any:
    """Load a pipeline on the CPU.

    Args:
        checkpoint: of the kind that names the pipeline's class.
        precision: of all networks, one of ``PRECISIONS``.
        precisions: of single ones, by part: ``{"vae": "float32"}``.
        without: parts that are left out.

    Raises:
        ConfigError: the checkpoint is missing, not whole, or does not fit its own configuration; the message names the folder.
    """
    folder = checkpoint.path()
    import diffusers

    parts: dict[str, Any] = dict.fromkeys(without)
    for name, (library, class_name) in pipeline_parts(folder).items():
        cls = getattr(importlib.import_module(library), class_name, None) if library in ("diffusers", "transformers") else None
        if name not in without and cls is not None and _is_network(cls):
            parts[name] = load_network(cls, folder / name, (precisions or {}).get(name, precision))
    try:
        pipeline = getattr(diffusers, checkpoint.kind).from_pretrained(folder, local_files_only=True, **parts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise ConfigError(f"{folder}: cannot be loaded as a {checkpoint.kind}: {_first_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_network(cls: Any, folder: Path, precision: str) -> torch.nn.Module:
    """Load one network of diffusers or transformers; every one of its tensors must be in the files.

    Raises:
        ConfigError: tensors are missing or have other shapes; the message names the folder and the first of them.
    """
    _quiet()
    try:
        network, found = cls.from_pretrained(folder, torch_dtype=torch_dtype(precision), local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{folder}: cannot be loaded as a {cls.__name__}: {_first_line(error)}") from error
    for what, keys in (("lack", found["missing_keys"]), ("have in another shape", found["mismatched_keys"])):
        _refuse(folder, cls, what, {str(key[0] if isinstance(key, tuple) else key) for key in keys})
    assert not isinstance(network, tuple)
    return network.eval()  # type: ignore[no-any-return]


def skeleton(folder: Path) -> Any:
    """The network of a pipeline that denoises, on the meta device: shapes, no values.

    Args:
        folder: of the pipeline, whole.

    Raises:
        ConfigError: its files lack tensors that its configuration wants, or have them in another shape; from the files' headers alone.
    """
    import diffusers
    import torch

    parts = pipeline_parts(folder)
    name = next(name for name in DENOISERS if name in parts)
    cls = getattr(diffusers, parts[name][1])
    try:
        with torch.device("meta"):
            network = cls.from_config(cls.load_config(folder / name, local_files_only=True))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{folder / name}: config.json does not describe a {cls.__name__}: {_first_line(error)}") from error
    found: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder / name, "diffusers"):
        found |= tensor_shapes(folder / name / file)
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    _refuse(folder / name, cls, "lack", set(expected) - set(found))
    _refuse(folder / name, cls, "have in another shape", {key for key, shape in expected.items() if found[key] != shape})
    return network


def place(pipeline: Any, device: str, offload: str) -> None:
    """Put a pipeline on a device.

    Args:
        pipeline: as ``load_pipeline`` returns it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``: all networks stay on the device. ``model``: each is brought when its turn comes. ``sequential``: each layer is.
            Without effect on the CPU.

    Raises:
        ConfigError: an unknown name, or no such device here.
    """
    if offload not in OFFLOADS:
        raise unknown_name("offload", offload, OFFLOADS)
    target = torch_device(device)
    if offload == "none" or target.type == "cpu":
        pipeline.to(target)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=target)
    else:
        pipeline.enable_sequential_cpu_offload(device=target)


def shifted(scheduler: Any, shift: float) -> Any:
    """A flow scheduler with another shift of its noise levels.

    Raises:
        ConfigError: it has no such setting.
    """
    key = next((name for name in ("flow_shift", "shift") if name in scheduler.config), None)
    if key is None:
        raise ConfigError(f"flow_shift={shift}: {type(scheduler).__name__} has no such setting; use flow_shift=null.")
    return type(scheduler).from_config(scheduler.config, **{key: shift})


def torch_dtype(precision: str) -> torch.dtype:
    """The type of torch that a precision names.

    Raises:
        ConfigError: not one of ``PRECISIONS``.
    """
    import torch

    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def torch_device(device: str) -> torch.device:
    """``usable_device`` as torch's own type."""
    import torch

    return torch.device(usable_device(device))


def free_memory() -> None:
    """Give back what networks that are no longer referenced held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _refuse(folder: Path, cls: Any, what: str, keys: set[str]) -> None:
    if keys:
        raise ConfigError(
            f"{folder}: its files {what} {len(keys)} tensors of {cls.__name__}, the first is {min(keys)}. "
            "Configuration and weights do not belong together; get both again."
        )


def _is_network(cls: Any) -> bool:
    import torch

    return isinstance(cls, type) and issubclass(cls, torch.nn.Module)


def _quiet() -> None:
    """Progress bars of the libraries would go between our own lines."""
    for library in ("diffusers", "transformers"):
        logging: Any = importlib.import_module(f"{library}.utils.logging")
        logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
