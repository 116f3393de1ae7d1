"""Whether a file whose sha256 nobody knows can be weights of a network: whole, readable, and with tensors of the right shapes."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vpbench import weights_table
from vpbench.storage import check_unpacked
from vpbench.weights_table import File

CODE_BYTES = 100_000_000  # that a TorchScript archive may unpack to on top of its size
SCORES = (1, 400)  # what a detector of I3D's lineage gives for one window


def fault(path: Path, file: File, *, run: bool) -> str:
    """Why a file cannot be what it is taken for; empty where it can.

    Args:
        path: the file.
        file: the network and format it is taken for.
        run: whether code that it holds may run: a TorchScript archive is loaded only then, otherwise its checksums must do.
    """
    try:
        check_unpacking(path)
        if broken := _broken_part(path):
            return f"damaged at {broken}"
        archive = is_torchscript(path)
        if file.format == "torchscript":
            return _detector_fault(path) if archive and run else "" if archive else "not a TorchScript archive"
        if archive and not run:
            return ""
        return _tensors_fault(_tensors(path, file.format), weights_table.table()[file.network].tensors)
    except Exception as error:  # zipfile, pickle, torch and safetensors raise a dozen unrelated types here
        reason = re.split(r"\.\s|\n", str(error.__cause__ or error).strip())[0] or type(error).__name__
        return f"not readable as {file.format} ({reason[:200]})"


def check_unpacking(path: Path) -> None:
    """Refuse a file that unpacks to much more than it is: torch compresses no tensors, and of TorchScript only the code.

    Raises:
        ValueError: gives both sizes.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_unpacked(archive, path.stat().st_size + CODE_BYTES)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, whose code runs when it is loaded."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())  # only TorchScript writes it


def _broken_part(path: Path) -> str | None:
    """The first part of a zip archive with another CRC; torch reads over it."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _detector_fault(path: Path) -> str:
    import torch

    jit: Any = torch.jit  # without annotations in torch
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the format is deprecated, but StyleGAN-V's file has no other
        detector = jit.load(path, map_location="cpu").eval()
        scores = detector(torch.zeros(1, 3, 16, 224, 224), rescale=False, resize=False, return_features=True)
    return "" if tuple(scores.shape) == SCORES else f"gives {tuple(scores.shape)} for one video, not {SCORES}"


def _tensors(path: Path, form: str) -> Mapping[str, Any]:
    """The tensors under the names that the loader of this format uses."""
    import torch

    if form == "torch-state-dict":
        state = torch.load(path, map_location="meta", weights_only=True)
        if not isinstance(state, Mapping):
            raise TypeError(f"holds a {type(state).__name__}, not tensors by name")
        return state
    from vpbench.metrics.clip_weights import read

    return read(path, form)


def _tensors_fault(found: Mapping[str, Any], wanted: Mapping[str, Sequence[int]]) -> str:
    for name, shape in wanted.items():
        given = getattr(found.get(name), "shape", None)
        if given is None:
            return f"it has no tensor {name}"
        if tuple(given) != tuple(shape):
            return f"its tensor {name} is {_text(given)}, not {_text(shape)}"
    return ""


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
