"""``vpbench status``: how far runs are, from their files alone. Nothing is scored and nothing is written."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vpbench.errors import DataError, StorageError
from vpbench.storage import holder_is_alive, owner_of, read_manifest, recorded

DONE, UNFINISHED = 0, 1


@dataclass(frozen=True)
class Working:
    """A clip that a process works on.

    Attributes:
        clip: its name.
        host: where the process runs.
        pid: of the process.
        seconds: since it took the clip.
    """

    clip: str
    host: str
    pid: int
    seconds: float


@dataclass(frozen=True)
class Standing:
    """How a run stands. Every clip is in one of ``done``, ``running``, ``generated``, ``failed`` and ``missing``; a failed one that is
    tried again runs. What a clip's record says is believed: ``vpbench run`` alone compares checksums.

    Attributes:
        run: its folder.
        done: clips that are generated and scored.
        running: clips that a living process works on.
        generated: clips whose prediction waits to be scored.
        failed: why, by clip.
        missing: clips that nobody has begun, or whose process died.
        seconds_left: for what is running, generated or missing: what the last clips took from reading to scores, on as many processes as
            work now, at least one; None before a clip is done.
    """

    run: Path
    done: tuple[str, ...]
    running: tuple[Working, ...]
    generated: tuple[str, ...]
    failed: dict[str, str]
    missing: tuple[str, ...]
    seconds_left: float | None

    @property
    def total(self) -> int:
        """Clips of the benchmark."""
        return len(self.done) + len(self.running) + len(self.generated) + len(self.failed) + len(self.missing)

    @property
    def finished(self) -> bool:
        """Whether every clip is done."""
        return len(self.done) == self.total


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """The run folders that paths are, or hold at any depth, also those without their ``run.json``; hidden folders are left out.

    Raises:
        DataError: a path does not exist or holds none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        below = [path] if (path / "run.json").is_file() else sorted(_below(path))
        if not below:
            raise DataError(f"{path}: " + ("holds no run (a folder with run.json)." if path.exists() else "no such folder."))
        found |= dict.fromkeys(below)
    return list(found)


def _below(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        if "run.json" in files or {"clips", "predictions", "scores"} <= set(names):  # the latter has lost it
            yield Path(folder)
            names[:] = [name for name in names if name not in ("clips", "predictions", "measures", "scores")]
        names[:] = [name for name in names if not name.startswith(".")]


def standing(run: Path) -> Standing:
    """How a run stands.

    Raises:
        StorageError: its ``run.json`` cannot be read.
    """
    clips = read_manifest(run).get("clips")
    if not isinstance(clips, dict):
        raise StorageError(f"{run / 'run.json'}: names no clips; it is not what a run writes.")
    done, failed, running, generated, missing, finished = [], {}, [], [], [], []
    for clip in sorted(clips):
        path = run / "clips" / f"{clip}.json"
        record, working = recorded(path), _working(clip, path.with_suffix(".claim"))
        if working is not None:
            running.append(working)
        elif record.get("status") == "ok":
            done.append(clip)
            finished.append((path.stat().st_mtime, _took(record)))
        elif record.get("status") == "failed":
            failed[clip] = str(record.get("error", "no reason recorded"))
        elif record.get("status") == "generated":
            generated.append(clip)
        else:
            missing.append(clip)
    left = _left(finished, len(running) + len(generated) + len(missing), len(running))
    return Standing(run, tuple(done), tuple(running), tuple(generated), failed, tuple(missing), left)


def text(found: Sequence[Standing]) -> str:
    """For people: a line per run, below it who works on what and what failed."""
    lines = []
    for one in found:
        counts = [
            f"{len(one.done)}/{one.total} done",
            f"{len(one.running)} running",
            *([f"{len(one.generated)} to be scored"] if one.generated else []),
            f"{len(one.failed)} failed",
            f"{len(one.missing)} missing",
        ]
        to_come = one.running or one.generated or one.missing
        left = f"  about {_duration(one.seconds_left)} left" if to_come and one.seconds_left is not None else ""
        lines.append(f"{one.run}: {', '.join(counts)}{left}")
        lines += [f"  running {w.clip}: {w.host}, process {w.pid}, for {_duration(w.seconds)}" for w in one.running]
        lines += [f"  failed  {clip}: {' '.join(reason.split())[:300]}" for clip, reason in one.failed.items()]
    return "\n".join(lines) + "\n"


def as_json(found: Sequence[Standing]) -> str:
    """For machines: a list with an object per run."""
    return json.dumps([{**asdict(one), "run": str(one.run), "total": one.total} for one in found], indent=2) + "\n"


def add_parser(commands: Any) -> None:
    """Add ``status`` to the commands of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "status",
        help="how far runs are: done, running (who, since when), failed, missing, time left",
        description="Say how far runs are, from their files alone; works on a shared disk while other machines run.",
        epilog="exit status: 0 every clip of every run is done; 1 something is not, or a run cannot be read; 2 no run there.\n\n"
        "examples:\n  vpbench status runs\n  vpbench status runs/demo/telea-* --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="run folders, or folders that hold them")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(call=_command)


def _command(options: argparse.Namespace) -> int:
    found: list[Standing] = []
    unreadable: list[StorageError] = []
    for run in run_folders(options.runs):
        try:
            found.append(standing(run))
        except StorageError as error:  # the others are there all the same
            unreadable.append(error)
    if not found:
        raise unreadable[0]
    for problem in unreadable:
        sys.stderr.write(f"vpbench: {problem}\n")
    sys.stdout.write(as_json(found) if options.json else text(found))
    return DONE if not unreadable and all(one.finished for one in found) else UNFINISHED


def _working(clip: str, claim: Path) -> Working | None:
    if not holder_is_alive(claim, mine=True):
        return None
    owner = owner_of(claim)  # None: gone since, or being written
    return None if owner is None else Working(clip, owner.host, owner.pid, max(0.0, time.time() - owner.since))


def _took(record: dict[str, Any]) -> float:
    """Seconds that a clip took to be generated and scored."""
    with contextlib.suppress(OverflowError):  # of an integer beyond floats
        return float(record.get("seconds", 0.0)) + float(record.get("score_seconds", 0.0))
    return 0.0


def _left(finished: Iterable[tuple[float, float]], clips: int, processes: int) -> float | None:
    """Seconds for so many more clips, from when the others were finished and what they took."""
    took = [seconds for _, seconds in sorted(finished)[-20:]]
    left = clips * sum(took) / len(took) / max(processes, 1) if took else math.nan
    return left if math.isfinite(left) and left >= 0 else None


def _duration(seconds: float) -> str:
    """For people.

    >>> [_duration(s) for s in (7.4, 312, 7300, 200000)]
    ['7 s', '5 min 12 s', '2 h 1 min', '2 d 7 h']
    """
    whole = round(seconds)
    for size, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {small}"
    return f"{whole} s"
