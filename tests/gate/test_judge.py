"""What counts as worse, what cannot be told, and which exit status is said."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.gate.made import TODAY, cell, check, rule, set_cell, summary, verdict
from vpbench.errors import ConfigError
from vpbench.gate_checks import Check
from vpbench.gate_rules import Acknowledged
from vpbench.statistics import jackknife_error

RNG = np.random.default_rng(0)
BEFORE = RNG.normal(25, 5, 45)
WORSE = BEFORE + RNG.normal(-1, 0.5, 45)
BETTER = BEFORE + RNG.normal(1, 0.5, 45)


class TestDecision:
    def test_equal_results_pass(self) -> None:
        found = verdict(cell("psnr", BEFORE), cell("psnr", BEFORE))
        assert (found.exit_status, found.checks[0].status, found.checks[0].drop) == (0, "pass", 0)

    def test_the_direction_comes_from_the_metric(self) -> None:
        assert check(cell("psnr", BEFORE), cell("psnr", WORSE)).status == "regression"
        assert check(cell("psnr", BEFORE), cell("psnr", BETTER)).status == "pass"
        lower = [cell("mse", values, direction="lower") for values in (BEFORE, WORSE)]
        assert check(*lower).status == "pass"
        assert check(*reversed(lower)).status == "regression"

    def test_p_and_interval_are_those_of_scipys_paired_test(self) -> None:
        found = check(cell("psnr", BEFORE), cell("psnr", WORSE), rule(absolute=0.9))
        expected = scipy.stats.ttest_1samp(WORSE - BEFORE, -0.9, alternative="less")
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        interval = scipy.stats.ttest_rel(BEFORE, WORSE).confidence_interval()
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert found.drop == pytest.approx((BEFORE - WORSE).mean(), rel=1e-12)

    def test_a_tolerance_larger_than_the_drop_passes(self) -> None:
        assert check(cell("psnr", BEFORE), cell("psnr", WORSE), rule(absolute=0.5)).status == "regression"
        assert check(cell("psnr", BEFORE), cell("psnr", WORSE), rule(absolute=2.0)).status == "pass"

    def test_a_relative_tolerance_is_a_share_of_the_baseline(self) -> None:
        drop = 1 - WORSE.mean() / BEFORE.mean()
        assert check(cell("psnr", BEFORE), cell("psnr", WORSE), rule(relative=drop / 2)).status == "regression"
        found = check(cell("psnr", BEFORE), cell("psnr", WORSE), rule(relative=drop * 2))
        assert (found.status, found.tolerance) == ("pass", pytest.approx(2 * drop * BEFORE.mean()))
        negative = [cell("score", -values, direction="lower") for values in (BEFORE, WORSE)]
        assert check(*negative, rule(relative=drop * 2)).status == "pass"
        assert check(*negative, rule(relative=drop / 2)).status == "regression"

    @pytest.mark.parametrize("test", ["paired", "none"])
    def test_a_drop_of_exactly_the_tolerance_passes(self, test: str) -> None:
        values = np.linspace(20.1, 30.3, 11)
        assert check(cell("psnr", values), cell("psnr", values - 0.1), rule(absolute=0.1, test=test)).status == "pass"
        assert check(cell("psnr", values), cell("psnr", values - 0.1), rule(absolute=0.0999, test=test)).status == "regression"

    def test_without_a_test_any_drop_beyond_the_tolerance_counts(self) -> None:
        noisy = BEFORE + np.where(np.arange(45) % 2, 1.0, -1.02)
        assert check(cell("psnr", BEFORE), cell("psnr", noisy)).status == "pass"
        assert check(cell("psnr", BEFORE), cell("psnr", noisy), rule(test="none")).status == "regression"

    def test_holm_counts_every_test_of_the_gate(self) -> None:
        borderline = WORSE_AT_2_PERCENT
        one = summary(cell("psnr", BEFORE))
        assert verdict(one, summary(cell("psnr", borderline))).exit_status == 1
        others = [cell(f"other{i}", BEFORE + RNG.normal(0, 1e-3, 45)) for i in range(4)]
        found = verdict(summary(cell("psnr", BEFORE), *others), summary(cell("psnr", borderline), *others))
        assert found.exit_status == 0
        assert found.checks[0].p_holm == pytest.approx(5 * found.checks[0].p)

    def test_alpha_is_the_rules_own(self) -> None:
        assert check(cell("psnr", BEFORE), cell("psnr", WORSE_AT_2_PERCENT), rule(alpha=0.01)).status == "pass"

    def test_a_mean_over_frames_weighs_clips_by_their_frames(self) -> None:
        frames = np.where(np.arange(45) < 5, 1000.0, 1.0)
        worse = BEFORE + np.where(np.arange(45) < 5, -1.0, 1.0) * RNG.uniform(0.9, 1.1, 45)
        weighted = [cell("psnr", values, average="frames", frames=frames) for values in (BEFORE, worse)]
        assert check(*weighted, rule(test="none")).status == "regression"
        assert check(*weighted).drop == pytest.approx(((BEFORE - worse) * frames).sum() / frames.sum())
        assert check(cell("psnr", BEFORE), cell("psnr", worse)).status == "pass"

    def test_set_metrics_use_the_jackknife_of_the_difference(self) -> None:
        left = RNG.normal(100, 1, 45)
        noise = RNG.normal(0, 0.05, 45)
        found = check(set_cell("fvd", 100.0, left), set_cell("fvd", 103.0, left + 3 + noise))
        t = -3.0 / jackknife_error(noise)
        assert found.p == pytest.approx(scipy.stats.t.cdf(t, 44), rel=1e-9)
        assert (found.status, found.drop, found.n, found.worst) == ("regression", 3.0, 45, ())

    def test_the_worst_clips_are_named_worst_first(self) -> None:
        values = BEFORE - 0.1
        values[[7, 3, 12]] -= [3, 2, 1]
        found = check(cell("psnr", BEFORE), cell("psnr", values))
        assert [clip.clip for clip in found.worst] == ["clip007", "clip003", "clip012"]
        assert found.worst[0].drop == pytest.approx(3.1)
        assert found.worst[0].baseline == BEFORE[7]


WORSE_AT_2_PERCENT = BEFORE + RNG.normal(0, 1, 45)
WORSE_AT_2_PERCENT -= (WORSE_AT_2_PERCENT - BEFORE).mean()
WORSE_AT_2_PERCENT += scipy.stats.t.ppf(0.02, 44) * (WORSE_AT_2_PERCENT - BEFORE).std(ddof=1) / np.sqrt(45)


class TestRulesAndColumns:
    def test_only_the_columns_that_a_rule_names_are_checked(self) -> None:
        columns = [cell(name, BEFORE) for name in ("psnr[hole]", "psnr[frame]", "ssim[hole]")]
        side = summary(*columns, mean_rank=("ssim[hole]",))
        assert [c.column for c in verdict(side, side, rule("psnr")).checks] == ["psnr[hole]", "psnr[frame]"]
        assert [c.column for c in verdict(side, side, rule("*", "ho*")).checks] == ["psnr[hole]", "ssim[hole]"]
        assert [c.column for c in verdict(side, side, rule("*", mean_rank=True)).checks] == ["ssim[hole]"]

    def test_a_later_rule_takes_the_place_of_an_earlier_one(self) -> None:
        sides = [summary(cell("psnr[hole]", v), cell("ssim[hole]", v)) for v in (BEFORE, WORSE)]
        found = verdict(*sides, rule("*"), rule("psnr", absolute=2.0))
        assert {c.column: c.status for c in found.checks} == {"psnr[hole]": "pass", "ssim[hole]": "regression"}

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            pytest.param(rule("pnsr"), r"rules\[0\]: neither result has a column pnsr. Did you mean 'psnr'\? Columns: psnr\[", id="metric"),
            pytest.param(rule("psnr", "hule"), r"neither result has a column psnr\[hule\]. Did you mean 'hole'\? Columns:", id="region"),
            pytest.param(rule("lpips", "hole"), r"result has a column lpips\[hole\]. Columns: psnr\[hole\], ssim\[hole\].$", id="protocol"),
            pytest.param(rule("ssim", mean_rank=True), r"no column fits ssim\[\*\] in the mean rank", id="not in the mean rank"),
            pytest.param(rule(slice="operatoin=swap"), r"'operatoin' is unknown. Did you mean 'operation'\?", id="dimension"),
            pytest.param(rule(slice="operation=swop"), r"Did you mean 'operation=swap'\?", id="slice"),
            pytest.param(rule(slice="coverage=10-20%"), r"Did you mean 'coverage=10-30%'\?", id="bin"),
        ],
    )
    def test_what_fits_nothing_is_an_error_with_the_nearest_name(self, wanted, message: str) -> None:  # type: ignore[no-untyped-def]
        side = summary(cell("psnr[hole]", BEFORE), cell("ssim[hole]", BEFORE), mean_rank=("psnr[hole]",))
        with pytest.raises(ConfigError, match=message):
            verdict(side, side, wanted)

    def test_a_column_that_neither_side_has_is_skipped_and_said(self) -> None:
        side = summary(cell("psnr", BEFORE), cell("lpips", [], absent="alexnet is not here"))
        found = verdict(side, side)
        assert found.exit_status == 0
        assert [(c.status, c.reason) for c in found.checks[1:]] == [("skipped", "neither side has it: alexnet is not here")]

    def test_but_not_where_a_rule_names_it(self) -> None:
        side = summary(cell("psnr", BEFORE), cell("lpips", [], absent="alexnet is not here"))
        assert verdict(side, side, rule("psnr", "frame"), rule("lpips", "frame")).exit_status == 3


PROPERTIES = {f"clip{i:03d}": {"operation": "swap" if i < 9 else "add", "tags": ["night"] if i < 1 else []} for i in range(45)}


class TestSlices:
    def side(self, values: np.ndarray, **changes: object) -> object:
        return summary(cell("psnr[hole]", values), set_cell("fvd[frame]", 1.0, BEFORE), properties=PROPERTIES, **changes)

    def test_a_rule_looks_at_its_slice_only(self) -> None:
        values = BEFORE + np.where(np.arange(45) < 9, -1.0, 1.0) * RNG.uniform(0.9, 1.1, 45)
        found = verdict(self.side(BEFORE), self.side(values), rule("psnr"), rule("psnr", slice="operation=swap"))  # type: ignore[arg-type]
        assert [(c.name, c.status, c.n) for c in found.checks] == [
            ("psnr[hole]", "pass", 45),
            ("psnr[hole] on operation=swap", "regression", 9),
        ]
        assert found.checks[1].baseline == pytest.approx(BEFORE[:9].mean())

    def test_one_clip_allows_no_test(self) -> None:
        sides = self.side(BEFORE), self.side(BEFORE)
        assert verdict(*sides, rule("psnr", slice="tag=night")).exit_status == 3  # type: ignore[arg-type]
        assert verdict(*sides, rule("psnr", slice="tag=night", test="none")).exit_status == 0  # type: ignore[arg-type]

    def test_a_slice_without_clips_is_inconclusive(self) -> None:
        found = verdict(self.side(BEFORE), self.side(BEFORE), rule("psnr"), rule("psnr", slice="operation=remove"))  # type: ignore[arg-type]
        assert (found.exit_status, found.checks[1].reason) == (3, "no clip is in operation=remove")

    def test_a_set_metric_has_no_value_on_a_slice(self) -> None:
        sides = self.side(BEFORE), self.side(BEFORE)
        found = verdict(*sides, rule(slice="operation=swap"))  # type: ignore[arg-type]
        assert [(c.column, c.status) for c in found.checks] == [("psnr[hole]", "pass"), ("fvd[frame]", "skipped")]
        assert verdict(*sides, rule("psnr"), rule("fvd", "frame", slice="operation=swap")).exit_status == 3  # type: ignore[arg-type]

    def test_clips_that_moved_to_another_slice_are_inconclusive(self) -> None:
        moved = summary(cell("psnr[hole]", BEFORE), properties={**PROPERTIES, "clip000": {"operation": "add"}})
        found = check(summary(cell("psnr[hole]", BEFORE), properties=PROPERTIES), moved, rule(slice="operation=swap"))
        assert found.reason == "the two sides have other clips in operation=swap"


class TestInconclusive:
    def reason(self, baseline: object, candidate: object, *wanted: object) -> str:
        found = verdict(baseline, candidate, *wanted)  # type: ignore[arg-type]
        assert found.exit_status == 3
        return found.checks[0].reason

    def test_one_clip(self) -> None:
        assert "one clip: no test over clips is possible" in self.reason(cell("psnr", [25.0]), cell("psnr", [20.0]))
        assert verdict(cell("psnr", [25.0]), cell("psnr", [20.0]), rule(test="none")).exit_status == 1

    def test_no_clip_at_all(self) -> None:
        assert self.reason(cell("psnr", []), cell("psnr", [])) == "neither side has it: undefined"

    def test_a_metric_that_one_side_lacks(self) -> None:
        two, one = summary(cell("psnr", BEFORE), cell("ssim", BEFORE)), summary(cell("psnr", BEFORE))
        for sides, side in (((two, one), "candidate"), ((one, two), "baseline")):
            found = verdict(*sides)
            assert (found.exit_status, found.checks[1].reason) == (3, f"the {side}: does not have this column")

    def test_a_metric_whose_weights_one_side_lacks(self) -> None:
        assert self.reason(cell("lpips", BEFORE), cell("lpips", [], absent="no weights")) == "the candidate: no weights"

    def test_random_weights_are_compared_with_nothing(self) -> None:
        random = cell("lpips", BEFORE, unranked="seeded random weights")
        assert "seeded random weights" in self.reason(random, cell("lpips", BEFORE))

    def test_another_signature(self) -> None:
        reason = self.reason(cell("psnr", BEFORE), cell("psnr", BEFORE, signature="psnr|v2"))
        assert reason == "other signature: psnr|v1 in the baseline, psnr|v2 in the candidate"

    def test_a_clip_that_is_undefined_on_one_side_only(self) -> None:
        hidden = BEFORE.copy()
        hidden[3] = np.nan
        for sides in ((BEFORE, hidden), (hidden, BEFORE)):
            assert self.reason(*(cell("psnr", s) for s in sides)) == "undefined on one side only for clip003"
        assert verdict(cell("psnr", hidden), cell("psnr", hidden)).checks[0].n == 44

    def test_an_infinite_clip(self) -> None:
        perfect = BEFORE.copy()
        perfect[:5] = np.inf
        reason = self.reason(cell("psnr", perfect), cell("psnr", BEFORE))
        assert reason == "infinite for clip000, clip001, clip002 and 2 more, so the mean is"
        self.reason(cell("psnr", perfect), cell("psnr", perfect))

    def test_frames_that_count_on_one_side_only(self) -> None:
        fewer = np.full(45, 10.0)
        fewer[2] = 9
        sides = cell("psnr", BEFORE, average="frames"), cell("psnr", BEFORE, average="frames", frames=fewer)
        assert self.reason(*sides) == "the frames that count differ for clip002"

    def test_values_per_clip_that_one_side_does_not_store(self) -> None:
        bare = cell("psnr", BEFORE, clips=np.empty(0))
        assert "no values per clip" in self.reason(bare, cell("psnr", WORSE))
        sides = summary(bare, names=[f"clip{i:03d}" for i in range(45)]), summary(cell("psnr", WORSE))
        assert verdict(*sides, rule(test="none")).exit_status == 1

    def test_a_set_metric_without_leave_one_out_values(self) -> None:
        sides = set_cell("fvd", 1.0, [], n=45), set_cell("fvd", 2.0, [], n=45)
        assert "no values per clip" in self.reason(*sides)
        assert verdict(*sides, rule(test="none")).exit_status == 1

    def test_a_set_metric_that_is_undefined_on_another_clip(self) -> None:
        hidden = BEFORE.copy()
        hidden[0] = np.nan
        assert self.reason(set_cell("fvd", 1.0, BEFORE), set_cell("fvd", 1.0, hidden)) == "the set metric is undefined on other clips"

    def test_other_benchmark_data(self) -> None:
        found = verdict(summary(cell("psnr", BEFORE)), summary(cell("psnr", WORSE), fingerprint="fedcba"))
        assert found.exit_status == 3
        assert "the baseline was measured on demo 0123456789ab, the candidate on demo fedcba" in found.problems[0].text
        assert found.checks[0].reason == "other benchmark data"

    def test_a_model_that_sees_the_hole_beside_a_blind_one(self) -> None:
        found = verdict(summary(cell("psnr", WORSE)), summary(cell("psnr", BEFORE), needs_reference=True))
        assert (found.exit_status, found.problems[0].text) == (3, "the candidate sees the hole and the other side does not")

    def test_other_clips(self) -> None:
        found = verdict(summary(cell("psnr", BEFORE)), summary(cell("psnr", BEFORE), names=[f"other{i}" for i in range(45)]))
        assert found.exit_status == 3
        assert found.checks[0].reason == "no common clips"

    @pytest.mark.parametrize("side", ["baseline", "candidate"])
    def test_a_partial_run_is_never_a_verdict_but_common_clips_are_shown(self, side: str) -> None:
        whole = summary(cell("psnr", BEFORE))
        part = summary(cell("psnr", WORSE[:10]), total=45)
        found = verdict(whole, part) if side == "candidate" else verdict(part, whole)
        assert found.exit_status == 3
        assert f"the {side} is a partial run: 35 of 45 clips are missing" in [p.text for p in found.problems]
        assert found.checks[0].n == 10

    def test_nothing_compared_is_never_a_pass(self) -> None:
        side = summary(cell("lpips", [], absent="no weights"))
        found = verdict(side, side)
        assert (found.exit_status, [p.text for p in found.problems]) == (3, ["nothing was compared"])


class TestOrder:
    def test_failures_of_the_candidate_come_before_all_others(self) -> None:
        failed = summary(cell("psnr", WORSE[:40]), total=45, failed=2, fingerprint="other")
        assert verdict(summary(cell("psnr", BEFORE)), failed).exit_status == 4

    def test_what_is_inconclusive_comes_before_a_regression(self) -> None:
        found = verdict(summary(cell("psnr", BEFORE), cell("ssim", BEFORE)), summary(cell("psnr", WORSE)))
        assert (found.exit_status, found.count("regression")) == (3, 1)

    def test_a_failed_baseline_is_inconclusive(self) -> None:
        assert verdict(summary(cell("psnr", BEFORE[:44]), total=45, failed=1), summary(cell("psnr", BEFORE))).exit_status == 3


class TestAcknowledged:
    def known(self, drop: float, expires: date = TODAY, metric: str = "psnr") -> Acknowledged:
        return Acknowledged("test: acknowledged[0]", metric, "*", "", drop, "smaller model", expires)

    def result(self, *known: Acknowledged, **options: object):  # type: ignore[no-untyped-def]
        return verdict(cell("psnr", BEFORE), cell("psnr", WORSE), rule(**options), acknowledged=known)

    @pytest.mark.parametrize("test", ["paired", "none"])
    def test_a_known_drop_passes_with_its_reason(self, test: str) -> None:
        found = self.result(self.known(2.0), test=test)
        assert (found.exit_status, found.checks[0].status) == (0, "acknowledged")
        assert found.checks[0].reason == "acknowledged: a drop of 2 until 2026-07-01 (smaller model)"

    @pytest.mark.parametrize("test", ["paired", "none"])
    def test_a_larger_drop_does_not(self, test: str) -> None:
        found = self.result(self.known(0.5), test=test)
        assert (found.exit_status, found.checks[0].reason[:22]) == (1, "more than acknowledged")

    def test_after_its_last_day_it_no_longer_counts_and_that_is_said(self) -> None:
        found = self.result(self.known(2.0, TODAY - timedelta(days=1)))
        assert found.exit_status == 1
        assert "the acknowledgement expired on 2026-06-30 and no longer counts (smaller model)" in found.notes[0]

    def test_one_that_is_not_needed_is_said(self) -> None:
        found = verdict(cell("psnr", BEFORE), cell("psnr", BETTER), acknowledged=[self.known(2.0)])
        assert (found.exit_status, found.checks[0].status) == (0, "pass")
        assert "passes without the acknowledgement" in found.notes[0]

    def test_one_that_no_rule_checks_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match=r"acknowledged\[0\]: no rule checks a column pnsr. Did you mean 'psnr'"):
            self.result(self.known(1.0, metric="pnsr"))


numbers = st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf"))


@given(st.lists(st.tuples(numbers, numbers), max_size=12), st.sampled_from(["paired", "none"]), st.sampled_from(["higher", "lower"]))
def test_any_two_results_get_a_verdict_that_its_checks_explain(pairs: list[tuple[float, float]], test: str, direction: str) -> None:
    sides = [cell("psnr", [pair[i] for pair in pairs], direction=direction) for i in (0, 1)]
    found = verdict(*sides, rule(test=test))
    status: Check = found.checks[0]
    assert found.exit_status == {"pass": 0, "regression": 1}.get(status.status, 3)
    if status.status in ("pass", "regression"):
        assert status.n >= (2 if test == "paired" else 1)
        assert np.isfinite([status.baseline, status.candidate, status.drop]).all()
    if status.status == "regression":
        assert status.drop > 0
        assert verdict(*reversed(sides), rule(test=test)).exit_status == 0


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.floats(0, 10), st.floats(0, 10))
def test_a_wider_tolerance_never_turns_a_pass_into_a_regression(drops: list[float], one: float, more: float) -> None:
    sides = cell("psnr", np.zeros(len(drops))), cell("psnr", -np.array(drops))
    for test in ("paired", "none"):
        narrow, wide = (verdict(*sides, rule(test=test, absolute=tolerance)).exit_status for tolerance in (one, one + more))
        assert wide <= narrow
