"""Where a result came from: versions, machine, command line. Never part of anything that is compared byte by byte."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from vpbench.version import __version__

PACKAGES = (
    *("av", "decord", "hydra-core", "lpips", "numpy", "open_clip_torch", "opencv-python-headless", "pillow", "scikit-image", "scipy"),
    *("torch", "torchmetrics", "torchvision"),
)


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a number; absent ones are left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, with ``-dirty`` when it has changes; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return described.stdout.strip()


def collect() -> dict[str, Any]:
    """Everything a reader needs to repeat a run, apart from its configuration."""
    return {
        "vpbench": __version__,
        "git_commit": git_commit(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "command": sys.argv,
    }


def peak_memory_bytes() -> int | None:
    """Peak resident memory of this process so far, in bytes; None where the platform does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
