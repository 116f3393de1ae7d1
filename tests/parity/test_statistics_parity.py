"""Intervals and tests against SciPy and statsmodels, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from vpbench import statistics

N = 45


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def models(rng: np.random.Generator, count: int = 4) -> NDArray[np.float64]:
    """(clips, models): hard and easy clips, models that differ a little."""
    return 25 + rng.normal(0, 4, (N, 1)) + rng.normal(0, 1, (N, count)) + 0.3 * np.arange(count)


class TestBootstrap:
    def test_ends_are_scipys_on_the_same_resamples(self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
        """SciPy draws positions of clips; handed to us as counts, the same draws give the same interval."""
        values = models(rng, 1)[:, 0]
        expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=999, method="percentile", random_state=np.random.default_rng(9))
        positions = np.random.default_rng(9).integers(0, N, (999, N))
        draws = np.array([np.bincount(row, minlength=N) for row in positions], dtype=float)
        monkeypatch.setattr(statistics, "resamples", lambda clips, seed: draws)
        found = statistics.bootstrap_interval(values)
        assert found == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)

    def test_ends_are_scipys_within_the_error_of_resampling(self, rng: np.random.Generator) -> None:
        values = rng.exponential(2, N)
        expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=100_000, method="percentile", random_state=rng, batch=1000)
        low, high = statistics.bootstrap_interval(values)
        error = values.std() / np.sqrt(N)
        assert low == pytest.approx(expected.confidence_interval.low, abs=0.1 * error)
        assert high == pytest.approx(expected.confidence_interval.high, abs=0.1 * error)


class TestPairedTests:
    def test_p_and_interval_are_scipys(self, rng: np.random.Generator) -> None:
        values = models(rng)
        found = statistics.pairs(values)
        for i, j in ((0, 1), (3, 0)):
            expected = scipy.stats.ttest_rel(values[:, i], values[:, j])
            assert found.p[i, j] == pytest.approx(expected.pvalue, rel=1e-9)
            pair = statistics.paired(values[:, i], values[:, j])
            assert pair.p == pytest.approx(expected.pvalue, rel=1e-9)
            ends = expected.confidence_interval(0.95)
            assert pair.interval() == pytest.approx((ends.low, ends.high), rel=1e-9)

    @pytest.mark.parametrize("bound", [0.0, -0.1, 0.4])
    def test_the_one_sided_test_against_a_tolerance_is_scipys(self, rng: np.random.Generator, bound: float) -> None:
        values = models(rng)
        expected = scipy.stats.ttest_1samp(values[:, 0] - values[:, 1], bound, alternative="less")
        assert statistics.paired(values[:, 0], values[:, 1]).p_below(bound) == pytest.approx(expected.pvalue, rel=1e-9)

    def test_clips_that_one_lacks_take_no_part(self, rng: np.random.Generator) -> None:
        one, other = models(rng, 2).T
        one[3] = np.nan
        expected = scipy.stats.ttest_rel(one, other, nan_policy="omit")
        assert statistics.paired(one, other).p == pytest.approx(expected.pvalue, rel=1e-9)

    def test_the_weighted_mean_of_equal_weights_is_the_plain_one(self, rng: np.random.Generator) -> None:
        one, other = models(rng, 2).T
        expected = DescrStatsW(one - other).ttest_mean(0)[1]
        assert statistics.paired(one, other, np.full(N, 49.0)).p == pytest.approx(expected, rel=1e-9)

    def test_the_error_of_a_weighted_mean_is_that_of_simulation(self, rng: np.random.Generator) -> None:
        """Clips of unequal length: the clips are drawn anew each time, and with each its length."""

        def draw() -> statistics.Paired:
            frames = rng.integers(20, 200, N).astype(float)
            return statistics.paired(rng.normal(0.5, 1, N) + frames / 100, np.zeros(N), frames)

        found = [draw() for _ in range(3000)]
        spread = np.std([pair.difference for pair in found])
        assert np.mean([pair.error for pair in found]) == pytest.approx(spread, rel=0.05)


class TestSetMetrics:
    def test_the_jackknife_of_a_mean_is_the_t_interval(self, rng: np.random.Generator) -> None:
        values = models(rng, 1)[:, 0]
        low, high = statistics.jackknife_interval(values.mean(), (values.sum() - values) / (N - 1))
        assert (low, high) == pytest.approx(scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95), rel=1e-9)

    def test_differences_of_means_are_the_paired_t_test(self, rng: np.random.Generator) -> None:
        values = models(rng)
        found = statistics.pairs_of_sets(values.mean(axis=0), (values.sum(axis=0) - values) / (N - 1))
        assert found.p[0, 3] == pytest.approx(scipy.stats.ttest_rel(values[:, 0], values[:, 3]).pvalue, rel=1e-6)

    def test_it_is_the_spread_of_a_distance_between_sets(self, rng: np.random.Generator) -> None:
        """The error of a squared distance of means (the first part of FVD), against many sets; plain resampling is biased upwards."""

        def distance(x: NDArray[np.float64]) -> NDArray[np.float64]:
            sums = x.sum(axis=-2, keepdims=True)
            without = (sums - x) / (x.shape[-2] - 1)
            return np.concatenate([np.square(x.mean(axis=-2, keepdims=True)), np.square(without)], axis=-2).sum(axis=-1)

        found = np.array([distance(rng.normal(0.5, 1, (100, 8))) for _ in range(2000)])
        errors = [statistics.jackknife_error(row[1:]) for row in found]
        assert np.mean(errors) == pytest.approx(found[:, 0].std(), rel=0.05)
        sample = rng.normal(0.5, 1, (100, 8))
        resampled = [np.square(sample[rng.integers(0, 100, 100)].mean(axis=0)).sum() for _ in range(2000)]
        bias = np.mean(resampled) - np.square(sample.mean(axis=0)).sum()
        assert bias == pytest.approx(8 / 100, abs=0.03)  # dimensions / clips: what makes the plain bootstrap invalid here


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_holm_is_statsmodels(rng: np.random.Generator, count: int) -> None:
    p = rng.uniform(0, 1, count) ** 3
    np.testing.assert_allclose(statistics.holm(p.tolist()), multipletests(p, method="holm")[1], rtol=1e-12)


class TestPower:
    @pytest.mark.parametrize("clips", [3, 10, 45, 300])
    @pytest.mark.parametrize("difference", [0.1, 0.5, 2.0])
    def test_two_sided_and_one_sided_power_are_statsmodels(self, clips: int, difference: float) -> None:
        larger = TTestPower().power(difference / 1.3, clips, 0.05, alternative="larger")
        assert statistics.power(clips, difference, 1.3, sides=1) == pytest.approx(larger, abs=1e-8)
        half = TTestPower().power(difference / 1.3, clips, 0.025, alternative="larger")  # the wrong side of a two-sided test not counted
        assert statistics.power(clips, difference, 1.3) == pytest.approx(half, abs=1e-8)

    @pytest.mark.parametrize("effect", [0.1, 0.3, 1.0])
    @pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
    def test_the_clips_needed_are_statsmodels(self, effect: float, alpha: float) -> None:
        exact = TTestPower().solve_power(effect, power=0.8, alpha=alpha)
        assert statistics.clips_needed(effect, 1.0, alpha) == int(np.ceil(float(exact)))

    def test_a_difference_of_half_a_decibel_on_45_clips_is_caught_as_often_as_theory_says(self, rng: np.random.Generator) -> None:
        caught = np.mean([statistics.paired(rng.normal(-0.5, 1, N), np.zeros(N)).p_below() < 0.05 for _ in range(2000)])
        assert caught == pytest.approx(statistics.power(N, 0.5, 1.0, sides=1), abs=0.03)


class TestSimulation:
    """2,000 made-up experiments with 45 clips."""

    def test_the_t_interval_of_a_difference_covers_it_in_95_percent(self, rng: np.random.Generator) -> None:
        ends = [statistics.paired(rng.normal(0.2, 1, N), np.zeros(N)).interval() for _ in range(2000)]
        assert np.mean([low <= 0.2 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.015)

    def test_a_test_of_no_difference_is_wrong_in_5_percent(self, rng: np.random.Generator) -> None:
        wrong = np.mean([statistics.paired(rng.normal(0, 1, N), np.zeros(N)).p < 0.05 for _ in range(2000)])
        assert wrong == pytest.approx(0.05, abs=0.015)

    def test_the_bootstrap_interval_is_a_little_short_of_95_percent(self, rng: np.random.Generator) -> None:
        """Skewed values, as per-clip errors are: the bounds that docs/statistics.md states."""
        draws = statistics.resamples(N, 1000)
        for values, truth in ((rng.normal(0, 1, (N, 2000)), 0.0), (rng.exponential(1, (N, 2000)), 1.0)):
            low, high = statistics.percentile_interval(statistics.resampled_means(values, draws))
            assert 0.91 < np.mean((low <= truth) & (truth <= high)) < 0.955
