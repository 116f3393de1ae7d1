"""Any program as a model: ``model=command``.

A clip is handed over as a folder (``jobs``), so the program may be of any language and live in any environment. It is started once per
clip, or once for all of them, so that a large network is loaded once: a worker then gets a line ``{"job": FOLDER}`` on its standard input
for every clip and answers ``{"job": FOLDER, "status": "ok"}`` on its standard output. ``vpbench_worker.py``, beside this file and on the
program's PYTHONPATH, does both for a Python function.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vpbench.baselines.external import jobs
from vpbench.baselines.external.processes import Program, said, tail
from vpbench.check import Need
from vpbench.clip import MaskedClip
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, ModelError
from vpbench.models import Short
from vpbench.outputs import RESIZE
from vpbench.weights import cached_sha256

HERE = Path(__file__).resolve().parent
NOT_PASSED_ON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")  # ours, which another environment's Python must not follow
PLACE = "{job}"


@dataclass
class Command:
    """The model.

    Attributes:
        argv: the program and its arguments. No shell reads them; ``{job}`` stands for the job's folder, which is appended where it stands
            nowhere (not for a worker). Relative paths are those of the folder where vpbench runs.
        worker: start it once and hand it one clip after another.
        cwd: its working directory; null: the folder where vpbench runs.
        env: variables of its environment on top of those that vpbench has.
        timeout_s: seconds that it may take for a clip, its start included; then it is ended with its children, and the clip has failed.
        memory_gb: limit of each of its processes' own data in 10^9 bytes (Linux; device memory is not counted); null: none.
        resize: filter by which results of another size are brought to the clip's (``nearest``, ``bilinear``, ``bicubic``, ``area``,
            ``lanczos``); null: they are refused.
        allow_short: it may leave frames out. The row is then scored on what is there, and not ranked.
        files: what decides its results besides ``argv`` (scripts, settings, weights): their hashes are part of the run's id, so that a
            changed file is another run. Arguments that are files count without being named here.
        notes: what a reader of the table must know of every row that it makes.
        keep_jobs: keep the folders of all jobs beside the runs; of failed ones ``job.json`` and the log are kept anyway.
    """

    argv: Sequence[str]
    worker: bool = False
    cwd: str | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 3600.0
    memory_gb: float | None = None
    resize: str | None = None
    allow_short: bool = False
    files: Sequence[str] = ()
    notes: Any = ()
    keep_jobs: bool = False
    _program: Program | None = field(default=None, init=False, repr=False)
    _log: Path | None = field(default=None, init=False, repr=False)
    _folder: Path | None = field(default=None, init=False, repr=False)
    _result: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv:
            raise ConfigError(f"argv={self.argv!r}: a list of the program and its arguments, such as argv=[python,adapter.py].")
        self.argv = [str(word) for word in self.argv]
        self._always = [str(note) for note in self.notes]
        self.notes = list(self._always)
        if self.resize is not None and self.resize not in RESIZE:
            raise unknown_name("resize", str(self.resize), list(RESIZE))
        if self.timeout_s <= 0:
            raise ConfigError(f"timeout_s={self.timeout_s}: seconds, more than 0.")
        if self.memory_gb is not None and (self.memory_gb <= 0 or sys.platform != "linux"):
            raise ConfigError(f"memory_gb={self.memory_gb}: more than 0, and on Linux alone; null for no limit.")
        if self.worker and any(PLACE in word for word in self.argv):
            raise ConfigError(f"argv: {PLACE} has no meaning for a worker, which is started before its first job.")

    def __call__(self, clip: MaskedClip, *, seed: int) -> Short:
        """Return what the program made of ``clip``.

        Raises:
            ModelError: it cannot be started, took too long, crashed, answered something else or left no usable result; the message has the
                last lines of its log.
        """
        self._result = {}
        job = Path(tempfile.mkdtemp(prefix=f"{clip.name}-", dir=self._folder))
        done = False
        try:
            jobs.write(job, clip, seed, self._pictures(clip, seed))
            if self.worker:
                self._hand_over(clip, job)
            else:
                self._start_for(clip, job)
            try:
                outcome = jobs.read(job, clip, self.resize, self.allow_short)
            except ModelError as error:
                raise self._failure(clip, job, str(error)) from error
            done = True
        finally:
            self._clear(job, done)
        self._result = outcome.result
        self.notes = [*self._always, *outcome.notes]
        return Short(outcome.frames, outcome.present)

    def needs(self) -> list[Need]:
        """The program, its working directory, and ``files``."""
        found = shutil.which(self.argv[0], path=self._environment().get("PATH"))
        there = () if found else (f"{self.argv[0]}: no such program (or it may not be executed)",)
        needs = [Need("argv", " ".join(self.argv), where=found or "", problems=there, get="name the program by its whole path")]
        if self.cwd is not None and not self._cwd.is_dir():
            needs.append(Need("cwd", self.cwd, problems=(f"{self.cwd}: no such folder",)))
        needs += [Need("files", name, problems=(f"{name}: no such file",)) for name in self.files if not self._at(name).is_file()]
        return needs

    def fingerprints(self) -> dict[str, str]:
        """Hex sha256 of ``files``, and of the arguments that are files.

        Raises:
            OSError: a file cannot be read.
        """
        named = [word for word in self.argv[1:] if self._at(word).is_file()]
        return {name: cached_sha256(self._at(name)) for name in dict.fromkeys([*named, *self.files])}

    def keep_in(self, folder: Path) -> None:
        """Keep jobs and logs in ``folder``."""
        self._folder = Path(folder).absolute() / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)

    def stages(self) -> dict[str, Any]:
        """What the program says in ``result.json`` of the last clip."""
        return {"program": {key: value for key, value in self._result.items() if key not in ("status", "notes")}}

    def release(self) -> None:
        """End the worker."""
        program, self._program = self._program, None
        if program is not None:
            program.end()
        log, self._log = self._log, None
        if log is not None and not self.keep_jobs:
            log.unlink(missing_ok=True)

    def _pictures(self, clip: MaskedClip, seed: int) -> Mapping[str, NDArray[np.uint8]]:
        """Pictures that the program gets besides the clip, by file name."""
        return {}

    @property
    def _cwd(self) -> Path:
        return Path(self.cwd).expanduser().absolute() if self.cwd is not None else Path.cwd()

    def _at(self, name: str) -> Path:
        """A file that ``argv`` or ``files`` names, as the program finds it."""
        return self._cwd / Path(name).expanduser()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        own = {str(name): str(value) for name, value in self.env.items()}
        path = os.pathsep.join(filter(None, [str(HERE), own.pop("PYTHONPATH", "")]))
        return {**kept, "PYTHONUNBUFFERED": "1", **own, "PYTHONPATH": path}

    def _start(self, argv: Sequence[str], log: Path, talking: bool) -> Program:
        memory = None if self.memory_gb is None else int(self.memory_gb * 1e9)
        try:
            return Program(argv, self._cwd, self._environment(), log, memory, talking)
        except OSError as error:
            raise ModelError(f"{argv[0]}: cannot be started ({error}).") from error

    def _start_for(self, clip: MaskedClip, job: Path) -> None:
        """A process for this clip."""
        argv = [word.replace(PLACE, str(job)) for word in self.argv]
        if argv == list(self.argv):
            argv.append(str(job))
        program = self._start(argv, job / "log.txt", talking=False)
        try:
            status = program.wait(self.timeout_s)
        except TimeoutError as error:
            raise self._failure(clip, job, f"took more than timeout_s={self.timeout_s:g} and was ended") from error
        finally:
            program.end()
        if status:
            reason = jobs.reason(job)
            raise self._failure(clip, job, said(status) + (f"; result.json says: {reason}" if reason else ""))

    def _hand_over(self, clip: MaskedClip, job: Path) -> None:
        """A job for the worker, which is started where none runs."""
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="worker-", suffix=".log", dir=self._folder)
            os.close(handle)
            self._log = Path(name)
        start = self._log.stat().st_size
        with self._worker(clip, job, start) as program:
            program.tell(json.dumps({"job": str(job)}))
            line = program.listen(self.timeout_s)
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                answer = None
            if not isinstance(answer, dict) or answer.get("job") != str(job):
                raise ModelError(
                    f"answered {line[:200]!r} on its standard output, which is for answers alone: {{'job': FOLDER, 'status': 'ok'}}. "
                    "vpbench_worker.py keeps it free; without it, print to standard error"
                )

    @contextmanager
    def _worker(self, clip: MaskedClip, job: Path, start: int) -> Iterator[Program]:
        """The running worker; whatever goes wrong ends it, so that the next clip gets a new one."""
        assert self._log is not None
        if self._program is None:
            self._program = self._start(self.argv, self._log, talking=True)
        program = self._program
        try:
            yield program
        except BaseException as error:
            self._program = None
            try:
                status = program.wait(1.0)
            except TimeoutError:
                status = None
            program.end()
            _copy(self._log, start, job / "log.txt")
            if isinstance(error, TimeoutError):
                raise self._failure(clip, job, f"took more than timeout_s={self.timeout_s:g} and was ended") from error
            if isinstance(error, EOFError | OSError):
                raise self._failure(clip, job, "ended in the middle" + ("" if status is None else f", {said(status)}")) from error
            if isinstance(error, ModelError | ValueError):
                raise self._failure(clip, job, str(error)) from error
            raise
        _copy(self._log, start, job / "log.txt")

    def _failure(self, clip: MaskedClip, job: Path, what: str) -> ModelError:
        lines = tail(job / "log.txt").strip()
        where = job / "log.txt" if self._folder is not None else "its log"
        said_last = f" The end of {where}:\n{lines}" if lines else " Its log is empty."
        return ModelError(f"{clip.name}: {self.argv[0]}: {what.rstrip('.')}.{said_last}")

    def _clear(self, job: Path, done: bool) -> None:
        """Remove what nobody needs any more."""
        if self.keep_jobs and self._folder is not None:
            return
        if done or self._folder is None:
            shutil.rmtree(job, ignore_errors=True)
            return
        for part in ("source", "mask", "out", "work"):
            shutil.rmtree(job / part, ignore_errors=True)


def _copy(log: Path, start: int, to: Path) -> None:
    """What a worker wrote for one job."""
    with open(log, "rb") as source, open(to, "wb") as target:
        source.seek(start)
        shutil.copyfileobj(source, target)
