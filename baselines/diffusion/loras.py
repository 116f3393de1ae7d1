"""LoRAs: low-rank changes of a network's linear layers, added to its weights before anything runs.

``W += scale * alpha / rank * B @ A``, summed over all LoRAs in float32 and rounded once to the weights' own precision, so that a network
with LoRAs is as fast as without, and needs no further package. ``alpha`` is the rank where a file does not say otherwise, as in diffusers.
Checked against diffusers with peft in ``tests/baselines/diffusion/test_loras.py``.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.baselines.diffusion.checkpoints import Checkpoint, metadata
from vpbench.check import Need
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

PREFIX = "transformer."  # of the keys in a file that diffusers wrote
SUFFIXES = {".lora_A.weight": "A", ".lora_B.weight": "B", ".alpha": "alpha"}
METADATA = "lora_adapter_metadata"  # where diffusers keeps rank and alpha in a file's header


@dataclass(frozen=True)
class Lora:
    """One LoRA.

    Attributes:
        path: a .safetensors file with the keys that diffusers writes, ``transformer.<layer>.lora_A.weight`` and ``lora_B``; or a hub id.
        scale: how much of it is added; 0 is nothing, 1 what it was trained for.
        kind: ``lora``, or ``adapter`` for the one of ``conf/checkpoints.yaml``.
    """

    path: str
    scale: float = 1.0
    kind: str = "lora"


def read_loras(entries: Iterable[Any], key: str = "loras") -> tuple[Lora, ...]:
    """LoRAs as a configuration lists them: ``[{path: FILE, scale: 0.8}, ...]``.

    Raises:
        ConfigError: an entry that is no such mapping; the message names it.
    """
    loras = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not entry.get("path") or set(entry) - {"path", "scale"}:
            raise ConfigError(f"model.{key}[{number}]={entry!r}: expected {{path: FILE, scale: NUMBER}}.")
        scale = entry.get("scale", 1.0)
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise ConfigError(f"model.{key}[{number}].scale={scale!r}: expected a number.")
        loras.append(Lora(str(entry["path"]), float(scale)))
    return tuple(loras)


def lora_needs(loras: Sequence[Lora], key: str = "loras") -> list[Need]:
    """What ``vpbench check`` says of them."""
    return [_checkpoint(lora, number, key).need() for number, lora in enumerate(loras)]


def lora_fingerprints(loras: Sequence[Lora], key: str = "loras") -> list[list[str | float]]:
    """What decides outputs: the sha256 of every file and its scale.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    return [[_checkpoint(lora, number, key).fingerprint(), lora.scale] for number, lora in enumerate(loras)]


def fuse(network: torch.nn.Module, loras: Sequence[Lora], key: str = "loras", rank: int | None = None) -> int:
    """Add LoRAs to the weights of ``network``, in place.

    Args:
        network: a transformer; its own module names are those in the files.
        loras: added together.
        key: of the model's configuration, for errors.
        rank: what the rank must be; None for any.

    Returns:
        How many layers changed.

    Raises:
        ConfigError: a file is missing or damaged, names a layer that the network lacks, or does not fit (rank, shape). Nothing has
            been changed then.
    """
    import torch

    layers = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    changes: dict[str, torch.Tensor] = {}
    for number, lora in enumerate(loras):
        path = _checkpoint(lora, number, key).path()
        for name, change in _changes(path, layers, rank).items():
            change = change * lora.scale
            changes[name] = changes[name] + change if name in changes else change
    with torch.no_grad():
        for name, change in changes.items():
            weight = layers[name].weight
            weight.copy_(weight.float() + change.to(weight.device))
    return len(changes)


def _checkpoint(lora: Lora, number: int, key: str) -> Checkpoint:
    return Checkpoint(lora.path, lora.kind, key if lora.kind == "adapter" else f"{key}[{number}].path")


def _changes(path: Path, layers: Mapping[str, torch.nn.Linear], rank: int | None) -> dict[str, torch.Tensor]:
    """The change of every layer that a file names, float32 with the layer's shape."""
    from safetensors.torch import load_file

    matrices: dict[str, dict[str, torch.Tensor]] = {}
    unknown = []
    for tensor_name, tensor in load_file(path).items():
        suffix = next((suffix for suffix in SUFFIXES if tensor_name.endswith(suffix)), None)
        name = tensor_name.removeprefix(PREFIX)
        layer = name.removesuffix(suffix) if suffix else name
        if suffix is None or layer not in layers:
            unknown.append(tensor_name)
        else:
            matrices.setdefault(layer, {})[SUFFIXES[suffix]] = tensor
    if unknown:
        near = f"; a layer of it is called {next(iter(layers))}" if layers else ""
        raise ConfigError(
            f"{path}: {len(unknown)} keys are not LoRA matrices of this network, the first is {unknown[0]}{near}. "
            "It belongs to another network, or is not in the layout that diffusers writes."
        )
    if not matrices:
        raise ConfigError(f"{path}: holds no LoRA matrices.")
    alphas = _alphas(path)
    return {layer: _change(path, layer, found, layers[layer], rank, alphas) for layer, found in matrices.items()}


def _change(
    path: Path, layer: str, found: Mapping[str, torch.Tensor], module: torch.nn.Linear, rank: int | None, alphas: Mapping[str, Any]
) -> torch.Tensor:
    down, up = found.get("A"), found.get("B")
    if down is None or up is None:
        raise ConfigError(f"{path}: {layer} has lora_{'B' if down is None else 'A'} without lora_{'A' if down is None else 'B'}.")
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise ConfigError(f"{path}: {layer}: lora_A {tuple(down.shape)} and lora_B {tuple(up.shape)} have no common rank.")
    if rank is not None and down.shape[0] != rank:
        raise ConfigError(f"{path}: {layer} has rank {down.shape[0]}, expected {rank}.")
    if (up.shape[0], down.shape[1]) != tuple(module.weight.shape):
        raise ConfigError(
            f"{path}: {layer}: the LoRA is for a layer of {up.shape[0]}x{down.shape[1]}, this network's is "
            f"{module.weight.shape[0]}x{module.weight.shape[1]}: a LoRA for another network."
        )
    alpha = float(found["alpha"]) if "alpha" in found else _alpha(layer, alphas)
    factor = 1.0 if alpha is None else alpha / down.shape[0]
    return up.float() @ down.float() * factor


def _alphas(path: Path) -> dict[str, Any]:
    """What the file's header says of the transformer's LoRA: ``lora_alpha`` and ``alpha_pattern``."""
    try:
        said = json.loads(metadata(path).get(METADATA, "{}"))
    except ValueError as error:
        raise ConfigError(f"{path}: its header's {METADATA} is not JSON ({error}).") from error
    return {key.removeprefix(PREFIX): value for key, value in said.items() if key.startswith(PREFIX)}


def _alpha(layer: str, alphas: Mapping[str, Any]) -> float | None:
    patterns: Mapping[str, float] = alphas.get("alpha_pattern") or {}
    for pattern, alpha in patterns.items():
        if re.fullmatch(rf"(.*\.)?({pattern})", layer):
            return float(alpha)
    return float(alphas["lora_alpha"]) if alphas.get("lora_alpha") is not None else None
