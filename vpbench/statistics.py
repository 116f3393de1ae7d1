"""Intervals, paired tests and rank ranges. The clip is the unit: frames of one clip are not independent.

* A mean over clips gets a percentile bootstrap interval (Efron and Tibshirani 1993); all models use the same resamples of the clips.
* A set metric (FVD, KVD) gets a jackknife interval: resampling clips with replacement repeats features, which biases it.
* Two models are compared on the same clips by the paired t-test; weighted means by its linearised form, set metrics by the jackknife of the
  difference. A bootstrap cannot reach the small p that a correction for many pairs needs.

Everything is NumPy and the distribution functions of ``scipy.special``; SciPy's tests agree (``tests/parity/test_statistics_parity.py``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95  # of intervals
ALPHA = 0.05  # of tests
POWER = 0.8  # that the clips a note asks for would give
RESAMPLES = 10_000
SEED = 0
MOST_CLIPS = 1_000_000  # where a note stops counting
MOST_RESAMPLED = 5000  # units of a bootstrap; more clips than that are resampled in bins


def resamples(clips: int, count: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Return how often each clip occurs in each resample: (count, clips), rows sum to ``clips``.

    More than ``MOST_RESAMPLED`` clips are resampled in so many bins instead, clip i in bin ``i % MOST_RESAMPLED``: (count, bins). A bin
    is a sample of the clips, so intervals are the same but for what so many units can tell of a deviation (1 %).

    Equal arguments give equal draws with every NumPy: of its generators only ``RandomState`` promises that (NEP 19), and tables kept in
    git must not change with a NumPy.
    """
    units = min(clips, MOST_RESAMPLED)
    return np.random.RandomState(seed).multinomial(units, np.full(units, 1 / units), size=count).astype(np.float64)


def resampled_means(values: Floats, draws: Floats, weights: Floats | None = None) -> Floats:
    """Return the mean of each column in each resample; equal columns give equal bits.

    Args:
        values: (clips, columns); nan where a clip has no value, it then takes no part.
        draws: (count, clips) or (count, bins), see ``resamples``.
        weights: (clips, columns) of the clips in the mean (their frames); None for equal ones.

    Returns:
        (columns, count); nan where a resample holds no clip with a value.
    """
    defined = ~np.isnan(values)
    bins = draws.shape[1]
    if weights is None and defined.all() and len(values) == bins:
        unique, inverse = np.unique(values, axis=1, return_inverse=True)  # a matrix product may round equal columns differently
        return ((unique.T @ draws.T) / len(values))[inverse.reshape(-1)]
    weigh = defined.astype(np.float64) if weights is None else np.where(defined, weights, 0.0)
    both = np.concatenate([_binned(np.where(defined, values, 0.0) * weigh, bins), _binned(weigh, bins)])
    unique, inverse = np.unique(both, axis=1, return_inverse=True)
    sums, totals = np.split(unique, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = (sums.T @ draws.T) / (totals.T @ draws.T)
    return means[inverse.reshape(-1)]


def _binned(values: Floats, bins: int) -> Floats:
    """The sums of the rows of each bin: (clips, columns) to (bins, columns)."""
    if len(values) == bins:
        return values
    rounds = -(-len(values) // bins)
    padded = np.zeros((rounds * bins, values.shape[1]))
    padded[: len(values)] = values
    sums: Floats = padded.reshape(rounds, bins, -1).sum(axis=0)
    return sums


def percentile_interval(statistics: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return the lower and upper ends, over the last axis, of a bootstrap's statistics; those that are not finite take no part."""
    outside = 100 * (1 - level) / 2
    finite = np.isfinite(statistics)
    if finite.all():
        low, high = np.percentile(statistics, [outside, 100 - outside], axis=-1)
        return low, high
    rows = statistics.reshape(-1, statistics.shape[-1])
    ends = np.full((2, len(rows)), np.nan)
    for index, row in enumerate(rows):
        if np.isfinite(row).any():
            ends[:, index] = np.percentile(row[np.isfinite(row)], [outside, 100 - outside])
    low, high = ends.reshape(2, *statistics.shape[:-1])
    return low, high


def bootstrap_interval(values: Floats, weights: Floats | None = None, level: float = LEVEL, seed: int = SEED) -> tuple[float, float]:
    """Return the interval of the mean of (clips,) values, nan where a clip has none.

    Returns:
        (nan, nan) for fewer than 2 clips with a value, and where a value is infinite.
    """
    if np.isfinite(values).sum() < 2 or np.isinf(values).any():
        return math.nan, math.nan
    columns = None if weights is None else weights[:, None]
    low, high = percentile_interval(resampled_means(values[:, None], resamples(len(values), seed=seed), columns), level)
    return float(low[0]), float(high[0])


def jackknife_error(without: Floats) -> float:
    """Return the delete-one standard error from the values without each clip; nan for fewer than 2 finite ones.

    >>> round(jackknife_error(np.array([2.5, 2.0, 1.5])), 6)  # the mean of 1, 2, 3
    0.57735
    """
    used = without[np.isfinite(without)]
    if len(used) < 2:
        return math.nan
    return math.sqrt((len(used) - 1) / len(used) * float(((used - used.mean()) ** 2).sum()))


def jackknife_interval(value: float, without: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a set metric: its value and ``t * jackknife_error`` on either side, t with clips - 1 degrees of freedom."""
    from scipy.special import stdtrit

    error = jackknife_error(without)
    half = float(stdtrit(max(np.isfinite(without).sum() - 1, 1), 0.5 + level / 2)) * error
    return value - half, value + half


@dataclass(frozen=True)
class Paired:
    """The difference of two models on the same clips.

    Attributes:
        n: clips that both have.
        difference: the first less the second.
        error: its standard error over clips; nan for fewer than 2 clips.
    """

    n: int
    difference: float
    error: float

    @property
    def deviation(self) -> float:
        """The standard deviation of one clip's difference: ``error * sqrt(n)``."""
        return self.error * math.sqrt(self.n)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The t interval of the difference; (nan, nan) for fewer than 2 clips."""
        from scipy.special import stdtrit

        half = float(stdtrit(max(self.n - 1, 1), 0.5 + level / 2)) * self.error
        return self.difference - half, self.difference + half

    @property
    def p(self) -> float:
        """Two-sided p of "the models do not differ"; nan for fewer than 2 clips."""
        return float(_two_sided(np.array(self.difference), np.array(self.error), self.n))

    def p_below(self, bound: float = 0.0) -> float:
        """One-sided p of "the difference is at least ``bound``": small when it is clearly lower; nan for fewer than 2 clips."""
        from scipy.special import stdtr

        if self.n < 2 or math.isnan(self.error):
            return math.nan
        distance = self.difference - bound
        if self.error == 0:
            return 0.0 if distance < 0 else 1.0
        return float(stdtr(self.n - 1, distance / self.error))


def paired(one: Floats, other: Floats, weights: Floats | None = None) -> Paired:
    """Compare two models by their values per clip.

    Args:
        one: (clips,) values, nan where a clip has none.
        other: (clips,) of the other model, in the same order of clips.
        weights: (clips,) of the clips in both means; None for equal ones.
    """
    d = one - other
    used = np.isfinite(d)
    n = int(used.sum())
    if not n:
        return Paired(0, math.nan, math.nan)
    d = d[used]
    w = np.ones(n) if weights is None else weights[used]
    mean = float((w * d).sum() / w.sum())
    influence = n * w * (d - mean) / w.sum()  # with equal weights the residuals themselves
    error = math.sqrt(float((influence**2).sum()) / (n - 1) / n) if n > 1 else math.nan
    return Paired(n, mean, error)


def paired_sets(one: float, other: float, one_without: Floats, other_without: Floats) -> Paired:
    """Compare two models by a set metric: its values, and those without each clip, in the same order of clips."""
    d = one_without - other_without
    return Paired(int(np.isfinite(d).sum()), one - other, jackknife_error(d))


@dataclass(frozen=True)
class Pairs:
    """Every pair of several models on the same clips; entry [i, j] is model i less model j.

    Attributes:
        n: clips.
        difference: (models, models).
        error: (models, models), its standard error over clips; nan for fewer than 2 clips.
    """

    n: int
    difference: Floats
    error: Floats

    @functools.cached_property
    def p(self) -> Floats:
        """(models, models) two-sided p of "these two do not differ", 1 on the diagonal; nan for fewer than 2 clips."""
        p = _two_sided(self.difference, self.error, self.n)
        np.fill_diagonal(p, 1.0)
        return p

    def intervals(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """The ends of the t interval of each difference; nan for fewer than 2 clips."""
        from scipy.special import stdtrit

        half = float(stdtrit(max(self.n - 1, 1), 0.5 + level / 2)) * self.error
        return self.difference - half, self.difference + half

    def pair(self, one: int, other: int) -> Paired:
        """The comparison of two of the models."""
        return Paired(self.n, float(self.difference[one, other]), float(self.error[one, other]))


def pairs(values: Floats, weights: Floats | None = None) -> Pairs:
    """Compare every pair of models by their values per clip: ``paired`` of each.

    Args:
        values: (clips, models), finite: all models on the same clips.
        weights: (clips, models) of the clips in the means; None for equal ones.
    """
    w = np.ones_like(values) if weights is None else weights
    means = (w * values).sum(axis=0) / w.sum(axis=0)
    return _pairs(means, len(values) * w * (values - means) / w.sum(axis=0))


def pairs_of_sets(values: Floats, without: Floats) -> Pairs:
    """Compare every pair of models by a set metric: ``paired_sets`` of each.

    Args:
        values: (models,).
        without: (clips, models), finite: the values without each clip.
    """
    return _pairs(values, (len(without) - 1) * (without - without.mean(axis=0)))


def _pairs(values: Floats, influence: Floats) -> Pairs:
    """From what each clip adds to each model's value: (clips, models), which sum to 0."""
    n, models = influence.shape
    if n < 2:
        return Pairs(n, values[:, None] - values, np.full((models, models), np.nan))
    rows = np.ascontiguousarray(influence.T)
    error = np.array([np.sqrt(np.square(rows - row).sum(axis=1) / (n - 1) / n) for row in rows])
    return Pairs(n, values[:, None] - values, error)


def _two_sided(difference: Floats, error: Floats, n: int) -> Floats:
    from scipy.special import stdtr

    if n < 2:
        return np.full(np.shape(difference), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.abs(difference) / error
    p: Floats = 2 * stdtr(n - 1, -t)
    return np.where(error == 0, np.where(difference == 0, 1.0, 0.0), p)


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values (1979), in the order given; nan stays and does not count as a test.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    tests = sorted((value, index) for index, value in enumerate(p) if not math.isnan(value))
    adjusted = [math.nan] * len(p)
    largest = 0.0
    for done, (value, index) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - done) * value))
        adjusted[index] = largest
    return adjusted


def neighbours_apart(p: Floats, alpha: float = ALPHA) -> list[bool]:
    """Return of each pair of neighbours (1st and 2nd, 2nd and 3rd, ...) whether they differ, by Holm's correction over all these pairs.

    Args:
        p: (models, models) two-sided p of the pairs, models in the order of their values; nan counts as no evidence.
    """
    steps = holm([float(p[i, i + 1]) for i in range(len(p) - 1)])
    return [not math.isnan(step) and step < alpha for step in steps]


def rank_ranges(p: Floats, alpha: float = ALPHA) -> list[tuple[int, int]]:
    """Return the ranks that each model may have, best first, from 1.

    A model's range reaches as far as no neighbours between are apart (``neighbours_apart``) and neither is it apart from the model
    there by its own p, corrected as strictly as the first step of Holm's.

    Args:
        p: (models, models) two-sided p of the pairs, models in the order of their values; nan counts as no evidence.

    >>> rank_ranges(np.array([[1, 0.4, 1e-6], [0.4, 1, 1e-6], [1e-6, 1e-6, 1]]))
    [(1, 2), (1, 2), (3, 3)]
    """
    models = len(p)
    apart = neighbours_apart(p, alpha)
    tests = max(models - 1, 1)

    def reach(start: int, direction: int) -> int:
        here = start
        while 0 <= here + direction < models:
            step = min(here, here + direction)
            if apart[step] or p[start, here + direction] * tests < alpha:
                break
            here += direction
        return here + 1

    return [(reach(i, -1), reach(i, 1)) for i in range(models)]


def competition_ranks(values: Floats) -> Floats:
    """Return the ranks of each row's values, the smallest first, from 1; ties share the best (1, 1, 3). Shape as given: (rows, models).

    >>> competition_ranks(np.array([[0.5, 0.1, 0.1]]))
    array([[3., 1., 1.]])
    """
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    position = np.broadcast_to(np.arange(1.0, values.shape[1] + 1), values.shape).copy()
    position[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    ranks = np.empty_like(position)
    np.put_along_axis(ranks, order, np.maximum.accumulate(position, axis=1), axis=1)
    return ranks


def power(clips: int, difference: float, deviation: float, alpha: float = ALPHA, sides: int = 2) -> float:
    """Return the chance that the paired t-test on ``clips`` clips sees a true ``difference`` (noncentral t; the wrong side not counted)."""
    from scipy.special import nctdtr, stdtrit

    if clips < 2:
        return 0.0
    critical = float(stdtrit(clips - 1, 1 - alpha / sides))
    return float(1 - nctdtr(clips - 1, abs(difference) / deviation * math.sqrt(clips), critical))


def clips_needed(difference: float, deviation: float, alpha: float = ALPHA, wanted: float = POWER) -> int | None:
    """Return the fewest clips with which the two-sided paired t-test sees ``difference`` with probability ``wanted``.

    Args:
        difference: in the metric's unit.
        deviation: standard deviation of one clip's difference.
        alpha: of the test.
        wanted: the power, below 1.

    Returns:
        None where it would be more than a million, or nothing is known (no difference, no deviation).

    >>> clips_needed(0.5, 1.0)
    34
    """
    if not (math.isfinite(difference) and math.isfinite(deviation)) or difference == 0 or deviation == 0:
        return None
    return _first(lambda n: power(n, difference, deviation, alpha) >= wanted)


def _first(enough: Callable[[int], bool]) -> int | None:
    """The smallest n of 2 or more that is enough, where more is never worse; None beyond ``MOST_CLIPS``."""
    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_CLIPS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
