"""Properties that intervals, tests and rank ranges must have; agreement with SciPy and statsmodels is in ``parity/``."""

from __future__ import annotations

import doctest
import importlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vpbench import statistics
from vpbench.statistics import Paired

VALUES = arrays.arrays(np.float64, st.integers(2, 30), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("name", ["statistics", "slices", "submissions", "table_text"])
def test_the_examples_of_the_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"vpbench.{name}"))
    assert found.attempted
    assert not found.failed


def test_importing_loads_no_scipy() -> None:
    code = "import sys, vpbench.statistics; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


class TestResamples:
    def test_each_draws_as_many_clips_as_there_are(self) -> None:
        draws = statistics.resamples(7, 50)
        assert draws.shape == (50, 7)
        assert set(draws.sum(axis=1)) == {7.0}

    def test_equal_seeds_give_equal_draws_and_others_do_not(self) -> None:
        np.testing.assert_array_equal(statistics.resamples(7, 50, seed=1), statistics.resamples(7, 50, seed=1))
        assert (statistics.resamples(7, 50, seed=1) != statistics.resamples(7, 50, seed=2)).any()

    def test_they_are_the_same_with_every_numpy(self) -> None:
        """Tables in git depend on them: these draws were written down once."""
        assert statistics.resamples(5, 3).tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 2, 0], [3, 0, 1, 1, 0]]


class TestIntervals:
    @given(VALUES)
    def test_the_interval_lies_between_the_extremes(self, values: np.ndarray) -> None:
        low, high = statistics.bootstrap_interval(values)
        slack = 1e-9 * max(1, np.abs(values).max())
        assert values.min() - slack <= low <= high <= values.max() + slack

    @given(VALUES, st.floats(-50, 50), st.sampled_from([0.5, 2.0, 8.0]))
    def test_it_moves_and_stretches_with_the_values(self, values: np.ndarray, shift: float, factor: float) -> None:
        low, high = statistics.bootstrap_interval(values)
        moved = statistics.bootstrap_interval(values * factor + shift)
        assert moved == pytest.approx((low * factor + shift, high * factor + shift), abs=1e-6)

    def test_clips_without_a_value_take_no_part(self) -> None:
        with_gaps = np.array([1.0, np.nan, 2.0, 4.0, np.nan])
        means = statistics.resampled_means(with_gaps[:, None], np.array([[1, 4, 0, 0, 0], [0, 3, 1, 1, 0], [0, 4, 0, 0, 1.0]]))
        np.testing.assert_array_equal(means, [[1.0, 3.0, np.nan]])
        low, high = statistics.bootstrap_interval(with_gaps)
        assert 1 <= low < high <= 4

    def test_frames_weigh(self) -> None:
        draws = np.array([[1.0, 1.0], [2.0, 0.0]])
        means = statistics.resampled_means(np.array([[1.0], [5.0]]), draws, np.array([[1.0], [3.0]]))
        np.testing.assert_array_equal(means, [[4.0, 1.0]])

    def test_many_clips_are_resampled_in_bins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        values, weights = rng.normal(3, 2, 4321), rng.integers(1, 90, 4321).astype(float)
        values[::7] = np.nan
        alone = statistics.bootstrap_interval(values, weights)
        monkeypatch.setattr(statistics, "MOST_RESAMPLED", 1000)
        assert statistics.resamples(4321, 5).shape == (5, 1000)
        low, high = statistics.bootstrap_interval(values, weights)
        assert (low, high) == pytest.approx(alone, abs=0.05 * (high - low))
        mean = np.nansum(values * weights) / weights[~np.isnan(values)].sum()
        ones = statistics.resampled_means(values[:, None], np.ones((1, 1000)), weights[:, None])
        assert ones.item() == pytest.approx(mean, rel=1e-12), "every clip is in one bin"

    def test_equal_columns_give_equal_bits(self) -> None:
        values = np.random.default_rng(0).normal(size=(37, 1)) * [[1.0] * 50]
        means = statistics.resampled_means(values, statistics.resamples(37, 200))
        assert len(np.unique(means, axis=0)) == 1

    @pytest.mark.parametrize("values", [[], [3.0], [3.0, np.nan], [3.0, 4.0, np.inf]])
    def test_nothing_is_said_where_nothing_is_known(self, values: list[float]) -> None:
        assert all(map(math.isnan, statistics.bootstrap_interval(np.array(values))))

    def test_equal_values_leave_no_doubt(self) -> None:
        assert statistics.bootstrap_interval(np.full(9, 100.0)) == (100, 100)

    def test_the_95_percent_interval_of_45_clips_covers_the_truth_in_91_to_96_percent(self) -> None:
        """A percentile bootstrap is a little short for few clips: for normal values theory gives 94 % at 45."""
        rng = np.random.default_rng(1)
        draws = statistics.resamples(45, 1000)
        low, high = statistics.percentile_interval(statistics.resampled_means(rng.normal(0, 1, (45, 2000)), draws))
        assert 0.91 < ((low <= 0) & (high >= 0)).mean() < 0.96


class TestJackknife:
    @given(VALUES)
    def test_of_a_mean_it_is_the_standard_error(self, values: np.ndarray) -> None:
        n = len(values)
        without = (values.sum() - values) / (n - 1)
        assert statistics.jackknife_error(without) == pytest.approx(values.std(ddof=1) / math.sqrt(n), abs=1e-7)

    def test_its_interval_is_centred_on_the_value(self) -> None:
        low, high = statistics.jackknife_interval(10.0, np.array([9.0, 10.0, 11.0, np.nan]))
        assert (low + high) / 2 == pytest.approx(10)
        assert high - 10 == pytest.approx(4.302652729749464 * math.sqrt(2 / 3 * 2))

    def test_one_clip_says_nothing(self) -> None:
        assert math.isnan(statistics.jackknife_error(np.array([9.0])))


class TestPairs:
    def test_every_entry_is_the_comparison_of_two(self) -> None:
        rng = np.random.default_rng(0)
        values, weights = rng.normal(size=(12, 4)), rng.integers(1, 9, 12).astype(float)
        for weigh in (None, weights):
            found = statistics.pairs(values, None if weigh is None else np.repeat(weigh[:, None], 4, axis=1))
            for i in range(4):
                for j in range(4):
                    expected = statistics.paired(values[:, i], values[:, j], weigh)
                    pair = found.pair(i, j)
                    assert (pair.n, pair.difference, pair.error) == pytest.approx((12, expected.difference, expected.error), abs=1e-12)
                    assert found.p[i, j] == pytest.approx(expected.p if i != j else 1)
                    assert [ends[i, j] for ends in found.intervals()] == pytest.approx(expected.interval(), abs=1e-12)

    def test_of_sets_too(self) -> None:
        rng = np.random.default_rng(0)
        values, without = rng.normal(size=3), rng.normal(size=(9, 3))
        found = statistics.pairs_of_sets(values, without)
        for i, j in ((0, 1), (2, 1)):
            expected = statistics.paired_sets(values[i], values[j], without[:, i], without[:, j])
            assert (found.difference[i, j], found.error[i, j]) == pytest.approx((expected.difference, expected.error))
            assert found.p[i, j] == pytest.approx(expected.p)

    def test_equal_models_do_not_differ_and_a_constant_difference_is_certain(self) -> None:
        same = np.array([1.0, 2.0, 4.0])
        p = statistics.pairs(np.stack([same, same, same + 0.5], axis=1)).p
        assert p[0, 1] == 1
        assert p[0, 2] < 1e-12

    def test_one_clip_is_no_evidence(self) -> None:
        found = statistics.pairs(np.array([[1.0, 2.0]]))
        assert math.isnan(found.p[0, 1])
        assert statistics.rank_ranges(found.p) == [(1, 2), (1, 2)]

    def test_one_sided_p_and_its_bound(self) -> None:
        pair = Paired(45, -0.5, 1 / math.sqrt(45))
        assert pair.p_below() == pytest.approx(pair.p / 2)
        assert pair.p_below(-0.5) == pytest.approx(0.5)
        assert pair.p_below(-1.0) > 0.99
        assert Paired(3, -0.5, 0.0).p_below() == 0
        assert math.isnan(Paired(1, -0.5, math.nan).p_below())


class TestRankRanges:
    @given(arrays.arrays(np.float64, st.tuples(st.just(8), st.integers(1, 9)), elements=st.floats(-5, 5, width=32)))
    def test_every_range_holds_its_own_rank_and_is_mutual_between_neighbours(self, values: np.ndarray) -> None:
        ordered = values[:, np.argsort(-values.mean(axis=0))]
        p = statistics.pairs(ordered).p
        ranges = statistics.rank_ranges(p)
        assert all(low <= rank <= high for rank, (low, high) in enumerate(ranges, start=1))
        for rank, apart in enumerate(statistics.neighbours_apart(p), start=1):
            assert (ranges[rank - 1][1] > rank) is not apart
            assert (ranges[rank][0] <= rank) is not apart

    def test_models_without_a_true_difference_are_seldom_told_apart(self) -> None:
        rng = np.random.default_rng(3)
        wrong = 0
        for _ in range(400):
            values = rng.normal(size=(45, 5))
            ordered = values[:, np.argsort(-values.mean(axis=0))]
            wrong += any(statistics.neighbours_apart(statistics.pairs(ordered).p))
        assert wrong / 400 < 0.06

    def test_a_clear_difference_is_seen(self) -> None:
        rng = np.random.default_rng(3)
        values = rng.normal(size=(45, 1)) + rng.normal(0, 0.2, (45, 3)) + np.array([2.0, 1.0, 0.0])
        assert statistics.rank_ranges(statistics.pairs(values).p) == [(1, 1), (2, 2), (3, 3)]


class TestCompetitionRanks:
    @given(arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=st.integers(0, 4).map(float)))
    def test_one_more_than_how_many_are_smaller(self, values: np.ndarray) -> None:
        expected = 1 + (values[:, None, :] < values[:, :, None]).sum(axis=2)
        np.testing.assert_array_equal(statistics.competition_ranks(values), expected)


class TestPower:
    def test_more_clips_see_more(self) -> None:
        found = [statistics.power(n, 0.3, 1.0) for n in (1, 2, 10, 50, 200)]
        assert found == sorted(found)
        assert found[0] == 0

    @given(st.floats(0.05, 3), st.floats(0.1, 3))
    def test_the_clips_needed_are_the_fewest_that_suffice(self, difference: float, deviation: float) -> None:
        n = statistics.clips_needed(difference, deviation)
        assert n is not None
        assert statistics.power(n, difference, deviation) >= statistics.POWER
        assert n == 2 or statistics.power(n - 1, difference, deviation) < statistics.POWER

    @pytest.mark.parametrize(("difference", "deviation"), [(0.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1e-6, 1.0)])
    def test_none_where_no_number_helps(self, difference: float, deviation: float) -> None:
        assert statistics.clips_needed(difference, deviation) is None
