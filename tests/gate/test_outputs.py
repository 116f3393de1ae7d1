"""The verdict as text, JSON, JUnit XML and Markdown: complete, escaped, of limited size."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from tests.gate.made import cell, rule, summary, verdict
from vpbench import gate_outputs
from vpbench.errors import StorageError
from vpbench.gate import Problem, Verdict
from vpbench.gate_checks import Check
from vpbench.storage import to_json

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))
BEFORE = np.random.default_rng(0).normal(25, 5, 20)
NASTY = 'a <b>bold</b> | `x` **y** [z](u) & "q" \u202eright to left\x1b[31m\x00 שלום'


def mixed() -> Verdict:
    """A verdict with every status but acknowledged, under failures of the candidate."""
    drop = np.random.default_rng(1).uniform(0.5, 1.5, 20)
    columns = {"psnr[hole]": -drop, "ssim[hole]": 0 * drop, "ewarp[hole]": 0.1 * drop}
    absent = cell("lpips[hole]", [], absent="alexnet is not here")
    one = summary(*(cell(name, BEFORE) for name in columns), cell("extra[hole]", BEFORE), absent)
    other = summary(*(cell(name, BEFORE + gain) for name, gain in columns.items()), absent, total=21, failed=1)
    found = verdict(one, other)
    assert {check.status for check in found.checks} == {"regression", "pass", "inconclusive", "skipped"}
    return dataclasses.replace(found, failed=(("broken", "OSError: truncated"),), notes=("a note",))


def nasty() -> Verdict:
    side = summary(cell("psnr[hole]", BEFORE), names=[f"{NASTY} {i:02d}" for i in range(20)], model=NASTY, run=NASTY)
    worse = dataclasses.replace(side, cells=(cell("psnr[hole]", BEFORE - 1),))
    found = verdict(side, worse)
    return dataclasses.replace(found, failed=((NASTY, NASTY),), notes=(NASTY * 50,), problems=(Problem(4, NASTY),))


class TestText:
    def test_a_regression_says_metric_values_drop_interval_p_and_the_worst_clips(self) -> None:
        found = gate_outputs.as_text(
            verdict(cell("psnr[hole]", BEFORE), cell("psnr[hole]", BEFORE - np.linspace(0.1, 2, 20)), rule(absolute=0.25))
        )
        line = next(line for line in found.splitlines() if line.startswith("regression"))
        assert re.search(
            r"psnr\[hole\]  \S+ -> \S+ dB \(drop 1.05 dB, 95% interval of the drop \S+ to \S+, tolerance 0.25, "
            r"p = \S+e-\d+, \S+ after Holm, 20 clips\)",
            line,
        )
        assert re.search(r"regression.*\n    clip019: \S+ -> \S+ \(drop 2\)\n    clip018:", found)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            pytest.param({}, True, id="tolerance 0"),
            pytest.param({"absolute": 1.0}, True, id="less"),
            pytest.param({"absolute": 3.0}, False, id="more"),
            pytest.param({"relative": 0.5}, False, id="relative"),
        ],
    )
    def test_a_drop_that_is_not_significant_is_said_beside_its_pass(self, options: dict[str, float], said: bool) -> None:
        drops = np.array([-8.0, 12.0, -6.0, 9.0, -5.0, 8.0, 5.0, 3.0])  # 2.25 on average
        found = verdict(cell("psnr[hole]", BEFORE[:8]), cell("psnr[hole]", BEFORE[:8] - drops), rule(**options))
        assert [check.status for check in found.checks] == ["pass"]
        remark = "dropped 2.25 dB, more than the tolerance, but not significant: 8 clips do not prove it"
        for shown in (gate_outputs.as_text(found), gate_outputs.markdown(found)):
            assert (remark in shown) == said
            assert ("not significant" in shown) == said

    @pytest.mark.parametrize("gain", [-1e-14, 0.0, 0.5])
    def test_nothing_is_said_of_a_pass_without_a_drop(self, gain: float) -> None:
        found = verdict(cell("psnr[hole]", BEFORE), cell("psnr[hole]", BEFORE + gain))
        assert found.exit_status == 0
        assert "not significant" not in gate_outputs.as_text(found)

    def test_the_last_line_is_the_verdict(self) -> None:
        last = gate_outputs.as_text(mixed()).splitlines()[-1]
        assert last == "gate: CANDIDATE FAILED  1 regression, 1 inconclusive, 2 pass, 1 skipped (exit status 4)"

    def test_failed_clips_are_named(self) -> None:
        assert "    broken: OSError: truncated" in gate_outputs.as_text(mixed())

    def test_a_pipe_gets_plain_lines_and_nothing_that_a_terminal_obeys(self, capsys: pytest.CaptureFixture[str]) -> None:
        gate_outputs.print_verdict(nasty())
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\x00" not in out
        assert "\u202e" not in out
        assert "שלום" in out
        assert len(out.splitlines()) == len(gate_outputs.as_text(nasty()).splitlines())

    @pytest.mark.parametrize(("value", "shown"), [(27.9461, "27.95"), (0.0, "0"), (-3.14159e-6, "-3.142e-06"), (float("nan"), "-")])
    def test_numbers_have_four_digits(self, value: float, shown: str) -> None:
        assert gate_outputs.number(value) == shown


class TestJson:
    def test_it_holds_all_of_it_and_is_strict(self) -> None:
        found = json.loads(to_json(gate_outputs.to_dict(mixed())))
        assert (found["verdict"], found["exit_status"], found["rules"]) == ("CANDIDATE FAILED", 4, "test")
        assert found["failed"] == [{"clip": "broken", "reason": "OSError: truncated"}]
        assert found["problems"][0] == {"exit_status": 4, "text": "the candidate run had failures: 1 of 21 clips"}
        regression, inconclusive = found["checks"][:2]
        assert regression["column"] == "psnr[hole]"
        assert regression["status"] == "regression"
        assert regression["drop"] == pytest.approx(regression["baseline"] - regression["candidate"])
        assert regression["low"] < regression["drop"] < regression["high"]
        assert len(regression["worst"]) == 3
        assert set(regression["worst"][0]) == {"clip", "baseline", "candidate", "drop"}
        assert inconclusive["drop"] is None
        assert found["candidate"]["fingerprint"] == "0123456789abcdef"

    def test_without_a_pair_the_sides_are_null(self) -> None:
        found = gate_outputs.to_dict(Verdict(3, "default", problems=(Problem(3, "nothing to compare"),)))
        assert (found["baseline"], found["checks"], found["exit_status"]) == (None, [], 3)


def suite(found: Verdict) -> ElementTree.Element:
    data = gate_outputs.junit(found)
    SCHEMA.validate(data.decode())
    (only,) = ElementTree.fromstring(data)
    return only


class TestJunit:
    def test_counts_and_kinds(self) -> None:
        root = suite(mixed())
        cases = {case.get("name"): [child.tag for child in case] for case in root}
        assert cases["psnr[hole]"] == ["failure"]
        assert cases["extra[hole]"] == ["error"]
        assert cases["ssim[hole]"] == ["system-out"]
        assert cases["lpips[hole]"] == ["skipped"]
        assert cases["the candidate run is complete"] == ["error"]
        assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
            "tests": "6",
            "failures": "1",
            "errors": "2",
            "skipped": "1",
        }

    def test_a_failure_names_the_worst_clips(self) -> None:
        failure = suite(mixed()).find("testcase/failure")
        assert failure is not None
        assert "drop" in (failure.get("message") or "")
        assert re.search(r"\nclip\d+: .* \(drop ", failure.text or "")

    @pytest.mark.parametrize("made", [mixed, nasty, lambda: Verdict(3, "default", problems=(Problem(3, "nothing"),))])
    def test_it_is_never_green_where_the_gate_is_not(self, made: Callable[[], Verdict]) -> None:
        root = suite(made())
        assert int(root.get("errors", 0)) + int(root.get("failures", 0)) > 0

    @given(st.text(), st.text())
    def test_any_text_stays_valid(self, name: str, reason: str) -> None:
        case = suite(Verdict(3, "test", checks=(Check(f"x{name}[y]", reason=reason),))).find("testcase")
        assert case is not None
        if name.isprintable():
            assert case.get("name") == f"x{name}[y]"


class TestMarkdown:
    def test_a_row_per_check_regressions_first(self) -> None:
        rows = [line for line in gate_outputs.markdown(mixed()).splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 5
        assert rows[2].startswith(r"| psnr\[hole\] (dB) | **regression** |")
        assert "clip0" in rows[2]
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1

    def test_nothing_in_it_is_markup(self) -> None:
        found = gate_outputs.markdown(nasty())
        assert "<b>" not in found
        assert "**y**" not in found
        assert "](u)" not in found.replace(r"\](u)", "")
        assert all(ord(character) >= 32 or character == "\n" for character in found)

    @pytest.mark.parametrize("limit", [-5, 0, 100, 1000, 3000, 10_000])
    def test_it_never_exceeds_its_limit_and_says_what_it_left_out(self, limit: int) -> None:
        found = mixed()
        many = dataclasses.replace(found, checks=found.checks * 20)
        cut = gate_outputs.markdown(many, limit)
        assert len(cut.encode()) <= max(limit, 0)
        if limit >= 1000:
            assert "lines were left out" in cut
            assert "gate: CANDIDATE FAILED" in cut

    def test_the_summary_of_a_job_is_appended_to_and_kept_below_githubs_limit(self, tmp_path: Path) -> None:
        file = tmp_path / "summary.md"
        file.write_text("what an earlier step wrote\n")
        gate_outputs.append_summary(file, mixed())
        assert file.read_text().startswith("what an earlier step wrote\n### gate: CANDIDATE FAILED")
        many = dataclasses.replace(mixed(), notes=tuple(f"{i} {NASTY}" for i in range(20_000)))
        gate_outputs.append_summary(file, many)
        assert 1_000_000 < file.stat().st_size <= 1024 * 1024
        gate_outputs.append_summary(file, many)
        assert file.stat().st_size <= 1024 * 1024

    def test_a_summary_that_cannot_be_written_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="nowhere"):
            gate_outputs.append_summary(tmp_path / "nowhere" / "summary.md", mixed())
