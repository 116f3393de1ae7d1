"""Scoring in a process of its own, beside the one that generates.

A model keeps the GPU busy while the clip before is measured. It is a process and not a thread because random numbers, TF32 and the like are
settings of a process: a metric that changed them would change what the model makes, and the other way round. The two have the disk
between them, as a run and the run that goes on from it have; what passes through the pipe is names of clips. Whatever becomes of the
process that scores, the one that generates does what it leaves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vpbench.clip import Clip, ClipHandle
from vpbench.configuration import build
from vpbench.prefetch import prefetched
from vpbench.run_folder import Passes, RunFolder
from vpbench.storage import Claim

log = logging.getLogger(__name__)


class Beside:
    """The process that scores, seen from the one that generates; ends with its ``with`` block."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        """Start it. Which clips it is to score, ``put`` says.

        Args:
            config: the resolved configuration of the run.
            folder: of the run.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vpbench.beside"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._given: dict[str, ClipHandle] = {}
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.alive = True  # as far as its answers tell
        threading.Thread(target=self._listen, name="vpbench-beside", daemon=True).start()
        self._send({"config": {key: config[key] for key in ("protocol", "track", "device", "benchmark")}, "folder": str(folder)})

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # it gives its claim back
        self._process.wait()

    def put(self, handle: ClipHandle, fingerprint: str) -> None:
        """Hand over a clip whose prediction is stored and whose claim is given back. Waits when very many are not scored yet."""
        self._given[handle.name] = handle
        self._send({"clip": handle.name, "fingerprint": fingerprint})

    def finished(self) -> list[str]:
        """The clips that were scored since the last call."""
        names = []
        while not self._answers.empty():
            names += self._take(self._answers.get())
        return names

    def drain(self) -> Iterator[str]:
        """No more clips will come: the names of those that are scored, as they are."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        while self.alive:  # ``finished`` may have seen the end already
            yield from self._take(self._answers.get())

    def left(self) -> list[ClipHandle]:
        """The clips that were handed over and are not scored."""
        return list(self._given.values())

    def _take(self, answer: Mapping[str, Any] | None) -> list[str]:
        if answer is None:
            self.alive = False
            return []
        if answer["problem"]:
            log.warning("%s: could not be scored beside the model and is scored after it (%s)", answer["clip"], answer["problem"])
        if answer["scored"] and self._given.pop(answer["clip"], None) is not None:
            return [answer["clip"]]
        return []

    def _send(self, line: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the end of its answers tells that it is gone
            self._process.stdin.write(json.dumps(line) + "\n")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        if status := self._process.wait():
            log.warning("the process that scores ended with status %d; what it left is scored after the model", status)
        self._answers.put(None)


def main() -> None:
    """The process that scores: reads a job and names of clips from standard input, answers on standard output when one is done."""
    parent = os.getppid()
    lines = os.fdopen(os.dup(0))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints
    job = json.loads(lines.readline())
    passes, files = Passes(job["config"]), RunFolder(Path(job["folder"]))
    handles: dict[str, ClipHandle] = {handle.name: handle for handle in build(job["config"]["benchmark"], "benchmark")}
    fingerprints: dict[str, str] = {}

    def named() -> Iterator[ClipHandle]:
        for line in lines:
            given = json.loads(line)
            fingerprints[given["clip"]] = given["fingerprint"]
            yield handles[given["clip"]]

    for handle, clip in prefetched(named()):
        if os.getppid() != parent:
            return  # it was killed: whoever goes on with the run does the rest
        problem = ""
        try:
            scored = _score(passes, files, fingerprints.pop(handle.name), handle.name, clip)
        except Exception as error:  # the process that generates tries again, and records what comes of it
            scored, problem = False, f"{type(error).__name__}: {error}"
        try:
            answers.write(json.dumps({"clip": handle.name, "scored": scored, "problem": problem}) + "\n")
        except BrokenPipeError:  # it was killed meanwhile
            return


def _score(passes: Passes, files: RunFolder, fingerprint: str, name: str, clip: Clip | Exception) -> bool:
    """Score a clip; False when another process is at work on it, or has taken its prediction away."""
    if isinstance(clip, Exception):
        raise clip
    with Claim.take(files.claim_path(name)) as claim:
        record = files.record(name)
        if claim is None or record is None or not files.is_generated(name):
            return False
        if record["status"] != "ok" or not passes.are_stored(files, fingerprint, record):
            passes.score(files, fingerprint, record, clip, files.stored(name))
    return True


def _ended(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGINT, _ended)  # of a terminal: the process that generates gets it too, and tells the user
    try:
        main()
    except SystemExit as ending:
        os._exit(int(ending.code or 0))  # without waiting for the thread that reads
