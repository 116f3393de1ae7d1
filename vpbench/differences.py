"""Why two results differ, part by part: protocol, data, clips, model, versions, machine, and every column's value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpbench.column_split import DIFFERENT, Difference, Part, alike, named, shown, split
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError
from vpbench.results import Cell, Summary, load_summaries
from vpbench.switches import UnmeasuredError, Workbench

NEEDS_RUN = "only a run with the other shows it"


@dataclass(frozen=True)
class Explanation:
    """Two results side by side.

    Attributes:
        parts: everything but the columns in which they differ: protocol, data, clips, model, versions, hardware.
        equal: names of what is the same.
        unknown: what cannot be compared, with the reason.
        columns: those asked for, or those that both have.
        only_a: columns that B lacks.
        only_b: columns that A lacks.
    """

    a: Summary
    b: Summary
    parts: tuple[Part, ...]
    equal: tuple[str, ...]
    unknown: tuple[str, ...]
    columns: tuple[Difference, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    @property
    def nothing_differs(self) -> bool:
        """Whether the two are the same in every respect that is known."""
        return not (self.parts or self.only_a or self.only_b) and all(column.equal or column.unmeasured for column in self.columns)


def pick(path: Path, which: str, protocol: str = "", track: str = "", model: str = "") -> Summary:
    """The one summary that a path and these names choose.

    Args:
        path: a run folder, a folder of scores, a submission, a saved baseline, or a folder that holds them.
        which: how the command line calls this side: empty, or ``other-``; goes before the names of options in messages.
        protocol: its name; empty for any.
        track: its name; empty for any.
        model: its name; empty for any.

    Raises:
        ConfigError: none or several remain; lists the choices.
        DataError: see ``load_summaries``.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder.")
    found = load_summaries([path / "summary.json" if (path / "summary.json").is_file() else path])
    left = found
    for option, wanted in (("protocol", protocol), ("track", track), ("model", model)):
        if wanted and not any(getattr(summary, option) == wanted for summary in left):
            raise unknown_name(f"{path}: --{which}{option}", wanted, sorted({str(getattr(summary, option)) for summary in left}))
        left = [summary for summary in left if wanted in ("", getattr(summary, option))]
    if len(left) > 1:
        lines = (f"--{which}model={s.model} --{which}protocol={s.protocol} --{which}track={s.track}  ({s.source})" for s in left)
        raise ConfigError(f"{path}: holds {len(left)} results; choose one of\n  " + "\n  ".join(lines))
    return left[0]


def explain(a: Summary, b: Summary, column: str = "", other_column: str = "", measure: bool = False) -> Explanation:
    """Split the differences of two results into their parts.

    Args:
        a: the one that settings are turned from.
        b: the other.
        column: of A, and of B unless ``other_column`` is given; empty for all that both have.
        other_column: of B.
        measure: compute missing arrays from A's (and B's) stored predictions; needs the benchmark, and torch for columns with a network.

    Raises:
        ConfigError: an unknown column.
        DataError: the two have no clip in common.
    """
    common = sorted(set(a.clips) & set(b.clips))
    if not common:
        raise DataError(
            f"{a.source} and {b.source} have no clip in common ({a.benchmark}: {named(a.clips)}; {b.benchmark}: {named(b.clips)}): "
            "their numbers are about different things."
        )
    pairs = _pairs(a, b, column, other_column)
    benches = Workbench(a, measure), Workbench(b, measure)
    parts, equal = _facts(*benches, common)
    same = {"predictions", "content of clips"} <= set(equal)
    columns = tuple(split(*benches, one, other, common, same) for one, other in pairs)
    only_a, only_b = (_missing(a, b), _missing(b, a)) if not column else ((), ())
    return Explanation(a, b, parts, equal, _unknown(*benches), columns, only_a, only_b)


def _pairs(a: Summary, b: Summary, column: str, other_column: str) -> list[tuple[Cell, Cell]]:
    if other_column and not column:
        raise ConfigError("--other-column names a column of B; name that of A with --column.")
    if not column:
        return [(cell, other) for cell in a.cells if (other := b.cell(cell.column)) is not None]
    found = []
    for summary, name, option in ((a, column, "--column"), (b, other_column or column, "--other-column" if other_column else "--column")):
        cell = summary.cell(name)
        if cell is None:
            raise unknown_name(f"{option}, in {summary.source}", name, [cell.column for cell in summary.cells])
        found.append(cell)
    one, two = found
    if not alike(one, two):
        raise ConfigError(f"{one.header} and {two.header} are {DIFFERENT}.")
    return [(one, two)]


def _missing(a: Summary, b: Summary) -> tuple[str, ...]:
    return tuple(cell.column for cell in a.cells if b.cell(cell.column) is None)


WHY = {  # why the effect of these is not measured, where that must be said
    "protocol": "its settings are turned one at a time, per column",
    "track": "turned per column",
    "benchmark": NEEDS_RUN,
    "benchmark's settings": NEEDS_RUN,
    "model": "in the rest",
    "model's settings": "in the rest",
    "versions": f"in the rest, if it has an effect: {NEEDS_RUN}",
    "machine": f"in the rest, if it has an effect: {NEEDS_RUN}",
}
DEEP = ("model's settings", "benchmark's settings", "predictions", "versions", "machine")  # what only a run folder tells


def _facts(a: Workbench, b: Workbench, common: Sequence[str]) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """What differs and the names of what is equal, of everything but the columns."""
    one, other = _known(a), _known(b)
    found: dict[str, list[Part]] = {}
    for group in one:
        if group in other:
            keys = dict.fromkeys((*one[group], *other[group]))
            pairs = ((key, one[group].get(key, "-"), other[group].get(key, "-")) for key in keys)
            found[group] = [Part(key, x, y, why=WHY[group]) for key, x, y in pairs if x != y]
    found["clips"] = _clips(a.summary, b.summary)
    found["content of clips"] = _content(a, b, common)
    if a.folder is not None and b.folder is not None:
        changed = [clip for clip in common if not _prediction(a, clip) == _prediction(b, clip) != ""]
        found["predictions"] = _some("predictions", changed, common, "other files, in the rest")
    return tuple(part for parts in found.values() for part in parts), tuple(group for group, parts in found.items() if not parts)


def _unknown(a: Workbench, b: Workbench) -> tuple[str, ...]:
    sides = [side for side, bench in (("A", a), ("B", b)) if bench.folder is None]
    return (f"{' and '.join(sides)} without a run folder: {', '.join(DEEP)} are not compared",) if sides else ()


def _known(bench: Workbench) -> dict[str, dict[str, str]]:
    """Facts by group and name."""
    summary, facts = bench.summary, bench.facts
    found: dict[str, dict[str, str]] = {
        "protocol": {"protocol": summary.protocol},
        "track": {"track": summary.track},
        "benchmark": {"benchmark": summary.benchmark, "benchmark's fingerprint": summary.fingerprint[:12]},
        "model": {"model": summary.model},
    }
    if bench.folder is None:
        return found
    config, provenance = facts.get("config", {}), facts.get("provenance", {})
    found["benchmark's settings"] = dict(_flat(config.get("benchmark"), "benchmark"))
    if (manifest := bench.folder / "masks.json").is_file():
        found["benchmark's settings"]["mask set"] = _digest(manifest)
    found["model's settings"] = {
        **dict(_flat(config.get("model"), "model")),
        "model's implementation": str(facts.get("identity", {}).get("model", {}).get("implementation")),
        "seed": str(config.get("seed")),
    }
    versions = {key: provenance.get(key) for key in ("vpbench", "git_commit", "python")}
    found["versions"] = {**{key: str(value) for key, value in versions.items()}, **dict(_flat(provenance.get("packages"), "package"))}
    found["machine"] = {key: str(provenance.get(key)) for key in ("platform", "processor", "cores")}
    return found


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text."""
    if isinstance(value, Mapping):
        for key in value:
            yield from _flat(value[key], f"{name}.{key}")
    else:
        yield name, shown(value)


def _digest(file: Path) -> str:
    from vpbench.storage import sha256_file

    return sha256_file(file)[:12]


def _clips(a: Summary, b: Summary) -> list[Part]:
    if a.clips == b.clips:
        return []

    def side(one: Summary, other: Summary) -> str:
        alone = [clip for clip in one.clips if clip not in other.clips]
        failed = f", {one.failed} failed" if one.failed else ""
        return f"{len(one.clips)} of {one.total}{failed}" + (f"; alone: {named(alone)}" if alone else "")

    return [Part("clips", side(a, b), side(b, a), why="measured per column")]


def _content(a: Workbench, b: Workbench, common: Sequence[str]) -> list[Part]:
    """Common clips whose frames, masks or texts are not the same."""
    if a.summary.fingerprint == b.summary.fingerprint:
        return []
    ones, others = a.facts.get("clips"), b.facts.get("clips")
    if ones is None or others is None:
        return [Part("content of clips", "", "", why="the benchmarks' fingerprints differ; of which clips, only run folders tell")]
    changed = [clip for clip in common if ones.get(clip) != others.get(clip)]
    return _some("content of clips", changed, common, f"other frames, masks or texts; {NEEDS_RUN}")


def _some(name: str, changed: Sequence[str], common: Sequence[str], why: str) -> list[Part]:
    return [Part(name, "", "", why=f"{len(changed)} of {len(common)} common clips ({named(changed)}): {why}")] if changed else []


def _prediction(bench: Workbench, clip: str) -> str:
    """The checksum of a prediction; empty where the run's record of it is gone."""
    try:
        return str(bench.record(clip).get("prediction", ""))
    except UnmeasuredError:
        return ""
