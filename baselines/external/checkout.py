"""Systems whose code is the user's own checkout: what the adapters of UniEdit, DiTCtrl and ReVideo have in common.

Such a system runs in an environment of its own (``python``) from a checkout of its repository (``code``). A driver script of ours, beside
this file, imports that checkout at run time; it is a worker, so that networks are loaded once. Nothing of the systems is part of vpbench.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpbench.baselines.external.command import HERE, Command
from vpbench.check import Need
from vpbench.clip import MaskedClip
from vpbench.errors import DataError
from vpbench.models import Short
from vpbench.storage import is_hidden
from vpbench.weights import cached_sha256

SHARED = ("checkout_driver.py", "vpbench_worker.py")
DECIDES = (".py", ".yaml", ".yml", ".json")  # what of a checkout decides its results, by suffix
TEXTS = {
    "source": "caption of the unedited video (VPBench: Original_video_caption)",
    "target": "caption of the edited video (VPBench: Edited_video_caption)",
}


@dataclass(frozen=True)
class Files:
    """Something besides code that a system needs: a file, or a folder with certain files.

    Attributes:
        key: which key of the configuration names it.
        told: what that key says; relative paths are those of the checkout.
        code: the checkout as configured.
        holds: names of what a folder must hold, ``|`` between alternatives; none for a file.
        size: for people.
        licence: for people.
        get: how to get it.
    """

    key: str
    told: str
    code: str | None
    holds: tuple[str, ...] = ()
    size: str = ""
    licence: str = ""
    get: str = ""

    @property
    def path(self) -> Path | None:
        """Where it must lie; None while that depends on a checkout that is not set."""
        asked, root = Path(self.told).expanduser(), placed(self.code)
        return asked if asked.is_absolute() else None if root is None else root / asked

    def found(self) -> list[Path]:
        """The files, in order; fewer where some are missing."""
        if self.path is None:
            return []
        if not self.holds:
            return [self.path] if self.path.is_file() else []
        return [self.path / name for names in self.holds for name in names.split("|") if (self.path / name).is_file()]

    def need(self) -> Need:
        """For ``vpbench check``."""
        if self.path is None:
            problems = [f"{self.told}: is sought in the checkout, and model.code is not set"]
        elif self.holds:
            sought = [[self.path / name for name in names.split("|")] for names in self.holds]
            problems = [f"{' or '.join(map(str, some))}: no such file" for some in sought if not any(map(Path.is_file, some))]
        else:
            problems = [] if self.path.is_file() else [f"{self.path}: no such file"]
        where = str(self.path) if self.found() else ""
        return Need(self.key, self.told, where, tuple(problems), self.size, self.licence, self.get, hashed=True)


class Checkout(Command):
    """A worker that drives a checkout.

    Args:
        scripts: file names of the driver, and of what it imports, beside this file; the driver is the first.
        repository: of the system, ``owner/name``.
        settings: what the driver is told, as JSON.
        python: interpreter of the environment that has the system's packages; None: not set, which ``needs`` reports.
        code: the checkout; None: not set.
        entries: files of the checkout that the driver imports; they tell a checkout from another folder.
        parts: weights and the like.
        texts: which texts of a clip (``TEXTS``) the system cannot do without.
        notes: what a reader of the table must know of every row.
        seed: for draws; None: the run's.
        allow_short: see ``Command``.
        timeout_s: per clip; the first one includes loading.
        env: variables of its environment.
        cwd: its working directory.
        keep_jobs: see ``Command``.
    """

    def __init__(
        self,
        scripts: Sequence[str],
        repository: str,
        settings: Mapping[str, Any],
        *,
        python: str | None,
        code: str | None,
        entries: Sequence[str],
        parts: Sequence[Files],
        texts: Sequence[str],
        notes: Sequence[str],
        seed: int | None,
        timeout_s: float,
        env: Mapping[str, Any] | None,
        keep_jobs: bool,
        allow_short: bool = False,
    ) -> None:
        self.code, self.repository, self.entries, self.parts, self.texts, self.seed = placed(code), repository, entries, parts, texts, seed
        self._python, self._scripts = python, [HERE / name for name in (*scripts, *SHARED)]
        told = {**settings, "code": str(self.code), "commit": f"{repository}@{commit(self.code)}"}
        super().__init__(
            [python or "python", str(self._scripts[0]), json.dumps(told)],
            worker=True,
            env={"HF_HUB_OFFLINE": "1", **(env or {})},
            timeout_s=timeout_s,
            resize="bicubic",
            allow_short=allow_short,
            notes=notes,
            keep_jobs=keep_jobs,
        )

    def __call__(self, clip: MaskedClip, *, seed: int) -> Short:
        """Return what the system made of ``clip``, see ``Command``.

        Raises:
            DataError: the clip lacks a text that the system needs.
            ModelError: see ``Command``.
        """
        said = {"source": clip.source_caption if clip.operation != "inpaint" else clip.caption, "target": clip.caption}
        for text in self.texts:
            if not said[text].strip():
                raise DataError(f"{clip.name}: has no {TEXTS[text]}, from which {self.repository} works. Add it to the benchmark's list.")
        return super().__call__(clip, seed=seed if self.seed is None else self.seed)

    def needs(self) -> list[Need]:
        """The interpreter, the checkout, weights."""
        found = shutil.which(self._python, path=self._environment().get("PATH")) if self._python else ""
        wrong = () if found else (f"{self._python}: no such program" if self._python else "model.python is not set",)
        python = Need(
            "python", self._python or "null", found or "", wrong, get="name the interpreter of the environment made for it (docs/models)"
        )
        if self.code is None:
            missing = ["model.code is not set"]
        else:
            missing = [f"{self.code / name}: no such file" for name in self.entries if not (self.code / name).is_file()]
        where = str(self.code) if self.code is not None and self.code.is_dir() else ""
        get = f"git clone https://github.com/{self.repository}, at the commit of docs/models"
        return [
            python,
            Need("code", str(self.code or "null"), where, tuple(missing), get=get, hashed=True),
            *(part.need() for part in self.parts),
        ]

    def fingerprints(self) -> dict[str, str]:
        """Hex sha256 of the driver, of the checkout's code and settings, and of the weights.

        Raises:
            OSError: a file cannot be read.
        """
        assert self.code is not None
        code = [
            path for path in sorted(self.code.rglob("*")) if path.suffix in DECIDES and not is_hidden(path, self.code) and path.is_file()
        ]
        made = {"driver": digest(self._scripts, HERE), "code": digest(code, self.code)}
        for part in self.parts:
            assert part.path is not None
            made[part.key] = digest(part.found(), part.path) if part.holds else cached_sha256(part.path)
        return made


def placed(path: str | None) -> Path | None:
    """A configured path, absolute."""
    return None if path is None else Path(path).expanduser().absolute()


def digest(files: Sequence[Path], root: Path) -> str:
    """Hex sha256 over names and contents."""
    made = hashlib.sha256()
    for path in files:
        made.update(f"{path.relative_to(root).as_posix()} {cached_sha256(path)}\n".encode())
    return made.hexdigest()


def commit(code: Path | None) -> str:
    """The commit of a checkout, with ``-dirty`` where files differ from it; ``unknown`` where git cannot say."""
    if code is None or not (code / ".git").exists():
        return "unknown"
    line = ["git", "-c", "safe.directory=*", "-C", str(code), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        made = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return made.stdout.strip() or "unknown"
