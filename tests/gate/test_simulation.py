"""The gate's decision on 2,000 experiments whose truth is known; the figures are in docs/gate.md (python -m tests.speed.gate)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from tests.gate import simulation
from tests.gate.made import cell, rule
from vpbench import statistics

CLIPS, DROP, DEVIATION = 45, 0.5, 1.0
ALPHA = 0.05


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(simulation.one_column(CLIPS), id="one column"),
        pytest.param(simulation.one_column(8), id="one column, eight clips"),
        pytest.param(simulation.several_columns(CLIPS), id="five correlated columns"),
        pytest.param(simulation.several_columns(CLIPS, correlation=0.0), id="five independent columns"),
        pytest.param(simulation.weighted(CLIPS), id="a mean over frames"),
        pytest.param(simulation.set_metric(CLIPS), id="a set metric"),
    ],
)
def test_without_a_true_difference_alarms_are_as_rare_as_alpha_says(draw: simulation.Draw) -> None:
    assert simulation.alarm_rate(draw) <= ALPHA + 0.01


def test_a_planted_drop_is_caught_as_often_as_theory_says() -> None:
    expected = statistics.power(CLIPS, DROP, DEVIATION, sides=1)
    assert simulation.alarm_rate(simulation.one_column(CLIPS, DROP, DEVIATION)) == pytest.approx(expected, abs=0.03)


def test_that_theory_is_the_noncentral_t_of_scipy() -> None:
    critical = scipy.stats.t.ppf(1 - ALPHA, CLIPS - 1)
    expected = scipy.stats.nct.sf(critical, CLIPS - 1, DROP / DEVIATION * math.sqrt(CLIPS))
    assert statistics.power(CLIPS, DROP, DEVIATION, sides=1) == pytest.approx(expected, abs=1e-6)


def test_a_drop_as_large_as_the_tolerance_raises_no_more_alarms_than_none() -> None:
    draw = simulation.one_column(CLIPS, DROP, DEVIATION)
    assert simulation.alarm_rate(draw, rule=rule(absolute=DROP)) <= ALPHA + 0.01


def test_so_does_a_drop_as_large_as_a_relative_tolerance() -> None:
    def draw(rng: np.random.Generator) -> simulation.Sides:
        values = rng.normal(25, 5, CLIPS)
        return [cell("psnr", values)], [cell("psnr", 0.98 * values + rng.normal(0, DEVIATION, CLIPS))]

    assert simulation.alarm_rate(draw, rule=rule(relative=0.02)) <= ALPHA + 0.01
    assert simulation.alarm_rate(draw, rule=rule(relative=0.0)) > 0.5
