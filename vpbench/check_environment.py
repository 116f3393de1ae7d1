"""``vpbench check environment``: versions, video codecs, accelerator, free disk and the weights of metrics."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from vpbench import provenance
from vpbench.findings import Finding
from vpbench.version import __version__

LOW_DISK = 5e9  # bytes
ENCODER = "libx264rgb"  # of the lossless predictions in run folders


def check_environment(out: Path) -> list[Finding]:
    """Look at what this machine has.

    Args:
        out: where runs are to be written; need not exist.
    """
    commit = provenance.git_commit()
    notes = [Finding("vpbench", "", f"{__version__}" + (f", commit {commit}" if commit else ""), note=True)]
    notes.append(Finding("python", "", f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores", note=True))
    return [*notes, *_packages(), *_codecs(), *_device(), *_disk(out), *_weights()]


def _packages() -> Iterator[Finding]:
    """What the package asks for, and which of its extras are complete."""
    from packaging.requirements import Requirement

    there: list[str] = []
    extras: dict[str, list[str]] = {"diffusion": []}
    for line in metadata.requires("vpbench") or ():
        requirement = Requirement(line)
        extra = next((name for name in extras if requirement.marker and requirement.marker.evaluate({"extra": name})), "")
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = ""
        if version and requirement.specifier.contains(version, prereleases=True):
            there += [] if extra else [f"{requirement.name} {version}"]
            continue
        wrong = f"{requirement.name} is {version or 'not installed'}, needs {requirement.specifier}"
        if extra:
            extras[extra].append(wrong)
        else:
            yield Finding(requirement.name, "package", wrong, f"pip install '{requirement.name}{requirement.specifier}'")
    yield Finding("packages", "", ", ".join(there), note=True)
    for extra, wrong_ones in extras.items():
        evidence = f"{'; '.join(wrong_ones)} (pip install 'vpbench[{extra}]')" if wrong_ones else "complete"
        yield Finding(f"packages of vpbench[{extra}]", "", evidence, note=True)


def _codecs() -> Iterator[Finding]:
    import av

    try:
        av.codec.Codec(ENCODER, "w")
    except ValueError:  # PyAV's error for a codec that it does not know
        yield Finding("av", "codec", f"has no encoder {ENCODER}, with which predictions are stored", "pip install --force-reinstall av")


def _device() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            evidence = f"{torch.cuda.get_device_name(number)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}"
            yield Finding(f"cuda:{number}", "", evidence, note=True)
    elif shutil.which("nvidia-smi"):
        evidence = f"nvidia-smi is here, but torch {torch.__version__} finds no CUDA device"
        yield Finding("cuda", "device", evidence, "Install a CUDA build of torch that fits the driver (pytorch.org)")
    else:
        yield Finding("cuda", "", f"no device; networks run on the CPU (torch {torch.__version__})", note=True)


def _disk(out: Path) -> Iterator[Finding]:
    from vpbench.weights import store

    for what, folder in (("runs", out), ("weights", store())):
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        evidence = f"{free / 1e9:.1f} GB free for {what} in {folder}"
        if free < LOW_DISK:
            yield Finding("disk", "space", evidence, "Free space, or name another place (out=DIR for runs)")
        else:
            yield Finding("disk", "", evidence, note=True)


def _weights() -> Iterator[Finding]:
    """Which networks of metrics have their weights."""
    from vpbench.weights_store import listing

    there: dict[str, bool] = {}
    for one in listing():
        there[one.file.network] = there.get(one.file.network, False) or one.usable is not None
        for bad in one.bad:
            yield Finding(str(bad.path), "weights", f"{bad.state}: {bad.detail}", "vpbench weights get or add brings a good copy")
    have = ", ".join(name for name, usable in there.items() if usable) or "none"
    yield Finding("weights", "", f"there: {have}", note=True)
    if absent := [name for name, usable in there.items() if not usable]:
        evidence = f"absent: {', '.join(absent)}; columns that need them stay empty (vpbench weights list, vpbench weights get NAME)"
        yield Finding("weights", "", evidence, note=True)
