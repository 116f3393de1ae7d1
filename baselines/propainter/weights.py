"""The three released files: where they lie, and how they get into the networks; or networks with seeded random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.baselines import weight_files
from vpbench.check import Need
from vpbench.errors import ConfigError
from vpbench.weights import cached_sha256
from vpbench.weights_table import File

if TYPE_CHECKING:
    import torch

FILES = {"raft-things": "raft-things.pth", "propainter-flow-completion": "recurrent_flow_completion.pth", "propainter": "ProPainter.pth"}


@dataclass
class Networks:
    """What ProPainter runs, on the CPU, in evaluation mode."""

    raft: Any
    completion: Any
    generator: Any


def needs(weights: str) -> list[Need]:
    """One need per file.

    Args:
        weights: the folder that holds the files; empty: the places where ``vpbench weights`` keeps them.
    """
    return weight_files.needs(FILES, weights, _problem, _get)


def paths(weights: str) -> dict[str, Path]:
    """Where the files lie, by network.

    Raises:
        ConfigError: one of them is missing.
    """
    return dict(zip(FILES, weight_files.paths(needs(weights)), strict=True))


def fingerprints(weights: str) -> dict[str, str]:
    """Hex sha256 of every file.

    Raises:
        ConfigError: see ``paths``.
    """
    return {FILES[network]: cached_sha256(path) for network, path in paths(weights).items()}


def build() -> Networks:
    """The networks with torch's initial weights."""
    from vpbench.baselines.propainter.completion import FlowCompletion
    from vpbench.baselines.propainter.generator import Generator
    from vpbench.baselines.propainter.raft import build as build_raft

    return Networks(build_raft().eval(), FlowCompletion().eval(), Generator().eval())


def load(weights: str) -> Networks:
    """The networks with the released weights.

    Raises:
        ConfigError: a file is missing, unreadable, or of another network; the message names it and the first tensor that is wrong.
    """
    import torch

    from vpbench.baselines.propainter.raft import converted

    found = paths(weights)
    with torch.device("meta"):
        networks = build()
    for network, module in (
        ("raft-things", networks.raft),
        ("propainter-flow-completion", networks.completion),
        ("propainter", networks.generator),
    ):
        state = weight_files.read(found[network], "ProPainter's release")
        _fill(module, converted(state) if network == "raft-things" else state, found[network])
    return networks


def random(seed: int) -> Networks:
    """The networks with seeded random weights, for trying the plumbing."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Give a module, on the meta device, the tensors of a file."""
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    problems = [
        *(
            f"{len(names)} tensors {what}, the first is {min(names)}"
            for what, names in (("missing", set(own) - set(found)), ("unexpected", set(found) - set(own)))
            if names
        ),
        *[f"{name} is {found[name]}, expected {shape}" for name, shape in own.items() if found.get(name, shape) != shape][:1],
    ]
    if problems:
        raise ConfigError(f"{path}: not the weights of this network: {'; '.join(problems)}. Get {path.name} again.")
    module.load_state_dict(state, assign=True)


def _get(network: str, file: File) -> str:
    add = f"vpbench weights add {FILES[network]} --network {network} --trust"
    how = f"vpbench weights get {network}" if file.sha256 else f"download {file.urls[0]}, then {add}"
    return f"{how}; or model.weights=FOLDER with {', '.join(FILES.values())}"


def _problem(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; weights are a folder with {', '.join(FILES.values())}, empty (search), or random-<seed>"
    return "" if path.is_file() else f"{path}: is missing"
