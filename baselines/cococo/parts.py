"""The released weights, ``model_0.pth`` to ``model_3.pth``: where they lie, and how they get into the network.

A part is a dictionary of tensors whose names begin with ``module.``. The tables of positions among them are not read: they are computed
(``motion.positions``). Everything else must have a place in the network, and every parameter of the motion modules must be in one of the
parts; whether the image network's are too is up to the files, and is logged.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vpbench.baselines import weight_files
from vpbench.check import Need
from vpbench.errors import ConfigError
from vpbench.weights import cached_sha256

if TYPE_CHECKING:
    import torch

NAMES = tuple(f"model_{number}.pth" for number in range(4))
NETWORKS = tuple(f"cococo-{number}" for number in range(4))  # in conf/weights.yaml
PREFIX = "module."
TABLE = ".pos_encoder.pe"
GET = "the folder that the README of https://github.com/zibojia/COCOCO links to, then model.weights=FOLDER"

log = logging.getLogger(__name__)


def needs(weights: str) -> list[Need]:
    """One need per part.

    Args:
        weights: the folder that holds the parts; empty: the places where ``vpbench weights`` keeps them.
    """
    names = dict(zip(NETWORKS, NAMES, strict=True))
    return weight_files.needs(names, weights, _problem, lambda network, file: GET, "COCOCO's {}")


def paths(weights: str) -> list[Path]:
    """Where the parts lie, when all of them do: see ``needs``.

    Raises:
        ConfigError: one of them is missing or cut off.
    """
    return weight_files.paths(needs(weights))


def fingerprints(weights: str) -> dict[str, str]:
    """Hex sha256 of every part.

    Raises:
        ConfigError: see ``paths``.
    """
    return {name: cached_sha256(path) for name, path in zip(NAMES, paths(weights), strict=True)}


def load(network: torch.nn.Module, files: Sequence[Path]) -> int:
    """Copy the parts into a network that has motion modules; of a tensor that two parts have, the later counts.

    Args:
        network: changed; keeps its precision.
        files: the parts.

    Returns:
        How many tensors of the image network, those outside of the motion modules, were overwritten.

    Raises:
        ConfigError: a file is unreadable, holds something that the network does not have or has in another shape, or no file has a
            parameter of the motion modules.
    """
    import torch

    from vpbench.baselines.cococo.unet import MOTION

    own = dict(network.named_parameters())
    seen: set[str] = set()
    for path in files:
        part = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in weight_files.read(path, "COCOCO", lazily=True).items()
            if not name.endswith(TABLE)
        }
        if unknown := sorted(set(part) - set(own)):
            raise ConfigError(
                f"{path}: holds {len(unknown)} tensors that the network does not have, the first is {unknown[0]}. These are no weights of "
                "COCOCO, or checkpoint is not Stable Diffusion 1.5 inpainting."
            )
        for name, tensor in part.items():
            if tensor.shape != own[name].shape:
                raise ConfigError(
                    f"{path}: {name} is {_shape(tensor)}, in the network {_shape(own[name])}: these are no weights of COCOCO, or "
                    "checkpoint is not Stable Diffusion 1.5 inpainting."
                )
            with torch.no_grad():
                own[name].copy_(tensor)
        if again := sorted(seen & set(part)):
            log.warning("%s: has %d tensors that a part before has too, the first is %s; the later ones count", path, len(again), again[0])
        seen |= set(part)
    motion = {name for name in own if MOTION in name}
    if lacking := sorted(motion - seen):
        raise ConfigError(
            f"{files[0].parent}: the {len(files)} parts lack {len(lacking)} of {len(motion)} tensors of the motion modules, the first is "
            f"{lacking[0]}. Get the four files again."
        )
    image = len(seen - motion)
    log.info("COCOCO: %d tensors of motion modules; %d of %d of the image network overwritten", len(motion), image, len(own) - len(motion))
    return image


def _problem(path: Path) -> str:
    """What is wrong with a part, without reading its tensors."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; weights are a folder with {NAMES[0]} to {NAMES[-1]}, empty (search), or random-<seed>"
    if not path.is_file():
        return f"{path}: is missing"
    with open(path, "rb") as file:
        archive = file.read(2) == b"PK"  # as torch has written since 1.6; the directory at the end is what a file that is cut off lacks
    return "" if path.stat().st_size and (not archive or zipfile.is_zipfile(path)) else f"{path}: cut off or damaged; get it again"


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
