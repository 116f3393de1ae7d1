"""Whether a candidate is worse than a baseline: checks under rules, a verdict, an exit status.

A *check* is one column on one slice of the clips. It regresses when the one-sided paired t-test over clips rejects "the drop is at most
the tolerance" at alpha, after Holm's correction over all tests of the gate; or, under ``test: none``, when the drop exceeds the
tolerance. What cannot be compared is inconclusive, never a pass.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from vpbench.clip import OPERATIONS
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError
from vpbench.gate_checks import Check, Measured, Status, decide, measure
from vpbench.gate_rules import Acknowledged, Rule, Rules, load_rules
from vpbench.gate_sides import Choice, choose, failures, has_clips, load_side
from vpbench.results import Cell, Summary
from vpbench.slices import ALL, BINS, DIMENSIONS, UNKNOWN, slices

PASS, REGRESSION, USAGE, INCONCLUSIVE, FAILED = 0, 1, 2, 3, 4  # exit status
ORDER = (USAGE, FAILED, INCONCLUSIVE, REGRESSION)  # which one is told where several apply
NAMES = {PASS: "PASS", REGRESSION: "FAIL", INCONCLUSIVE: "INCONCLUSIVE", FAILED: "CANDIDATE FAILED"}


@dataclass(frozen=True)
class Problem:
    """Something that keeps the two results from being compared, with the exit status it asks for."""

    status: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Attributes:
        exit_status: 0 pass, 1 regression, 3 inconclusive, 4 the candidate run itself had failures.
        rules: their name.
        baseline: None where the two sides have nothing in common.
        problems: what concerns the whole comparison.
        failed: the candidate's failed clips, with the reason.
        notes: what a reader should know and what does not decide, such as expired acknowledgements.
    """

    exit_status: int
    rules: str
    baseline: Summary | None = None
    candidate: Summary | None = None
    problems: tuple[Problem, ...] = ()
    checks: tuple[Check, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``PASS``, ``FAIL``, ``INCONCLUSIVE`` or ``CANDIDATE FAILED``."""
        return NAMES[self.exit_status]

    def count(self, status: Status) -> int:
        """How many checks have a status."""
        return sum(check.status == status for check in self.checks)


def gate(
    baseline: Path | Sequence[Path],
    candidate: Path | Sequence[Path],
    rules: str = "default",
    choice: Choice | None = None,
    today: datetime.date | None = None,
) -> Verdict:
    """Compare a candidate with a baseline.

    Args:
        baseline: run folders, folders that hold them, saved baselines, submissions, or one ``leaderboard.csv``.
        candidate: the same without the last.
        rules: a YAML file, or the name of one in ``conf/gate``.
        choice: which of several results of a side is meant.
        today: decides which acknowledgements have expired; None for the date of this machine.

    Raises:
        ConfigError: rules that cannot be applied, or several results of a side and no choice; the message lists them.
        DataError: a path without results, or a file that is no result.
    """
    wanted = load_rules(rules)
    sides = load_side(baseline, "--baseline"), load_side(candidate, "--candidate")
    pair = choose(*sides, choice or Choice())
    if isinstance(pair, str):
        return Verdict(INCONCLUSIVE, wanted.name, problems=(Problem(INCONCLUSIVE, pair),))
    verdict = judge(*pair, wanted, today or datetime.date.today())
    return dataclasses.replace(verdict, failed=tuple(failures(pair[1]).items()))


def judge(baseline: Summary, candidate: Summary, rules: Rules, today: datetime.date) -> Verdict:
    """Apply rules to two results.

    Raises:
        ConfigError: a rule or an acknowledgement that fits no column; the message suggests the nearest name.
    """
    parts = {rule.slice: _part(rule, baseline, candidate) for rule in rules.rules}
    cells = {cell.column: cell for summary in (baseline, candidate) for cell in summary.cells}
    plan = _plan(rules, cells, {*baseline.mean_rank, *candidate.mean_rank})
    known, notes = _known_drops(rules, plan, cells, today)
    problems = _problems(baseline, candidate)
    if _same_data(baseline, candidate):
        measured = [measure(rule, column, *parts[rule.slice], known.get((column, rule.slice))) for column, rule in plan]
    else:
        measured = [Measured(Check(column, rule.slice, reason="other benchmark data", test=rule.test)) for column, rule in plan]
    checks = decide(measured)
    notes += [
        f"{ack.where}: {column} passes without the acknowledgement; it can go"
        for (column, where_slice), ack in known.items()
        if any(check.status == "pass" and (check.column, check.slice) == (column, where_slice) for check in checks)
    ]
    if baseline.source == candidate.source != Path():
        notes.append(f"both sides are the same file, {baseline.source}")
    found = {problem.status for problem in problems}
    if any(check.status == "regression" for check in checks):
        found.add(REGRESSION)
    if any(check.status == "inconclusive" for check in checks):
        found.add(INCONCLUSIVE)
    if not any(check.status in ("pass", "regression", "acknowledged") for check in checks):
        found.add(INCONCLUSIVE)
        problems = (*problems, Problem(INCONCLUSIVE, "nothing was compared"))
    status = next((code for code in ORDER if code in found), PASS)
    return Verdict(status, rules.name, baseline, candidate, tuple(problems), tuple(checks), notes=tuple(notes))


def _problems(baseline: Summary, candidate: Summary) -> tuple[Problem, ...]:
    """What concerns all columns."""
    found = []
    if candidate.failed:
        found.append(Problem(FAILED, f"the candidate run had failures: {candidate.failed} of {candidate.total} clips"))
    for side, summary in (("candidate", candidate), ("baseline", baseline)):
        missing = summary.total - summary.ok - summary.failed
        if missing:
            found.append(Problem(INCONCLUSIVE, f"the {side} is a partial run: {missing} of {summary.total} clips are missing"))
    if baseline.failed:
        found.append(Problem(INCONCLUSIVE, f"the baseline run had failures: {baseline.failed} of {baseline.total} clips"))
    if baseline.fingerprint != candidate.fingerprint:
        found.append(
            Problem(
                INCONCLUSIVE,
                f"other benchmark data: the baseline was measured on {baseline.benchmark} {baseline.fingerprint[:12]}, the candidate on "
                f"{candidate.benchmark} {candidate.fingerprint[:12]}. Measure the baseline again on the candidate's data",
            )
        )
    elif baseline.needs_reference != candidate.needs_reference:
        sees = "candidate" if candidate.needs_reference else "baseline"
        found.append(Problem(INCONCLUSIVE, f"the {sees} sees the hole and the other side does not"))
    elif has_clips(baseline) and baseline.clips != candidate.clips and not found:
        found.append(Problem(INCONCLUSIVE, "the two sides hold other clips"))
    return tuple(found)


def _same_data(baseline: Summary, candidate: Summary) -> bool:
    return baseline.fingerprint == candidate.fingerprint and baseline.needs_reference == candidate.needs_reference


def _part(rule: Rule, baseline: Summary, candidate: Summary) -> tuple[Summary, Summary]:
    """Both results, cut down to the clips of a rule's slice.

    Raises:
        ConfigError: no slice has this name; lists those that there are.
    """
    if not rule.slice:
        return baseline, candidate
    dimension, _, label = rule.slice.partition("=")
    if dimension not in DIMENSIONS:
        raise unknown_name(f"{rule.where}.slice (as in {DIMENSIONS[0]}=NAME)", dimension, DIMENSIONS)
    found = {part[0].slice: (part[0], part[1]) for part in slices([baseline, candidate], [dimension])}
    named = {"operation": OPERATIONS, **{key: bins.names for key, bins in BINS.items()}}.get(dimension, ())
    if rule.slice not in found and label not in (*named, UNKNOWN):
        raise unknown_name(f"{rule.where}.slice", rule.slice, {*found, *(f"{dimension}={name}" for name in named)})
    nothing = dataclasses.replace(baseline, clips=(), ok=0, cells=()), dataclasses.replace(candidate, clips=(), ok=0, cells=())
    return found.get(rule.slice, nothing)


Plan = list[tuple[str, Rule]]


def _plan(rules: Rules, cells: Mapping[str, Cell], counted: set[str]) -> Plan:
    """The column and rule of every check; of two rules for one column and slice the later one."""
    plan: dict[tuple[str, str], tuple[str, Rule]] = {}
    for rule in rules.rules:
        for column in _columns(rule, cells, counted):
            plan[column, rule.slice] = (column, rule)
    return list(plan.values())


def _columns(rule: Rule, cells: Mapping[str, Cell], counted: set[str]) -> list[str]:
    fitting = _fitting(rule, cells, "neither result has")
    if rule.mean_rank:
        fitting = [column for column in fitting if column in counted]
    if not fitting:
        which = f"{rule.metric}[{rule.region}]" + (" in the mean rank" if rule.mean_rank else "")
        raise ConfigError(f"{rule.where}: no column fits {which}. Columns: {', '.join(cells) or 'none'}.")
    return fitting


def _fitting(rule: Rule | Acknowledged, cells: Mapping[str, Cell], lacking: str) -> list[str]:
    """Columns that a metric and a region name.

    Args:
        lacking: who has none, for the message.

    Raises:
        ConfigError: there is no such metric, or it is not measured in such a region.
    """
    metrics = [cell for cell in cells.values() if fnmatchcase(cell.metric, rule.metric)]
    fitting = [cell.column for cell in metrics if fnmatchcase(cell.region, rule.region)]
    if not fitting:
        wanted = rule.metric if rule.region == "*" else f"{rule.metric}[{rule.region}]"
        misspelt = (rule.region, [cell.region for cell in metrics]) if metrics else (rule.metric, [cell.metric for cell in cells.values()])
        near = difflib.get_close_matches(*misspelt, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{rule.where}: {lacking} a column {wanted}.{hint} Columns: {', '.join(cells) or 'none'}.")
    return fitting


def _known_drops(
    rules: Rules, plan: Plan, cells: Mapping[str, Cell], today: datetime.date
) -> tuple[dict[tuple[str, str], Acknowledged], list[str]]:
    """The acknowledgements that count, by column and slice, and what is to be said of the others."""
    known: dict[tuple[str, str], Acknowledged] = {}
    notes = []
    for ack in rules.acknowledged:
        checked = {column: cells[column] for column, rule in plan if rule.slice == ack.slice}
        if not checked:
            raise ConfigError(f"{ack.where}: no rule looks at the slice {ack.slice or ALL!r}.")
        columns = _fitting(ack, checked, "no rule checks")
        if ack.expires < today:
            notes.append(f"{ack.where}: the acknowledgement expired on {ack.expires} and no longer counts ({ack.reason})")
        else:
            known.update({(column, ack.slice): ack for column in columns})
    return known, notes
