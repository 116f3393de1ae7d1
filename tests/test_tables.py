from __future__ import annotations

import csv
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.summaries import Runs, column, mse, psnr
from vpbench.table_formats import TIDY, tidy_csv, wide_csv
from vpbench.table_markdown import markdown
from vpbench.tables import Table, print_table, write_tables


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    (tmp_path / "runs").mkdir()
    return Runs(tmp_path / "runs")


def places(runs: Runs) -> list[tuple[str, int | None]]:
    return [(row.label, row.place) for row in runs.group().rows]


class TestRanking:
    def test_higher_is_better_or_lower_is_better_as_the_column_says(self, runs: Runs) -> None:
        runs("good", psnr(30.0), mse(0.01))
        runs("bad", psnr(20.0), mse(0.02))
        assert runs.rows()["good"].ranks == {"psnr[hole]": 1, "mse[hole]": 1}
        assert runs.rows()["bad"].ranks == {"psnr[hole]": 2, "mse[hole]": 2}

    def test_ties_share_the_best_rank_and_the_next_is_skipped(self, runs: Runs) -> None:
        for model, value in {"d": 1.0, "c": 2.0, "b": 3.0, "a": 3.0}.items():
            runs(model, psnr(value))
        assert places(runs) == [("a", 1), ("b", 1), ("c", 3), ("d", 4)]

    def test_values_that_only_look_equal_are_no_tie(self, runs: Runs) -> None:
        runs("a", psnr(30.0))
        runs("b", psnr(30.0001))
        assert places(runs) == [("b", 1), ("a", 2)]

    def test_the_mean_rank_counts_only_the_columns_the_protocol_names(self, runs: Runs) -> None:
        runs("a", psnr(3.0), mse(0.3), mean_rank=["psnr[hole]"])
        runs("b", psnr(2.0), mse(0.1), mean_rank=["psnr[hole]"])
        assert {label: row.mean_rank for label, row in runs.rows().items()} == {"a": 1.0, "b": 2.0}

    def test_the_mean_rank_is_the_mean_of_ranks(self, runs: Runs) -> None:
        runs("a", psnr(3.0), mse(0.3))
        runs("b", psnr(2.0), mse(0.2))
        runs("c", psnr(1.0), mse(0.4))
        assert [(row.label, row.mean_rank) for row in runs.group().rows] == [("a", 1.5), ("b", 1.5), ("c", 3.0)]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            pytest.param({"needs_reference": True, "ranked": False}, "sees hole", id="ground truth"),
            pytest.param({"ranked": False}, "not ranked: floor/ceiling row", id="floor"),
            pytest.param({"ok": 6}, "6/8 clips", id="missing clips"),
            pytest.param({"ok": 7, "failed": [{"clip": "x", "reason": "r"}]}, "7/8 clips, 1 failed", id="a failed clip"),
        ],
    )
    def test_a_row_that_is_not_ranked_stands_last_with_the_reason(self, runs: Runs, changes: dict[str, Any], reason: str) -> None:
        runs("a", psnr(99.0), **changes)
        runs("b", psnr(1.0))
        assert places(runs) == [("b", 1), ("a", None)]
        assert runs.rows()["a"].reason == reason
        assert runs.rows()["a"].ranks == {}

    def test_unranked_rows_are_in_name_order(self, runs: Runs) -> None:
        runs("c", psnr(9.0), ok=7)
        runs("b", psnr(8.0), ranked=False)
        runs("z", psnr(1.0))
        assert [label for label, _ in places(runs)] == ["z", "b", "c"]

    def test_different_signatures_never_share_a_rank(self, runs: Runs) -> None:
        runs("old1", psnr(1.0))
        runs("old2", psnr(2.0))
        runs("new", psnr(9.0, signature="psnr[hole]|v2"))
        assert places(runs) == [("old2", 1), ("old1", 2), ("new", None)]
        assert runs.rows()["new"].reason == "other signature: psnr[hole]|v2"

    def test_another_signature_outside_the_mean_rank_costs_that_column_only(self, runs: Runs) -> None:
        for model, signature in {"a": "v1", "b": "v1", "c": "v2"}.items():
            runs(model, psnr(1.0), mse(0.1, signature=signature), mean_rank=["psnr[hole]"])
        assert places(runs) == [("a", 1), ("b", 1), ("c", 1)]
        assert [set(row.ranks) for row in runs.group().rows] == [{"psnr[hole]", "mse[hole]"}] * 2 + [{"psnr[hole]"}]

    def test_means_over_different_clips_never_share_a_rank(self, runs: Runs) -> None:
        runs("a", psnr(1.0))
        runs("b", psnr(9.0, excluded=["x"]))
        assert places(runs) == [("a", 1), ("b", None)]
        assert runs.rows()["b"].reason == "not ranked: psnr[hole] is undefined on other clips"

    def test_the_wording_of_why_a_clip_is_left_out_does_not_matter(self, runs: Runs) -> None:
        runs("a", psnr(1.0, n=7) | {"excluded": [{"clip": "x", "reason": "one"}]})
        runs("b", psnr(2.0, n=7) | {"excluded": [{"clip": "x", "reason": "two"}]})
        assert places(runs) == [("b", 1), ("a", 2)]

    def test_a_column_undefined_for_everyone_does_not_count(self, runs: Runs) -> None:
        everything = [f"clip{i}" for i in range(8)]
        runs("a", psnr(None, excluded=everything), mse(0.1))
        runs("b", psnr(None, excluded=everything), mse(0.2))
        assert [(row.label, row.mean_rank) for row in runs.group().rows] == [("a", 1.0), ("b", 2.0)]

    def test_a_row_without_weights_does_not_take_the_column_from_the_others(self, runs: Runs) -> None:
        runs("a", psnr(1.0), mse(0.1))
        runs("b", psnr(9.0), mse(None, absent="no weights"))
        assert places(runs) == [("a", 1), ("b", None)]
        assert runs.rows()["b"].reason == "other signature: mse[hole] is absent"
        assert runs.rows()["a"].ranks.keys() == {"psnr[hole]", "mse[hole]"}

    def test_a_column_absent_for_everyone_does_not_count(self, runs: Runs) -> None:
        runs("a", psnr(1.0), mse(None, absent="no weights"))
        runs("b", psnr(2.0), mse(None, absent="no weights"))
        assert places(runs) == [("b", 1), ("a", 2)]

    def test_a_column_of_random_weights_is_shown_and_never_ranked(self, runs: Runs) -> None:
        runs("a", psnr(1.0), mse(0.1, unranked="seeded random weights"))
        runs("b", psnr(2.0), mse(0.2, unranked="seeded random weights"))
        assert [(row.label, row.mean_rank, set(row.ranks)) for row in runs.group().rows] == [
            ("b", 1.0, {"psnr[hole]"}),
            ("a", 2.0, {"psnr[hole]"}),
        ]
        assert "mse\\[hole\\] is not ranked: seeded random weights." in markdown(runs.table())

    def test_another_mean_rank_is_another_ranking(self, runs: Runs) -> None:
        runs("a", psnr(1.0), mse(0.1))
        runs("b", psnr(1.0), mse(0.1))
        runs("c", psnr(9.0), mse(0.9), mean_rank=["psnr[hole]"])
        assert runs.rows()["c"].reason == "not ranked: the mean rank counts other columns"

    def test_other_data_or_another_track_is_another_table(self, runs: Runs) -> None:
        runs("a", psnr(1.0))
        runs("b", psnr(2.0), fingerprint="ffff")
        runs("c", psnr(3.0), track="composite")
        assert [[row.label for row in group.rows] for group in runs.table().groups] == [["c"], ["a"], ["b"]]

    def test_two_runs_of_one_model_are_told_apart_by_their_id(self, runs: Runs) -> None:
        runs("a", psnr(1.0), run="a-seed0")
        runs("a", psnr(2.0), run="a-seed1")
        runs("b", psnr(3.0))
        assert [label for label, _ in places(runs)] == ["b", "a-seed1", "a-seed0"]

    def test_two_different_runs_with_one_id_are_both_shown(self, runs: Runs) -> None:
        runs("a", psnr(1.0), run="a-1")
        runs("a", psnr(2.0), run="a-1")
        assert places(runs) == [("a-1 (2)", 1), ("a-1 (1)", 2)]


def example(runs: Runs) -> Table:
    runs("telea", psnr(27.912345678901234), mse(0.00123))
    runs("blank", psnr(12.0), mse(0.1), ranked=False)
    runs("truth", psnr(100.0), mse(0.0), needs_reference=True)
    runs("flow", psnr(30.5), mse(0.00088))
    runs("slow", psnr(29.0), mse(0.002), ok=6)
    return runs.table()


class TestTidyCsv:
    def test_one_row_per_model_and_column_in_table_order(self, runs: Runs) -> None:
        rows = list(csv.DictReader(io.StringIO(tidy_csv(example(runs)))))
        assert tuple(rows[0]) == TIDY
        assert [(row["model"], row["metric"]) for row in rows[:4]] == [
            ("flow", "psnr"),
            ("flow", "mse"),
            ("telea", "psnr"),
            ("telea", "mse"),
        ]
        assert len(rows) == 10

    def test_its_columns(self, runs: Runs) -> None:
        assert tidy_csv(example(runs)).splitlines()[0] == (
            "benchmark,fingerprint,protocol,track,slice,model,run,metric,region,unit,direction,"
            "value,low,high,n,clips_ok,clips_total,under_sampled,rank,rank_low,rank_high,"
            "mean_rank,mean_rank_low,mean_rank_high,place,place_low,place_high,ranked,reason,signature"
        )

    def test_values_are_natural_units_with_ten_digits(self, runs: Runs) -> None:
        rows = {(row["model"], row["metric"]): row for row in csv.DictReader(io.StringIO(tidy_csv(example(runs))))}
        assert rows["telea", "psnr"]["value"] == "27.91234568"
        assert rows["telea", "mse"]["value"] == "0.00123"
        assert rows["telea", "mse"]["slice"] == "all"
        assert rows["telea", "mse"]["low"] == rows["telea", "mse"]["high"] == ""

    def test_an_unranked_row_has_a_reason_and_no_rank(self, runs: Runs) -> None:
        rows = {row["model"]: row for row in csv.DictReader(io.StringIO(tidy_csv(example(runs))))}
        assert [rows["slow"][key] for key in ("rank", "mean_rank", "ranked", "reason")] == ["", "", "no", "6/8 clips"]
        assert [rows["flow"][key] for key in ("rank", "mean_rank", "ranked", "reason")] == ["1", "1", "yes", ""]

    def test_names_are_as_they_are_also_where_two_runs_share_one(self, runs: Runs) -> None:
        runs("=a", psnr(1.0), run="a-0")
        runs("=a", psnr(2.0), run="a-1")
        rows = list(csv.DictReader(io.StringIO(tidy_csv(runs.table()))))
        assert [(row["model"], row["run"]) for row in rows] == [("=a", "a-1"), ("=a", "a-0")]


class TestWideCsv:
    def test_one_line_per_model_with_arrows_in_the_headers(self, runs: Runs) -> None:
        rows = list(csv.DictReader(io.StringIO(wide_csv(example(runs)))))
        assert [row["model"] for row in rows] == ["flow", "telea", "blank", "slow", "truth"]
        assert rows[1]["psnr[hole] (dB) ↑"] == "27.91"
        assert rows[1]["mse[hole] x100 ↓"] == "0.123"
        assert (rows[1]["rank"], rows[1]["clips"], rows[3]["note"]) == ("2", "8/8", "6/8 clips")

    def test_groups_with_other_columns_stay_one_rectangular_table(self, runs: Runs) -> None:
        runs("a", psnr(1.0))
        runs("a", mse(0.1), protocol="other")
        lines = list(csv.reader(io.StringIO(wide_csv(runs.table()))))
        assert len(lines) == 3
        assert {len(line) for line in lines} == {len(lines[0])}

    @pytest.mark.parametrize("first", "=+-@")
    def test_a_name_never_becomes_a_formula(self, runs: Runs, first: str) -> None:
        runs(f"{first}1+1", psnr(-1.0))
        (row,) = csv.DictReader(io.StringIO(wide_csv(runs.table())))
        assert row["model"] == f"'{first}1+1"
        assert row["psnr[hole] (dB) ↑"] == "-1.00"  # numbers stay numbers


def lines_of(text: str) -> dict[str, list[str]]:
    """The Markdown table by model."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return {line[1]: line for line in cells}


class TestMarkdown:
    def test_a_section_says_what_was_compared(self, runs: Runs) -> None:
        text = markdown(example(runs))
        assert text.startswith("### demo · pixels · raw\n\nBenchmark fingerprint 0123456789ab.\n")
        assert r"| rank | model | psnr\[hole\] (dB) ↑ | mse\[hole\] x100 ↓ | mean rank | clips | note |" in text

    def test_best_is_bold_and_second_underlined_among_ranked_rows_only(self, runs: Runs) -> None:
        lines = lines_of(markdown(example(runs)))
        assert lines["flow"][2:4] == ["**30.50**", "**0.088**"]
        assert lines["telea"][2:4] == ["<u>27.91</u>", "<u>0.123</u>"]
        assert lines["truth"][2:4] == ["100.00", "0.000"]
        assert lines["slow"][2:4] == ["29.00", "0.200"]

    def test_all_who_share_the_best_are_bold(self, runs: Runs) -> None:
        for model, value in {"a": 3.0, "b": 3.0, "c": 2.0, "d": 1.0}.items():
            runs(model, psnr(value))
        lines = lines_of(markdown(runs.table()))
        assert [lines[model][2] for model in "abcd"] == ["**3.00**", "**3.00**", "<u>2.00</u>", "1.00"]

    def test_unranked_rows_come_last_with_clips_and_reason(self, runs: Runs) -> None:
        lines = lines_of(markdown(example(runs)))
        assert list(lines)[1:] == ["flow", "telea", "blank", "slow", "truth"]
        assert lines["slow"][0] == ""
        assert lines["slow"][-2:] == ["6/8", "6/8 clips"]
        assert lines["truth"][-1] == "sees hole"

    def test_names_are_escaped(self, runs: Runs) -> None:
        runs("a|b\n<script>&*_`[x](y)", psnr(1.0))
        text = markdown(runs.table())
        assert r"| a\|b &lt;script&gt;&amp;\*\_\`\[x\](y) |" in text
        assert "<script>" not in text

    def test_columns_without_any_value_are_dropped_and_the_footnote_says_why(self, runs: Runs) -> None:
        runs("a", psnr(None, excluded=["x"], n=0), mse(0.1))
        text = markdown(runs.table())
        assert "(dB)" not in text
        assert r"* psnr\[hole\] is left out, no row has a value: x: the hole is empty." in text

    def test_footnotes_say_over_how_many_clips_the_mean_is(self, runs: Runs) -> None:
        runs("a", psnr(1.0, excluded=["x"]))
        note = r"* psnr\[hole\] is undefined on some clips and is the mean over 7 of 8 clips (a): x: the hole is empty."
        assert note in markdown(runs.table())

    def test_footnotes_tell_of_the_cap_and_of_exact_frames(self, runs: Runs) -> None:
        runs("a", psnr(1.0, signature="psnr[hole]|pooled,rgb,cap=100|v1", exact_frames=3), mse(0.1))
        text = markdown(runs.table())
        assert r"* A clip's value is capped at 100 dB in psnr\[hole\]." in text
        assert r"* psnr\[hole\]: frames that equal the reference exactly: 3 (a)." in text

    def test_footnotes_tell_what_is_absent_and_why_once_per_metric(self, runs: Runs) -> None:
        reason = "alexnet is not here; `vpbench weights get alexnet`"
        runs("a", psnr(1.0), *(column(f"lpips[{region}]", None, absent=reason) for region in ("frame", "hole")), mean_rank=["psnr[hole]"])
        text = markdown(runs.table())
        assert "* lpips\\[frame, hole\\] is absent: alexnet is not here; \\`vpbench weights get alexnet\\`." in text
        assert text.count("alexnet is not here") == 1
        runs("b", psnr(1.0), *(column(f"lpips[{region}]", 0.1) for region in ("frame", "hole")), mean_rank=["psnr[hole]"])
        assert "lpips\\[frame, hole\\] is absent for a: " in markdown(runs.table())

    def test_footnotes_tell_what_a_set_value_must_be_read_with(self, runs: Runs) -> None:
        runs("a", column("fvd[frame]", 12.0, note="8 clips for 400 features"))
        assert "* fvd\\[frame\\]: 8 clips for 400 features." in markdown(runs.table())

    def test_signatures_are_listed_once(self, runs: Runs) -> None:
        details = markdown(example(runs)).split("<details>")[1]
        assert details.count(r"psnr\[hole\]\|v1") == 1


class TestWriting:
    def test_six_files_and_nothing_else(self, runs: Runs, tmp_path: Path) -> None:
        example(runs)
        write_tables([runs.root], tmp_path / "new" / "folder")
        names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
        assert names == sorted([*(f"leaderboard.{form}" for form in ("csv", "md", "tex", "html", "json")), "leaderboard_wide.csv"])

    def test_equal_runs_give_equal_bytes_in_whatever_order(self, runs: Runs, tmp_path: Path) -> None:
        example(runs)
        runs("flow", psnr(30.5, signature="v2"), mse(0.001), run="flow-other")
        runs("flow", psnr(30.5, signature="v2"), mse(0.002), run="flow-other")
        runs("telea", psnr(1.0), benchmark="another")
        folders = sorted(runs.root.iterdir())
        found = set()
        for seed in range(10):
            random.Random(seed).shuffle(folders)
            write_tables(folders, tmp_path / "out")
            found.add(tuple(path.read_bytes() for path in sorted((tmp_path / "out").iterdir())))
        assert len(found) == 1
        assert all(b"\r" not in data for data in next(iter(found)))


def printed(table: Table, width: int, *, terminal: bool) -> str:
    out = io.StringIO()
    print_table(table, Console(file=out, width=width, force_terminal=terminal, color_system=None, legacy_windows=False))
    return out.getvalue()


class TestPrinting:
    def test_a_pipe_cuts_nothing(self, runs: Runs) -> None:
        columns = [column(f"metric{i}[background]", 12.3456 + i) for i in range(20)]
        runs("a-model-with-quite-a-long-name", *columns)
        text = printed(runs.table(), 80, terminal=False)
        assert all(f"metric{i}[background] (dB) ↑" in text and f"{12.3456 + i:.2f}" in text for i in range(20))
        assert "…" not in text
        assert len(text.splitlines()) == 3

    def test_a_name_cannot_steer_the_terminal(self, runs: Runs) -> None:
        runs("a\x1b[31m\nb", psnr(1.0))
        assert "a[31m b" in printed(runs.table(), 80, terminal=False)

    def test_reasons_stand_below_a_table_that_is_too_narrow_for_them(self, runs: Runs) -> None:
        runs("a", *(column(f"metric{i}[background]", 1.0) for i in range(5)), ok=6)
        assert printed(runs.table(), 80, terminal=True).splitlines()[-1].strip() == "a: 6/8 clips"

    def test_a_narrow_terminal_gets_the_columns_of_the_mean_rank(self, runs: Runs) -> None:
        columns = [column(f"metric{i}[background]", 12.3456 + i) for i in range(6)]
        runs("a", *columns, mean_rank=["metric0[background]", "metric1[background]"])
        runs("b", *columns, mean_rank=["metric0[background]", "metric1[background]"], ok=6)
        text = printed(runs.table(), 80, terminal=True)
        assert "12.35" in text
        assert "13.35" in text
        assert "14.35" not in text
        assert "6/8 clips" in " ".join(text.split())
        assert "14.35" in printed(runs.table(), 300, terminal=True)

    @pytest.mark.parametrize("width", [10, 40, 80])
    def test_five_columns_fit_and_no_width_crashes(self, runs: Runs, width: int) -> None:
        columns = [column(f"metric{i}[background]", 12.3456 + i) for i in range(5)]
        runs("[bold]model", *columns)
        runs("other", *columns, ok=6)
        text = printed(runs.table(), width, terminal=True)
        if width == 80:
            assert all(f"{12.3456 + i:.2f}" in text for i in range(5))
            assert "[bold]model" in text

    def test_best_is_bold(self, runs: Runs) -> None:
        assert "\x1b[1m30.50\x1b[0m" in printed_with_styles(example(runs))


def printed_with_styles(table: Table) -> str:
    out = io.StringIO()
    print_table(table, Console(file=out, width=200, force_terminal=True, color_system="standard", legacy_windows=False))
    return out.getvalue()


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, vpbench.tables, vpbench.table_formats; print(*({'torch', 'pandas', 'rich', 'cv2', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
