"""The two sides of a gate: where results come from, which of several are meant, and the saved baseline."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError
from vpbench.results import SCHEMA, Cell, Summary, load_summaries, read_contents, read_summaries
from vpbench.slices import ALL


@dataclass(frozen=True)
class Choice:
    """Which of several results is meant; empty for any.

    Attributes:
        baseline_model: a model's name or a run's id.
        candidate_model: the same.
    """

    baseline_model: str = ""
    candidate_model: str = ""
    protocol: str = ""
    track: str = ""


def has_clips(summary: Summary) -> bool:
    """Whether a result has values per clip; a row of ``leaderboard.csv`` has none."""
    return len(summary.clips) == summary.ok


def load_side(paths: Path | Sequence[Path], option: str) -> list[Summary]:
    """Read the results of one side.

    Raises:
        DataError: a path without results, or a file that is none.
        ConfigError: a ``leaderboard.csv`` as candidate, or beside other paths.
    """
    given = [paths] if isinstance(paths, Path) else [Path(path) for path in paths]
    tables = [path for path in given if path.suffix.lower() == ".csv"]
    if not tables:
        return load_summaries(given)
    if option != "--baseline" or len(given) > 1:
        raise ConfigError(f"{tables[0]}: a leaderboard's row has no values per clip; it can only be the one --baseline.")
    return read_leaderboard(tables[0])


def read_leaderboard(file: Path) -> list[Summary]:
    """Read the rows of a ``leaderboard.csv`` as results without values per clip.

    Raises:
        DataError: unreadable, or no leaderboard of ours.
    """
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["slice"] == ALL]
        if not rows:
            raise ValueError("no row over all clips")
        found: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
        for row in rows:
            key = tuple(row[name] for name in ("benchmark", "fingerprint", "protocol", "track", "model", "run"))
            found.setdefault(key, []).append(row)
        return [_row(file, lines) for lines in found.values()]
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}).") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: is no leaderboard.csv of `vpbench rank` ({error!r}).") from error


def _row(file: Path, lines: Sequence[Mapping[str, str]]) -> Summary:
    first = lines[0]
    ok, total = int(first["clips_ok"]), int(first["clips_total"])
    return Summary(
        benchmark=first["benchmark"],
        fingerprint=first["fingerprint"],
        model=first["model"],
        needs_reference=first["reason"] == "sees hole",
        may_rank=True,
        run=first["run"],
        protocol=first["protocol"],
        track=first["track"],
        ok=ok,
        total=total,
        failed=0,
        mean_rank=(),
        cells=tuple(_cell(line) for line in lines),
        source=file,
    )


def _cell(line: Mapping[str, str]) -> Cell:
    if line["direction"] not in ("higher", "lower"):
        raise ValueError(f"direction {line['direction']!r}")
    value = float(line["value"]) if line["value"] else None
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{line['metric']}[{line['region']}] is {value}")
    return Cell(
        metric=line["metric"],
        region=line["region"],
        column=f"{line['metric']}[{line['region']}]",
        unit=line["unit"],
        direction=line["direction"],
        digits=0,
        scale=1.0,
        average="",
        signature=line["signature"],
        value=value,
        n=int(line["n"]),
        excluded=(),
        exact_frames=0,
    )


def choose(baselines: Sequence[Summary], candidates: Sequence[Summary], choice: Choice) -> tuple[Summary, Summary] | str:
    """Pick the one pair to compare: equal protocol and track, then equal benchmark, data and model where that decides.

    Returns:
        The baseline and the candidate; or, where the sides have no protocol and track in common, what each has.

    Raises:
        ConfigError: an option that names nothing, or several pairs; the message lists the choices.
    """
    for option, key in (("--protocol", "protocol"), ("--track", "track")):
        wanted, known = getattr(choice, key), {getattr(summary, key) for summary in (*baselines, *candidates)}
        if wanted and wanted not in known:
            raise unknown_name(option, wanted, known)
    ours = _narrowed(baselines, choice, "--baseline-model", choice.baseline_model)
    theirs = _narrowed(candidates, choice, "--candidate-model", choice.candidate_model)
    pairs = [(b, c) for b in ours for c in theirs if (b.protocol, b.track) == (c.protocol, c.track)]
    if not pairs:
        return f"nothing to compare: the baseline has {_kinds(ours)}, the candidate has {_kinds(theirs)}"
    same: tuple[Callable[[Summary], str], ...] = (lambda s: s.benchmark, lambda s: s.fingerprint, lambda s: s.model)
    for key_of in same:
        pairs = [pair for pair in pairs if key_of(pair[0]) == key_of(pair[1])] or pairs
    if len(pairs) > 1:
        raise ConfigError(_ambiguous(pairs))
    return pairs[0]


def _narrowed(side: Sequence[Summary], choice: Choice, option: str, model: str) -> list[Summary]:
    if model and not any(model in (summary.model, summary.run) for summary in side):
        raise unknown_name(option, model, {summary.model for summary in side})
    fits = [s for s in side if not model or model in (s.model, s.run)]
    return [s for s in fits if choice.protocol in ("", s.protocol) and choice.track in ("", s.track)]


def _kinds(side: Iterable[Summary]) -> str:
    return ", ".join(dict.fromkeys(f"{s.protocol} {s.track}" for s in side)) or "none of these"


def _ambiguous(pairs: Sequence[tuple[Summary, Summary]]) -> str:
    """The message for several pairs: every option that tells them apart, with its values."""
    options = {
        "--baseline-model": [b for b, _ in pairs],
        "--candidate-model": [c for _, c in pairs],
        "--protocol": [b for b, _ in pairs],
        "--track": [b for b, _ in pairs],
    }
    lines = []
    for option, side in options.items():
        if option in ("--protocol", "--track"):
            names = sorted({getattr(s, option[2:]) for s in side})
        else:
            names = sorted({s.model for s in side})
            if len(names) == 1:  # several runs of one model
                names = sorted({s.run for s in side})
        if len(names) > 1:
            lines.append(f"\n  {option} {' | '.join(names)}")
    detail = "".join(lines) or "".join(f"\n  {b.source} and {c.source}" for b, c in pairs)
    return f"{len(pairs)} pairs of results could be compared; say which with{detail}"


def failures(summary: Summary) -> dict[str, str]:
    """The failed clips of a result that was read from a file, with the reason; empty where none failed."""
    if not summary.failed:
        return {}
    return {str(clip["clip"]): str(clip["reason"]) for clip in _raw(summary)["clips"]["failed"]}


def save(file: Path, paths: Sequence[Path]) -> list[Summary]:
    """Write the results of runs into one file that ``load_summaries`` reads: values per clip, and no more than a gate needs.

    Returns:
        What was written. A run with failed or missing clips is none of it: nothing is written then, and the list is that of such runs.

    Raises:
        DataError: see ``load_summaries``.
        StorageError: ``file`` cannot be written.
    """
    from vpbench.storage import write_json

    summaries = load_summaries(paths)
    if bad := incomplete(summaries):
        return bad
    write_json(file, {"schema": SCHEMA, "results": [_lean(_raw(summary)) for summary in summaries]})
    return summaries


def incomplete(summaries: Iterable[Summary]) -> list[Summary]:
    """Results that can be no baseline, because clips failed or are missing."""
    return [summary for summary in summaries if summary.ok != summary.total]


def _raw(summary: Summary) -> dict[str, Any]:
    """The JSON object that a summary was read from."""
    digests = [other.digest for other in read_summaries(summary.source)]
    return read_contents(summary.source)[digests.index(summary.digest)]


def _lean(part: dict[str, Any]) -> dict[str, Any]:
    """Without the frames behind every value where no mean is weighed by them, and without what only tables print."""
    columns = []
    for column in part["columns"]:
        dropped = {"excluded_frames"} | (set() if column["average"] == "frames" else {"clip_frames"})
        columns.append({key: value for key, value in column.items() if key not in dropped})
    return {**part, "columns": columns}
