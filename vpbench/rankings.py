"""What the values of one table say about the order of its rows: intervals, ranks, and what lies inside the noise.

The clip is the unit. Rows of a table that have the same clips are resampled with the same draws. Columns compare rows by the paired
t-test on the clips they share, set metrics by the jackknife of their difference (``vpbench.statistics``); Holm's correction is over
neighbours.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vpbench import statistics
from vpbench.results import Cell, Summary, Values
from vpbench.statistics import ALPHA, Pairs

Interval = tuple[float, float]
Range = tuple[int, int]
Basis = tuple[str, tuple[str, ...]]  # of a cell: its signature and the clips it leaves out


@dataclass(frozen=True)
class Clips:
    """The clips that some rows share, and their resamples.

    Attributes:
        names: of the clips.
    """

    names: tuple[str, ...]

    @functools.cached_property
    def draws(self) -> Values:
        """See ``statistics.resamples``."""
        return statistics.resamples(len(self.names))


def intervals(summaries: Sequence[Summary], clips: Clips) -> list[dict[str, Interval]]:
    """The 95 % interval of each cell, by row and column; no entry where fewer than two clips have a value, or none is stored per clip.

    Args:
        summaries: rows that have all these clips and no others.
        clips: their resamples.
    """
    found: list[dict[str, Interval]] = [{} for _ in summaries]
    for column in dict.fromkeys(cell.column for summary in summaries for cell in summary.cells):
        rows, values, weights = [], [], []
        weighted = False
        for index, summary in enumerate(summaries):
            cell = summary.cell(column)
            if cell is None or cell.value is None:
                continue
            if np.isfinite(cell.without).sum() > 1:
                found[index][column] = statistics.jackknife_interval(cell.value, cell.without)
            elif np.isfinite(cell.clips).sum() > 1:
                rows.append(index)
                values.append(cell.clips)
                weights.append(np.ones(len(cell.clips)) if cell.weights is None else cell.weights)
                weighted = weighted or cell.weights is not None
        if rows:
            means = statistics.resampled_means(np.column_stack(values), clips.draws, np.column_stack(weights) if weighted else None)
            low, high = statistics.percentile_interval(means)
            for index, ends in zip(rows, zip(low.tolist(), high.tolist(), strict=True), strict=True):
                found[index][column] = ends
    return found


@dataclass(frozen=True)
class ColumnRanking:
    """One column among the rows that agree on its signature and on the clips it leaves out.

    Attributes:
        cell: one of its cells, for what they share.
        rows: positions of the rows, best first.
        ranks: of these rows, in the same order; ties share the best rank (1, 1, 3).
        pairs: their differences, in the same order; None where values per clip are not stored.
    """

    cell: Cell
    rows: tuple[int, ...]
    ranks: tuple[int, ...]
    pairs: Pairs | None = field(default=None, compare=False, repr=False)

    @functools.cached_property
    def ranges(self) -> tuple[Range, ...]:
        """The ranks that each row may have within the noise; empty where nothing is known."""
        return () if self.pairs is None else tuple(statistics.rank_ranges(self.pairs.p))

    @property
    def alpha(self) -> float:
        """What a pair of neighbours is tested at when it is the first of all to be told apart."""
        return ALPHA / max(len(self.rows) - 1, 1)

    def first_inside_noise(self) -> int | None:
        """The position, in ``rows``, of the best row that is not told apart from the next one although their values differ."""
        if self.pairs is None or self.pairs.n < 2:
            return None
        for index, apart in enumerate(statistics.neighbours_apart(self.pairs.p)):
            if not apart and self.pairs.difference[index, index + 1] != 0:
                return index
        return None


def rank_column(summaries: Sequence[Summary], column: str) -> ColumnRanking | None:
    """Rank the rows with the usual signature and clips of a column, all of the same clips; None where no row has a value to rank."""
    cells = {index: cell for index, s in enumerate(summaries) if (cell := s.cell(column)) and cell.value is not None and not cell.unranked}
    if not cells:
        return None
    bases = {index: basis(cell) for index, cell in cells.items()}
    usual = most_usual(list(bases.values()))
    alike = [index for index in cells if bases[index] == usual]
    values = np.array([cells[index].value for index in alike])
    sample = cells[alike[0]]
    ranks = statistics.competition_ranks(-values[None] if sample.direction == "higher" else values[None])[0].astype(int)
    order = np.argsort(ranks, kind="stable")
    rows = [alike[position] for position in order]
    pairs = _pairs([cells[row] for row in rows])
    return ColumnRanking(sample, tuple(rows), tuple(ranks[order].tolist()), pairs)


def basis(cell: Cell) -> Basis:
    """What two cells must share to be ranked together."""
    return (cell.signature, tuple(clip for clip, _ in cell.excluded))


def most_usual(bases: Sequence[Basis]) -> Basis:
    """The basis that most cells have; of several, the one that leaves out the fewest clips."""
    counts = Counter(bases)
    return min(counts, key=lambda one: (-counts[one], len(one[1]), one))


def _pairs(cells: Sequence[Cell]) -> Pairs | None:
    sets = cells[0].average == "set"
    if not all(len(cell.without if sets else cell.clips) for cell in cells):
        return None
    values = np.column_stack([cell.without if sets else cell.clips for cell in cells])
    used = np.isfinite(values).all(axis=1)
    if not used.any():
        return None
    if sets:
        return statistics.pairs_of_sets(np.array([cell.value for cell in cells]), values[used])
    weights = None
    if cells[0].weights is not None:
        weights = np.column_stack([cell.frames for cell in cells])[used]
    return statistics.pairs(values[used], weights)


@dataclass(frozen=True)
class MeanRank:
    """The mean rank of every row, over the columns that count.

    Attributes:
        means: per row.
        intervals: per row; empty for fewer than two clips, and where no values per clip are stored.
        places: the places by mean rank that 95 % of the resamples give, per row; all of them for one clip; empty where none are stored.
    """

    means: tuple[float, ...]
    intervals: tuple[Interval, ...] = ()
    places: tuple[Range, ...] = ()


def mean_rank(summaries: Sequence[Summary], counted: Sequence[ColumnRanking], clips: Clips) -> MeanRank:
    """Average the ranks of the columns in which every row is ranked, and repeat that with resampled clips.

    A set metric cannot be resampled: it keeps its rank in every resample. Intervals and ranges hold the value itself.
    """
    models = len(summaries)
    point = np.zeros(models)
    for ranking in counted:
        point[list(ranking.rows)] += ranking.ranks
    point /= len(counted)
    means = tuple(point.tolist())
    stored = any(len(ranking.cell.clips) for ranking in counted)
    if models < 2 or len(clips.names) < 2:
        return MeanRank(means, places=((1, models),) * models if stored and models > 1 else ())
    total = np.zeros((len(clips.draws), models))
    moved = False
    for ranking in counted:
        order = list(ranking.rows)
        cells = [cell for row in order if (cell := summaries[row].cell(ranking.cell.column))]
        if not all(len(cell.clips) for cell in cells):
            total[:, order] += ranking.ranks
            continue
        values = np.column_stack([cell.clips for cell in cells])
        weights = None if ranking.cell.weights is None else np.column_stack([cell.frames for cell in cells])
        resampled = statistics.resampled_means(values, clips.draws, weights)
        ranks = statistics.competition_ranks((-resampled if ranking.cell.direction == "higher" else resampled).T)
        ranks[np.isnan(resampled).any(axis=0)] = np.nan  # no clip of this resample has a value
        total[:, order] += ranks
        moved = True
    total = total[~np.isnan(total).any(axis=1)] / len(counted)
    if not moved or len(total) < 2:
        return MeanRank(means)
    low, high = statistics.percentile_interval(total.T)
    best, worst = statistics.competition_ranks(total), models + 1 - statistics.competition_ranks(-total)
    outside = 100 * (1 - statistics.LEVEL) / 2
    places = np.stack(
        [
            np.minimum(np.percentile(best, outside, axis=0, method="lower"), statistics.competition_ranks(point[None])[0]),
            np.maximum(
                np.percentile(worst, 100 - outside, axis=0, method="higher"), models + 1 - statistics.competition_ranks(-point[None])[0]
            ),
        ]
    ).astype(int)
    ends = zip(np.minimum(low, point).tolist(), np.maximum(high, point).tolist(), strict=True)
    return MeanRank(means, tuple(ends), tuple(map(tuple, places.T.tolist())))
