"""Damaged inputs for every reader, each read in a process whose memory and time are bounded.

A second process reads, so that what ends it (a crash in a decoder, a loop in one) is a finding like any other; it is then started again
at the next input. An input is known by its reader, the seed and its number:
``python -m tests.fuzz --reader NAME --first N --inputs 1 --keep DIR``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PATIENCE_S = 90.0  # without a sign of life from the process that reads: more than the time of an input, and of preparing
READY = "template-is-ready"


@dataclass
class Tally:
    """What became of a reader's inputs.

    Attributes:
        findings: by what was found (the exception and where it was raised): the numbers of the inputs.
        refusals: by the error's class: how many.
        examples: some of the messages, for people to read.
        peak_bytes: the most memory that an input took.
        slowest_s: the longest that an input took.
    """

    name: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    findings: dict[str, list[int]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0


def campaign(name: str, first: int, inputs: int, seed: int, keep: Path | None = None) -> Tally:
    """Let a reader read so many damaged inputs.

    Args:
        name: of ``readers.READERS``.
        first: number of the first input.
        inputs: how many.
        seed: decides all of them.
        keep: folder that gets a copy of every input with a finding.
    """
    tally, started = Tally(name), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vpbench-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        at = first
        while at < first + inputs:
            at = _until_it_ends(tally, Path(folder), at, first + inputs, seed, keep)
    tally.seconds = time.monotonic() - started
    return tally


def _until_it_ends(tally: Tally, folder: Path, first: int, stop: int, seed: int, keep: Path | None) -> int:
    """Start a process and note what it says; returns the number of the next input."""
    command = [sys.executable, "-m", "tests.fuzz.campaign", tally.name, str(first), str(stop), str(seed), str(folder), str(keep or "")]
    settings = {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "VPBENCH_OFFLINE": "1", "VPBENCH_TRUST": ""}
    log = folder / "log.txt"
    at, ended, ready = first, "", False
    with open(log, "wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **settings})
    assert process.stdout is not None
    try:
        for line in _lines(process.stdout):
            ready, at = True, _noted(tally, json.loads(line)) if line != READY.encode() else at
        status = process.wait(PATIENCE_S)
    except TimeoutError:
        ended, status = f"hangs in a library: no answer in {PATIENCE_S:g} s", 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if at < stop or ended:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or [""]
        what = ended or f"the process ended with {status}: {last[0][:200]}"
        if not ready or status == 1:  # our own mistake: no input ends the process with an exception
            raise RuntimeError(f"{tally.name}, input {at}: {log.read_text(errors='replace')[-4000:]}")
        _noted(tally, {"at": at, "found": what, "seconds": 0.0, "bytes": 0})
        if keep is not None:
            _kept(folder / "input", keep, tally.name, at, what)
        at += 1
    return at


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    buffer = b""
    while select.select([stream], [], [], PATIENCE_S)[0]:
        got = os.read(stream.fileno(), 65536)
        if not got:
            return
        *lines, buffer = (buffer + got).split(b"\n")
        yield from lines
    raise TimeoutError


def _noted(tally: Tally, said: dict[str, Any]) -> int:
    tally.inputs += 1
    tally.peak_bytes, tally.slowest_s = max(tally.peak_bytes, said["bytes"]), max(tally.slowest_s, said["seconds"])
    if found := said.get("found"):
        tally.findings.setdefault(found, []).append(said["at"])
    elif refused := said.get("refused"):
        tally.refused += 1
        tally.examples.append(refused)
    else:
        tally.accepted += 1
    return int(said["at"]) + 1


def _kept(source: Path, keep: Path, name: str, at: int, what: str) -> None:
    folder = keep / f"{''.join(c if c.isalnum() else '-' for c in name)}-{at}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, symlinks=True)
    (folder / "found.txt").write_text(what + "\n")


# --- the process that reads


def read(name: str, first: int, stop: int, seed: int, folder: Path, keep: Path | None, say: IO[str]) -> None:
    """Read inputs, and say of each, on a line of JSON, what came of it."""
    from tests.fuzz.guards import MEMORY_BYTES, SECONDS, HangError, Peak, Watch, deadline, limit_address_space
    from tests.fuzz.mutations import mutate
    from tests.fuzz.readers import READERS
    from vpbench.errors import VpbenchError

    reader = next(reader for reader in READERS if reader.name == name)
    template, given, out = folder / "template", folder / "input", folder / "out"
    if not (folder / READY).exists():
        shutil.rmtree(template, ignore_errors=True)
        template.mkdir()
        reader.make(template)
        (folder / READY).touch()
    files = sorted({path for pattern in reader.damaged for path in template.glob(pattern)})
    watch, peak = Watch(folder, reader.programs), Peak()
    _fresh(template, given, out)
    if not reader.alone:  # the valid files are read first: they must be taken, and what is loaded once is loaded
        reader.read(given, out)
    say.write(READY + "\n")
    say.flush()
    limit_address_space()
    for at in range(first, stop):
        rng = random.Random(f"{seed}/{name}/{at}")
        _fresh(None if reader.alone else template, given, out)
        weighted = rng.choice(reader.damaged)
        path = rng.choice([path for path in files if path.match(weighted)] or files)
        target = given / path.relative_to(template)
        target.parent.mkdir(parents=True, exist_ok=True)
        others = [other.read_bytes() for other in files if other.suffix == path.suffix and other != path][:4]
        target.write_bytes(mutate(path.read_bytes(), path.name, others, rng))
        said: dict[str, Any] = {"at": at}
        peak.reset()
        started = time.monotonic()
        try:
            with watch.listening(), deadline(SECONDS):
                reader.read(given, out)
        except VpbenchError as error:
            said["refused"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        except (Exception, HangError) as error:
            said["found"] = _where(error)
        said |= {"seconds": time.monotonic() - started, "bytes": peak.bytes()}
        if watch.seen:
            said["found"] = watch.seen[0].replace(str(folder), "")
        elif said["bytes"] > MEMORY_BYTES and "found" not in said:
            said["found"] = f"took {said['bytes'] / 1e6:.0f} MB"
        if keep is not None and "found" in said:
            _kept(given, keep, name, at, f"{path.relative_to(template)}\n{said['found']}")
        say.write(json.dumps(said) + "\n")
        say.flush()


def _fresh(template: Path | None, given: Path, out: Path) -> None:
    for folder in (given, out):
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir()
    if template is None:
        given.mkdir()
    else:
        shutil.copytree(template, given)


def _where(error: BaseException) -> str:
    """An exception and the place in our own code that it came through last."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    ours = [frame for frame in ours if "/vpbench/" in frame.filename or "/baselines/" in frame.filename or "/metrics/" in frame.filename]
    place = f" at {ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno} {ours[-1].name}" if ours else ""
    return f"{type(error).__name__}{place}: {' '.join(str(error).split())[:160]}"


if __name__ == "__main__":
    name, first, stop, seed, folder, keep = sys.argv[1:]
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what readers and libraries print goes to the log
    with contextlib.closing(channel):
        read(name, int(first), int(stop), int(seed), Path(folder), Path(keep) if keep else None, channel)
