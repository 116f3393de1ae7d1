"""Starting programs, listening to them, and ending them with everything that they started."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

TOKEN = "VPBENCH_PROCESS"  # what every process has in its environment that a program of ours started, and so on
PATIENCE_S = 5.0  # between asking a program to end and ending it
LINE_LIMIT = 1_000_000  # bytes of a line that a worker may answer
TAIL_BYTES, TAIL_LINES = 4000, 15


class Program:
    """A running program, in a session of its own.

    Args:
        argv: the program and its arguments; no shell reads them.
        cwd: its working directory.
        env: its whole environment.
        log: where its standard error goes, and its standard output where nobody listens to it; appended to.
        memory_bytes: limit of each process's own data, None: none; on Linux alone.
        talking: whether jobs go in on standard input, and answers come on standard output.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, memory_bytes: int | None = None, talking: bool = False
    ) -> None:
        self._token = uuid.uuid4().hex
        self._buffer = b""
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env={**env, TOKEN: self._token},
                stdin=subprocess.PIPE if talking else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talking else file,
                stderr=file,
                bufsize=0,
                start_new_session=True,
            )
        if memory_bytes is not None and sys.platform == "linux":
            import resource

            resource.prlimit(self.process.pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))

    def wait(self, seconds: float) -> int:
        """Its exit status; negative: the signal that ended it.

        Raises:
            TimeoutError: it still runs after so many seconds.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error

    def tell(self, line: str) -> None:
        """Send a line.

        Raises:
            OSError: it does not listen any more.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def listen(self, seconds: float) -> str:
        """The next line that it answers.

        Raises:
            TimeoutError: none came in so many seconds.
            EOFError: it ended, or closed its standard output.
            ValueError: the line has more than ``LINE_LIMIT`` bytes.
        """
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if len(self._buffer) > LINE_LIMIT:
                    raise ValueError(f"a line of more than {LINE_LIMIT} bytes")
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                got = os.read(self.process.stdout.fileno(), 65536)
                if not got:
                    raise EOFError
                self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def end(self) -> None:
        """End it and whatever it started: first by asking, then by force. Safe to call again."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.02)
        while self._running():
            self._signal(signal.SIGKILL)
            time.sleep(0.02)

    def _running(self) -> bool:
        return self.process.poll() is None or bool(self._started())

    def _signal(self, sent: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group may outlive the program
            os.killpg(self.process.pid, sent)
        for pid in self._started():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sent)

    def _started(self) -> list[int]:
        """What the program started and what runs on, in whatever session: what has our token in its environment. On Linux alone."""
        mark = f"{TOKEN}={self._token}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # gone since, or somebody else's
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def said(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"
