"""Files of tensors by name that a model's authors released: where they lie, and what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.check import Need, unmet
from vpbench.errors import ConfigError
from vpbench.measuring import Network
from vpbench.weights import files_of, locate, missing
from vpbench.weights_check import check_unpacking
from vpbench.weights_table import File

if TYPE_CHECKING:
    import torch


def needs(
    names: Mapping[str, str], weights: str, problem: Callable[[Path], str], get: Callable[[str, File], str], shown: str = "{}"
) -> list[Need]:
    """One need per file.

    Args:
        names: of the files, by their networks' names in ``conf/weights.yaml``.
        weights: the folder that holds them; empty: the places where ``vpbench weights`` keeps them.
        problem: what is wrong with a file of that folder; empty when nothing is.
        get: how to get a network's file.
        shown: how a file is called that is searched, with ``{}`` for its name.
    """
    found = []
    for network, name in names.items():
        file = files_of(network)[0]
        if weights:
            path = Path(weights).expanduser() / name
            wrong, key, source, where = problem(path), "weights", str(path), str(path) if path.is_file() else ""
        else:
            wrong, key, source = missing(Network(network)), "", shown.format(name)
            where = "" if wrong else str(locate(Network(network)).path)
        advice = get(network, file)
        found.append(Need(key, source, where, (wrong,) if wrong else (), file.size_text, file.licence, advice, hashed=True))
    return found


def paths(found: list[Need]) -> list[Path]:
    """Where the files lie, in order.

    Raises:
        ConfigError: one of them is missing or wrong.
    """
    if error := unmet(found):
        raise error
    return [Path(need.where) for need in found]


def read(path: Path, of: str, lazily: bool = False) -> Mapping[str, torch.Tensor]:
    """The tensors of a file.

    Args:
        path: the file.
        of: whose it should be, for messages.
        lazily: leave values on the disk until they are used, where the format allows that: for tensors that are copied, or only looked at.

    Raises:
        ConfigError: it is unreadable, or holds something else.
    """
    import torch

    try:
        check_unpacking(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily and zipfile.is_zipfile(path))
    except Exception as error:  # zipfile, pickle and torch raise a dozen unrelated types here
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"{path}: cannot be read as tensors by name ({reason[:200]}); get it again.") from error
    if not isinstance(state, Mapping) or not all(isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in state.items()):
        raise ConfigError(f"{path}: holds no tensors by name; expected {path.name} of {of}.")
    return state
