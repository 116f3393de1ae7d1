"""What an input must not bring about while it is read, and how that is noticed: Python's audit hooks, a clock, and the process's memory."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 20.0  # that one input may take; the slowest valid ones take two on a busy machine
MEMORY_BYTES = 512_000_000  # that one input may take on top of what was there
ADDRESS_BYTES = 3_000_000_000  # the same, claimed but not necessarily used
WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
RUNS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn")


class HangError(BaseException):
    """An input took too long; no reader catches this one."""


class Watch:
    """Listens to what Python says it does: unpickling, programs started, connections, and writes outside of one folder.

    Attributes:
        seen: what happened since ``clear`` that must not.
    """

    def __init__(self, scratch: Path, programs: bool) -> None:
        self.scratch, self.programs = str(scratch), programs
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "pickle.find_class":
            self.seen.append(f"unpickled {arguments[0]}.{arguments[1]}")
        elif event == "socket.connect" or (event in RUNS and not self.programs):
            self.seen.append(f"{event} {arguments[:2]!r}"[:200])
        elif event in WRITES or (event == "open" and _writes(arguments)):
            if event != "open" and any(isinstance(given, int) and given >= 0 for given in arguments[-1:]):
                return  # relative to an open folder: of a tree that is removed, whose root was looked at
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                if isinstance(path, str | bytes | os.PathLike) and not self._inside(os.fsdecode(path)):
                    self.seen.append(f"{event} {os.fsdecode(path)!r}"[:200])

    def _inside(self, path: str) -> bool:
        return os.path.abspath(path).startswith((self.scratch, "/dev/null", "/proc/self/clear_refs"))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        self.seen.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(set(mode or "") & set("wax+")) if mode else bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise ``HangError`` in the block after so many seconds, as soon as Python code runs."""

    def ring(*_: Any) -> None:
        raise HangError(f"took more than {seconds:g} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_address_space() -> None:
    """Let this process claim no more than ``ADDRESS_BYTES`` on top of what it has, so that more raises MemoryError."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_BYTES, resource.RLIM_INFINITY))


class Peak:
    """The most memory that this process had since ``reset``, less what it had then, in bytes."""

    def reset(self) -> None:
        with contextlib.suppress(OSError):  # not allowed everywhere; the peak of the whole process is then all there is
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def bytes(self) -> int:
        return _status("VmHWM") - self._before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def unpickled() -> None:
    """What the pickles of ``mutations`` call."""
    raise SystemExit("a pickle was loaded")
