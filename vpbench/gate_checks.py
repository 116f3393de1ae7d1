"""The checks of a gate: one column on one slice of the clips, measured on both sides, then judged all together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.gate_rules import Acknowledged, Rule
from vpbench.results import Cell, Summary, Values, clip_mean
from vpbench.slices import ALL
from vpbench.statistics import Paired, holm, paired, paired_sets

WORST = 3  # clips that a regression names
SLACK = 1e-12  # share of a value that float64 arithmetic may have added to a drop
CSV_DIGITS = 10  # significant ones, of a value in leaderboard.csv
Status = Literal["pass", "regression", "acknowledged", "inconclusive", "skipped"]


@dataclass(frozen=True)
class ClipDrop:
    """A clip in a check: both values and the drop, positive where the candidate is worse."""

    clip: str
    baseline: float
    candidate: float
    drop: float


@dataclass(frozen=True)
class Check:
    """One column on one slice; numbers are in the metric's own unit and nan where there are none.

    Attributes:
        slice: empty for all clips.
        status: ``acknowledged`` is a drop that would regress and is accepted for now; ``skipped`` is a column that neither side has.
        reason: why there is no verdict, or what was acknowledged.
        test: ``paired`` or ``none``.
        tolerance: the drop that is accepted.
        limit: the tolerance as the rules have it.
        drop: positive where the candidate is worse.
        low: lower end of the drop's 95 % t interval.
        p: one-sided, of "the drop is at most the tolerance".
        p_holm: the same after Holm's correction; it is compared with ``alpha``.
        n: clips that both have.
        worst: clips with the largest drops, worst first; empty for set metrics.
    """

    column: str
    slice: str = ""
    unit: str = ""
    direction: str = ""
    status: Status = "inconclusive"
    reason: str = ""
    test: str = "paired"
    tolerance: float = math.nan
    limit: str = ""
    alpha: float = math.nan
    baseline: float = math.nan
    candidate: float = math.nan
    drop: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    n: int = 0
    worst: tuple[ClipDrop, ...] = ()

    @property
    def name(self) -> str:
        """The column, and the slice where it is not all clips."""
        return f"{self.column} on {self.slice}" if self.slice else self.column

    @property
    def unproven(self) -> bool:
        """Whether it passes although the value dropped by more than the tolerance, because the test is not sure of it."""
        return self.status == "pass" and self.test == "paired" and self.drop > self.tolerance + _slack(self.baseline, self.candidate)


@dataclass(frozen=True)
class Measured:
    """A check without its status.

    Attributes:
        exceeds: without a test: whether the drop is beyond the tolerance.
        exceeds_accepted: whether it is beyond the acknowledged drop, too.
        p_accepted: one-sided p of "the drop is at most the tolerance or what was acknowledged, whichever is more".
    """

    check: Check
    exceeds: bool = False
    exceeds_accepted: bool = False
    p_accepted: float = math.nan
    ack: Acknowledged | None = None

    @property
    def conclusive(self) -> bool:
        """Whether there is something to judge."""
        return not self.check.reason and self.check.status == "inconclusive"


def decide(measured: Sequence[Measured]) -> list[Check]:
    """Verdicts of all checks together: Holm's correction counts every test of the gate."""
    tested = [m.conclusive and m.check.test == "paired" for m in measured]
    adjusted = holm([m.check.p if used else math.nan for m, used in zip(measured, tested, strict=True)])
    accepted = holm([m.p_accepted if used else math.nan for m, used in zip(measured, tested, strict=True)])
    checks = []
    for m, used, p, p_accepted in zip(measured, tested, adjusted, accepted, strict=True):
        check = dataclasses.replace(m.check, p_holm=p)
        if m.conclusive:
            drops = p < check.alpha if used else m.exceeds
            still = p_accepted < check.alpha if used else m.exceeds_accepted
            check = _told(check, drops, still, m.ack)
        checks.append(check)
    return checks


def _told(check: Check, drops: bool, beyond_accepted: bool, ack: Acknowledged | None) -> Check:
    if ack is None or not drops:
        return dataclasses.replace(check, status="regression" if drops else "pass")
    until = f"a drop of {ack.drop:g} until {ack.expires} ({ack.reason})"
    if beyond_accepted:
        return dataclasses.replace(check, status="regression", reason=f"more than acknowledged: {until}")
    return dataclasses.replace(check, status="acknowledged", reason=f"acknowledged: {until}")


def measure(rule: Rule, column: str, baseline: Summary, candidate: Summary, ack: Acknowledged | None) -> Measured:
    """Compare a column of two results that were measured on the same data and cut down to the rule's slice."""
    b, c = baseline.cell(column), candidate.cell(column)
    head = b or c
    check = Check(column, rule.slice, test=rule.test, limit=rule.tolerance, alpha=rule.alpha)
    if rule.slice and not (baseline.clips and candidate.clips):
        return Measured(dataclasses.replace(check, reason=_empty_slice(rule, baseline, candidate)))
    assert head is not None  # columns of a plan are those of the two sides
    check = dataclasses.replace(check, unit=head.unit, direction=head.direction)
    gone = _gone(b), _gone(c)
    if all(gone) and not rule.exact:
        return Measured(dataclasses.replace(check, status="skipped", reason=f"neither side has it: {gone[1]}"))
    if any(gone):
        sides = [f"{side}: {why}" for side, why in zip(("the baseline", "the candidate"), gone, strict=True) if why]
        return Measured(dataclasses.replace(check, reason="; ".join(sides)))
    assert b is not None
    assert c is not None
    if b.signature != c.signature:
        reason = f"other signature: {b.signature} in the baseline, {c.signature} in the candidate"
        return Measured(dataclasses.replace(check, reason=reason))
    if b.average != "set" and not (len(b.clips) and len(c.clips)):
        pair = _values(b, c)
    elif b.average == "set":
        pair = _sets(b, c, baseline.clips == candidate.clips)
    else:
        pair = _clips(b, c, baseline, candidate)
    if isinstance(pair, str):
        return Measured(dataclasses.replace(check, reason=pair))
    return _compare(check, pair, rule, ack)


def _empty_slice(rule: Rule, baseline: Summary, candidate: Summary) -> str:
    if baseline.clips or candidate.clips:
        return f"only the {'baseline' if baseline.clips else 'candidate'} has values per clip in {rule.slice}"
    return f"no clip is in {rule.slice}"


def _gone(cell: Cell | None) -> str:
    """Why a column has no value that could be compared; empty when it has one."""
    if cell is None:
        return "does not have this column"
    if cell.absent:
        return cell.absent
    if cell.unranked:
        return f"not comparable: {cell.unranked}"
    if cell.value is None and not np.isfinite(cell.clips).any():
        return "undefined" + (f": {cell.excluded[0][1]}" if cell.excluded else "")
    return ""


@dataclass(frozen=True)
class _Pair:
    """Two sides of a column, brought to the same clips.

    Attributes:
        gain: compares the candidate with a multiple of the baseline; positive where the candidate is better.
        n: clips behind the values.
    """

    baseline: float
    candidate: float
    higher: bool
    n: int
    gain: Callable[[float], Paired]
    worst: tuple[ClipDrop, ...] = ()


def _compare(check: Check, pair: _Pair, rule: Rule, ack: Acknowledged | None) -> Measured:
    sign = 1 if pair.higher else -1
    gain = pair.gain(1.0)
    slack = _slack(pair.baseline, pair.candidate)
    tolerance = rule.absolute + rule.relative * abs(pair.baseline)
    low, high = gain.interval()
    check = dataclasses.replace(
        check,
        tolerance=tolerance,
        baseline=pair.baseline,
        candidate=pair.candidate,
        drop=-gain.difference + 0.0,
        low=-high + 0.0,
        high=-low + 0.0,
        n=pair.n,
        worst=pair.worst,
    )
    accepted = tolerance if ack is None else max(tolerance, ack.drop)
    if rule.test == "none":
        return Measured(check, check.drop > tolerance + slack, check.drop > accepted + slack, ack=ack)
    # A relative tolerance is tested against that share of every clip's own value, so its noise is part of the test.
    share = 1 - sign * math.copysign(rule.relative, pair.baseline)
    p = pair.gain(share).p_below(-rule.absolute - slack)
    if math.isnan(p):
        few = "one clip: no test over clips is possible" if pair.n == 1 else "no values per clip: no test over clips is possible"
        return Measured(dataclasses.replace(check, reason=f"{few}; a rule with `test: none` compares the values alone"))
    p_accepted = p if ack is None else max(p, gain.p_below(-ack.drop - slack))
    return Measured(dataclasses.replace(check, p=p), p_accepted=p_accepted, ack=ack)


def _slack(baseline: float, candidate: float) -> float:
    return SLACK * max(abs(baseline), abs(candidate))


def _values(b: Cell, c: Cell) -> _Pair | str:
    """Nothing but the values over all clips, as in a leaderboard's row: they are compared with its digits."""
    if b.value is None or c.value is None:
        return "undefined on one side"
    if b.n != c.n:
        return f"the baseline's value is over {b.n} clips, the candidate's over {c.n}"
    one, other = (float(f"{value:.{CSV_DIGITS}g}") for value in (c.value, b.value))
    sign = 1 if b.direction == "higher" else -1
    return _Pair(other, one, sign > 0, c.n, lambda share: Paired(c.n, sign * (one - share * other), math.nan))


def _sets(b: Cell, c: Cell, same_clips: bool) -> _Pair | str:
    if not same_clips:
        return "a set metric can only be compared over the same clips"
    if b.value is None or c.value is None:
        return "undefined on one side"
    if not np.array_equal(np.isfinite(b.without), np.isfinite(c.without)) or b.n != c.n:
        return "the set metric is undefined on other clips"
    one, other, sign = c.value, b.value, 1 if b.direction == "higher" else -1
    without = (c.without, b.without) if len(b.without) else (np.full(1, math.nan),) * 2

    def gain(share: float) -> Paired:
        return paired_sets(sign * one, sign * share * other, sign * without[0], sign * share * without[1])

    return _Pair(other, one, sign > 0, b.n, gain)


def _clips(b: Cell, c: Cell, baseline: Summary, candidate: Summary) -> _Pair | str:
    theirs = set(candidate.clips)
    names = [name for name in baseline.clips if name in theirs]
    if baseline.slice != ALL and baseline.clips != candidate.clips:
        return f"the two sides have other clips in {baseline.slice}"
    if not names:
        return "no common clips"
    (vb, wb), (vc, wc) = _aligned(b, baseline, names), _aligned(c, candidate, names)
    if lost := _where(np.isnan(vb) != np.isnan(vc), names):
        return f"undefined on one side only for {lost}"
    if infinite := _where(np.isinf(vb) | np.isinf(vc), names):
        return f"infinite for {infinite}, so the mean is"
    used = np.isfinite(vb)
    if wb is not None and wc is not None and (other := _where((wb != wc) & used, names)):
        return f"the frames that count differ for {other}"
    mean_b, mean_c = clip_mean(vb, wb), clip_mean(vc, wb)
    if mean_b is None or mean_c is None:
        return "undefined on every common clip"
    sign = 1 if b.direction == "higher" else -1
    drops = sign * (vb - vc)
    worst = [i for i in np.argsort(-drops, kind="stable")[:WORST] if drops[i] > 0]
    rows = tuple(ClipDrop(names[i], float(vb[i]), float(vc[i]), float(drops[i])) for i in worst)
    return _Pair(mean_b, mean_c, sign > 0, int(used.sum()), lambda share: paired(sign * vc, sign * share * vb, wb), rows)


def _aligned(cell: Cell, summary: Summary, names: Sequence[str]) -> tuple[Values, Values | None]:
    """The values and weights of some clips."""
    place = {name: index for index, name in enumerate(summary.clips)}
    index = [place[name] for name in names]
    return cell.clips[index], None if cell.weights is None else cell.weights[index]


def _where(flags: NDArray[np.bool_], names: Sequence[str]) -> str:
    """The names that are flagged, the first few of them in full; empty for none."""
    found = [name for name, flag in zip(names, flags, strict=True) if flag]
    return ", ".join(found[:WORST]) + (f" and {len(found) - WORST} more" if len(found) > WORST else "")
