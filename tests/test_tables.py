from __future__ import annotations

import csv
import html.parser
import io
import json
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.summaries import Runs, column, fvd, mse, psnr
from vpbench import statistics
from vpbench.errors import ConfigError
from vpbench.results import load_summaries
from vpbench.table_formats import TIDY, json_text, pairs_csv, tidy_csv, wide_csv
from vpbench.table_html import html_page
from vpbench.table_latex import latex
from vpbench.table_markdown import markdown
from vpbench.tables import Options, Table, print_table, rank, table_files, write_tables


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
            pytest.param({"barred": "seeded random weights"}, "not ranked: seeded random weights", id="random weights"),
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
            "mean_rank,mean_rank_low,mean_rank_high,place,place_low,place_high,ranked,reason,notes,signature"
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
        assert r"| rank | model | mean rank | psnr\[hole\] (dB) ↑ | mse\[hole\] x100 ↓ | clips | note |" in text

    def test_best_is_bold_and_second_underlined_among_ranked_rows_only(self, runs: Runs) -> None:
        lines = lines_of(markdown(example(runs)))
        assert lines["flow"][3:5] == ["**30.50**", "**0.088**"]
        assert lines["telea"][3:5] == ["<u>27.91</u>", "<u>0.123</u>"]
        assert lines["truth"][3:5] == ["100.00", "0.000"]
        assert lines["slow"][3:5] == ["29.00", "0.200"]

    def test_all_who_share_the_best_are_bold(self, runs: Runs) -> None:
        for model, value in {"a": 3.0, "b": 3.0, "c": 2.0, "d": 1.0}.items():
            runs(model, psnr(value))
        lines = lines_of(markdown(runs.table()))
        assert [lines[model][3] for model in "abcd"] == ["**3.00**", "**3.00**", "<u>2.00</u>", "1.00"]

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
        assert "* lpips\\[frame, hole\\] are absent: alexnet is not here; `vpbench weights get alexnet`." in text
        assert text.count("alexnet is not here") == 1
        runs("b", psnr(1.0), *(column(f"lpips[{region}]", 0.1) for region in ("frame", "hole")), mean_rank=["psnr[hole]"])
        assert "lpips\\[frame, hole\\] are absent for a: " in markdown(runs.table())

    def test_footnotes_tell_what_a_set_value_must_be_read_with(self, runs: Runs) -> None:
        runs("a", column("fvd[frame]", 12.0, note="8 clips for 400 features"))
        assert "* fvd\\[frame\\]: 8 clips for 400 features." in markdown(runs.table())

    def test_signatures_are_listed_once(self, runs: Runs) -> None:
        details = markdown(example(runs)).split("<details>")[1]
        assert details.count(r"psnr\[hole\]\|v1") == 1


class TestColumns:
    """Those of the mean rank come first in what people read; LaTeX has no others unless they are asked for."""

    @pytest.fixture
    def table(self, runs: Runs) -> Table:
        ssim = column("ssim[hole]", 0.9, unit="")
        runs("a", psnr(3.0), ssim, mse(0.1), column("psnr[frame]", 4.0), mean_rank=["mse[hole]", "ssim[hole]"])
        return runs.table()

    def headers(self, table: Table, columns: tuple[str, ...]) -> dict[str, list[str]]:
        files = table_files(table, Options(columns=columns))
        md = next(line for line in files["leaderboard.md"].splitlines() if line.startswith("| rank"))
        tex = next(line for line in files["leaderboard.tex"].splitlines() if line.startswith("rank &"))
        page = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', files["leaderboard.html"])
        cells = {"md": md.strip("| ").replace("\\", "").split(" | "), "tex": tex.removesuffix(r" \\").split(" & "), "html": page}
        return {form: [re.sub(r"\].*", "]", name) for name in names] for form, names in cells.items()}

    def test_by_default(self, table: Table) -> None:
        first = ["rank", "model", "mean rank", "mse[hole]", "ssim[hole]"]
        every = [*first, "psnr[hole]", "psnr[frame]", "clips", "note"]
        assert self.headers(table, ()) == {"md": every, "html": every, "tex": [*first, "clips", "note"]}
        wide = next(csv.reader(io.StringIO(wide_csv(table, intervals=False))))
        names = [name.split(" ")[0] for name in wide[8:]]
        assert names == ["mean", "mse[hole]", "ssim[hole]", "psnr[hole]", "psnr[frame]", "clips", "note"]

    @pytest.mark.parametrize(
        ("columns", "shown"),
        [
            (("all",), ["mse[hole]", "ssim[hole]", "psnr[hole]", "psnr[frame]"]),
            (("psnr[frame]", "ssim"), ["psnr[frame]", "ssim[hole]"]),
            (("psnr",), ["psnr[hole]", "psnr[frame]"]),
        ],
    )
    def test_as_chosen(self, table: Table, columns: tuple[str, ...], shown: list[str]) -> None:
        for headers in self.headers(table, columns).values():
            assert headers == ["rank", "model", "mean rank", *shown, "clips", "note"]

    def test_an_unknown_name_gets_the_nearest(self, table: Table) -> None:
        with pytest.raises(ConfigError, match=r"--columns: 'pnsr' is unknown\. Did you mean 'psnr'"):
            table_files(table, Options(columns=("pnsr",)))

    def test_notes_are_those_of_the_columns(self, runs: Runs) -> None:
        capped = psnr(1.0, signature="psnr[hole]|x,cap=100|v1")
        runs("a", capped, mse(0.1), column("lpips[hole]", None, absent="no weights"), mean_rank=["mse[hole]"])
        table = runs.table()
        assert "capped" not in latex(table)
        assert "absent" not in latex(table)
        assert "A clip's value is capped at 100 dB in psnr[hole].\n" in latex(table, columns=["all"])
        assert "lpips[hole] is absent: no weights.\n" in latex(table, columns=["lpips"])


class TestNotesOfAFile:
    def test_absent_weights_are_told_once_and_not_under_every_slice(self, runs: Runs) -> None:
        lpips = column("lpips[hole]", None, absent="no weights; `vpbench weights get a_b`")
        about = {"clip0": {"operation": "add"}, "clip1": {"operation": "swap"}}
        runs("a", psnr(values=[1.0, 2.0]), lpips, mean_rank=["psnr[hole]", "lpips[hole]"], properties=about)
        table = rank(load_summaries([runs.root]), ["operation"])
        assert len(table.groups) == 3
        files = table_files(table, Options())
        for form, command in {"md": "`{}`", "html": "<code>{}</code>", "tex": "\\texttt{{{}}}"}.items():
            text = files[f"leaderboard.{form}"]
            assert text.count("no weights") == 1
            name = "vpbench weights get a\\_b" if form == "tex" else "vpbench weights get a_b"
            assert f"no weights; {command.format(name)}." in text

    def test_one_clip_says_nothing_of_noise(self, runs: Runs) -> None:
        about = {f"clip{i}": {"operation": "add" if i else "swap"} for i in range(4)}
        for model, values in zip("ab", noisy(4, 0, 0.1), strict=True):
            runs(model, psnr(values=values), properties=about)
        several, _, alone = markdown(rank(load_summaries([runs.root]), ["operation"])).split("### ")[1:]
        assert "resampled clips give" in several
        assert "resampled clips give" not in alone
        assert "t-test" not in alone
        assert "There is one clip, and nothing can be said about noise: ranges hold every rank." in alone


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


def noisy(count: int, *means: float, noise: float = 1.0) -> list[list[float]]:
    """Values per clip of several models: clips differ much, models by their mean and some noise."""
    rng = np.random.default_rng(7)
    hard = rng.normal(0, 5, count)
    return [(25 + hard + mean + rng.normal(0, noise, count)).tolist() for mean in means]


class TestIntervals:
    def test_each_cell_has_that_of_a_bootstrap_over_its_clips(self, runs: Runs) -> None:
        for model, values in zip("abc", noisy(12, 0, 1, 2), strict=True):
            runs(model, psnr(values=values), mse(values=[v / 100 for v in values]), ranked=model != "c")
        for row in runs.group().rows:
            for cell in row.summary.cells:
                assert row.intervals[cell.column] == pytest.approx(statistics.bootstrap_interval(cell.clips), rel=1e-12)

    def test_clips_weigh_as_in_the_mean(self, runs: Runs) -> None:
        values, frames = [1.0, 2.0, None, 9.0], [10, 20, 0, 400]
        runs("a", psnr(values=values, average="frames", clip_frames=frames), mse(values=[1.0, 2.0, 3.0, 9.0]))
        row = runs.rows()["a"]
        defined = np.array([1.0, 2.0, np.nan, 9.0])
        assert row.intervals["psnr[hole]"] == pytest.approx(statistics.bootstrap_interval(defined, np.array(frames, float)))

    def test_a_row_that_lacks_clips_has_draws_of_its_own(self, runs: Runs) -> None:
        full, part = noisy(8, 0, 1)
        runs("full", psnr(values=full))
        runs("part", psnr(values=part[:5]), total=8)
        assert runs.rows()["part"].intervals["psnr[hole]"] == pytest.approx(statistics.bootstrap_interval(np.array(part[:5])))

    def test_a_row_of_other_clips_moves_nothing_of_the_others(self, runs: Runs) -> None:
        for model, values in zip("abc", noisy(8, 0, 0.5, 1), strict=True):
            runs(model, psnr(values=values))
        before = runs.group()
        runs("longer", psnr(values=noisy(9, 0)[0]))
        after = runs.group()
        assert after.rows[:3] == before.rows
        assert after.rows[3].reason == "not ranked: it was scored on other clips"
        assert after.rows[3].intervals["psnr[hole]"] == pytest.approx(statistics.bootstrap_interval(np.array(noisy(9, 0)[0])))

    def test_a_set_metric_has_that_of_the_jackknife(self, runs: Runs) -> None:
        runs("a", fvd(10.0, [9.0, 10.0, 11.5]))
        low, high = runs.rows()["a"].intervals["fvd[frame]"]
        assert (low, high) == statistics.jackknife_interval(10.0, np.array([9.0, 10.0, 11.5]))

    @pytest.mark.parametrize("values", [[3.0], [3.0, None]])
    def test_one_clip_has_none_and_that_is_no_error(self, runs: Runs, values: list[float | None]) -> None:
        for model in "ab":
            runs(model, psnr(values=values))
        table = runs.table()
        assert [row.intervals for row in table.groups[0].rows] == [{}, {}]
        for text in table_files(table, Options(pairs=True)).values():
            assert "nan" not in text

    def test_summaries_without_values_per_clip_have_none(self, runs: Runs) -> None:
        runs("a", psnr(3.0))
        runs("b", psnr(4.0))
        assert [(row.intervals, row.ranges, row.places) for row in runs.group().rows] == [({}, {}, None)] * 2


class TestNoise:
    def test_models_inside_the_noise_share_a_range_and_bold_stays_with_the_best_value(self, runs: Runs) -> None:
        for model, values in zip("abc", noisy(30, 3.05, 3, 0), strict=True):
            runs(model, psnr(values=values))
        rows = runs.rows()
        assert {label: row.ranges["psnr[hole]"] for label, row in rows.items()} == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}
        lines = lines_of(markdown(runs.table(), intervals=False))
        best = "a" if rows["a"].ranks["psnr[hole]"] == 1 else "b"
        assert lines[best][3].startswith("**")
        assert lines[best][3].endswith("** <sup>1-2</sup>")
        assert "<sup>" not in lines["c"][3]

    def test_equal_models_share_everything(self, runs: Runs) -> None:
        (values,) = noisy(12, 0)
        for model in "ab":
            runs(model, psnr(values=values))
        found = [(row.place, row.places, row.ranges["psnr[hole]"], row.mean_rank, row.mean_rank_interval) for row in runs.group().rows]
        assert found == [(1, (1, 2), (1, 2), 1.0, (1.0, 1.0))] * 2

    def test_set_metrics_are_compared_by_the_jackknife_of_their_difference(self, runs: Runs) -> None:
        rng = np.random.default_rng(0)
        shared = rng.normal(0, 1, 20)
        for model, value in {"a": 10.0, "b": 10.01, "c": 14.0}.items():
            runs(model, fvd(value, (value + shared + rng.normal(0, 0.01, 20)).tolist()))
        ranges = {label: row.ranges["fvd[frame]"] for label, row in runs.rows().items()}
        assert ranges == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}

    def test_the_mean_rank_has_an_interval_and_a_range_of_places(self, runs: Runs) -> None:
        for model, values in zip("abcd", noisy(20, 9, 0.1, 0, -9), strict=True):
            runs(model, psnr(values=values), mse(values=[-v for v in values], direction="lower"))
        rows = runs.rows()
        assert (rows["a"].mean_rank_interval, rows["a"].places) == ((1.0, 1.0), (1, 1))
        assert (rows["d"].mean_rank_interval, rows["d"].places) == ((4.0, 4.0), (4, 4))
        assert rows["b"].places == rows["c"].places == (2, 3)
        assert rows["b"].mean_rank_interval == (2.0, 3.0)

    def test_a_set_metric_keeps_its_rank_in_the_mean_rank_and_a_note_says_so(self, runs: Runs) -> None:
        swaying = [float(i % 2) for i in range(20)]
        runs("a", psnr(values=swaying), fvd(5.0, [5.0] * 20))
        runs("b", psnr(values=[1 - value for value in swaying]), fvd(4.0, [4.0] * 20))
        assert runs.rows()["a"].mean_rank_interval == (1.5, 2.0)
        assert runs.rows()["b"].mean_rank_interval == (1.0, 1.5)
        assert r"fvd\[frame\] cannot be resampled and keeps its rank" in markdown(runs.table())

    @given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_every_range_and_interval_holds_the_value_itself(self, models: int, clips: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            runs = Runs(Path(folder))
            for model in range(models):
                runs(
                    f"m{model}", psnr(values=rng.integers(0, 4, clips).astype(float).tolist()), mse(values=rng.normal(size=clips).tolist())
                )
            for row in runs.group().rows:
                assert row.places
                assert row.place
                assert row.mean_rank_interval
                assert row.places[0] <= row.place <= row.places[1]
                assert row.mean_rank_interval[0] <= row.mean_rank <= row.mean_rank_interval[1]  # type: ignore[operator]
                assert all(row.ranges[name][0] <= rank <= row.ranges[name][1] for name, rank in row.ranks.items())

    def test_rows_scored_on_other_clips_are_not_ranked_together(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, 2.0]))
        runs("b", psnr(values=[1.0, 3.0]))
        other = json.loads((runs("c", psnr(values=[5.0, 6.0]), folder="c") / "scores" / "pixels-raw" / "summary.json").read_text())
        other["clips"]["names"] = ["x", "y"]
        (runs.root / "c" / "scores" / "pixels-raw" / "summary.json").write_text(json.dumps(other))
        assert runs.rows()["c"].reason == "not ranked: it was scored on other clips"

    def test_no_common_clips_is_no_error(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, None]))
        runs("b", psnr(values=[None, 2.0]))
        ranked, other = runs.group().rows
        assert ranked.ranks == {"psnr[hole]": 1}
        assert (other.ranks, other.reason) == ({}, "not ranked: psnr[hole] is undefined on other clips")


class TestPowerNote:
    def test_it_names_the_first_neighbours_inside_the_noise_and_the_clips_it_takes(self, runs: Runs) -> None:
        values = noisy(12, 9, 0.3, 0)
        for model, found in zip("abc", values, strict=True):
            runs(model, psnr(values=found))
        pair = statistics.paired(np.array(values[1]), np.array(values[2]))
        needed = statistics.clips_needed(pair.difference, pair.deviation, alpha=0.05 / 2)
        first, second = ("b", "c") if pair.difference > 0 else ("c", "b")
        assert needed is not None
        assert needed > 12
        wanted = (
            f"to see {abs(pair.difference):.2g} dB of psnr\\[hole\\] between {first} and {second} you need about {needed:,} clips (here 12)"
        )
        assert wanted in markdown(runs.table())

    def test_there_is_none_where_all_are_told_apart_or_equal(self, runs: Runs) -> None:
        for model, found in zip("ab", noisy(12, 9, 0), strict=True):
            runs(model, psnr(values=found))
        runs("c", psnr(values=noisy(12, 9, 0)[1]))
        assert "power" not in markdown(runs.table())


class TestPairs:
    def test_every_pair_with_interval_and_corrected_p(self, runs: Runs) -> None:
        values = dict(zip("abc", noisy(12, 3, 1.5, 0), strict=True))
        for model, found in values.items():
            runs(model, psnr(values=found))
        rows = list(csv.DictReader(io.StringIO(pairs_csv(runs.table()))))
        assert [(row["model"], row["other"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
        expected = [statistics.paired(np.array(values[row["model"]]), np.array(values[row["other"]])) for row in rows]
        assert [float(row["difference"]) for row in rows] == pytest.approx([pair.difference for pair in expected], rel=1e-5)
        assert [float(row["p"]) for row in rows] == pytest.approx([pair.p for pair in expected], rel=1e-3)
        assert [float(row["p_holm"]) for row in rows] == pytest.approx(statistics.holm([pair.p for pair in expected]), rel=1e-3)
        assert [float(row["low"]) for row in rows] == pytest.approx([pair.interval()[0] for pair in expected], rel=1e-4, abs=1e-4)

    def test_they_are_written_when_asked_for_and_gone_when_not(self, runs: Runs, tmp_path: Path) -> None:
        runs("a", psnr(values=[1.0, 2.0]))
        write_tables([runs.root], tmp_path / "out", Options(pairs=True))
        assert (tmp_path / "out" / "pairs.csv").exists()
        write_tables([runs.root], tmp_path / "out")
        assert not (tmp_path / "out" / "pairs.csv").exists()


class TestUnderSampled:
    def test_fewer_clips_than_features_are_marked_in_every_form(self, runs: Runs) -> None:
        runs("a", fvd(10.0, [9.0, 10.0, 11.0]))
        files = table_files(runs.table(), Options())
        assert "10.00† ± " in files["leaderboard.md"]
        assert r"† fvd\[frame\] is under-sampled: 3 clips for features of 400 dimensions." in files["leaderboard.md"]
        assert "10.00†" in files["leaderboard.html"]
        assert r"10.00$^\dagger$" in files["leaderboard.tex"]
        assert next(csv.DictReader(io.StringIO(files["leaderboard.csv"])))["under_sampled"] == "yes"
        assert json.loads(files["leaderboard.json"])["tables"][0]["rows"][0]["cells"]["fvd[frame]"]["under_sampled"] is True

    def test_enough_clips_are_not(self, runs: Runs) -> None:
        runs("a", fvd(10.0, [9.0, 10.0, 11.0], dimensions=3))
        assert "†" not in markdown(runs.table())


class Reader(html.parser.HTMLParser):
    """What a browser would see: the tags that occur, and the text of every cell."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.cells: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag in ("td", "th"):
            self._inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "quotes": '"\' onmouseover="x',
    "entity": "a &amp; b &#60;",
    "pipes": "a | b \\| c",
    "markdown": "**b** _i_ `code` [x](y) # ~~s~~ $x^2$ ![i](j)",
    "latex": r"\input{/etc/passwd} 50% & $x_1^2$ #1 {a} ~ \\ -- a---b `q` |<>|",
    "lines": "one\ntwo\r\nthree\u2028four\x85five\tsix",
    "rtl": "مرحبا بالعالم שלום",
    "override": "abc\u202edcba\u2066x\u2069",
    "control": "a\x00\x1b[31m\x07b",
    "formula": "=HYPERLINK(1)",
    "long": "very long " * 500,
    "unbroken": "x" * 5000,
    "accents": "é" + "e\u0301" * 3000,
    "emoji": "👩\u200d🔬 \U0001f600",
    "empty": "",
    "spaces": "   ",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
class TestHostileNames:
    """Names that people or files bring along must neither break a form nor be lost in those for machines."""

    @pytest.fixture
    def files(self, runs: Runs, name: str) -> dict[str, str]:
        about = {clip: {"operation": name, "tags": [name]} for clip in ("clip0", "clip1", "clip2")}
        runs(name, psnr(values=[1.0, 2.0, 4.0]), properties=about)
        runs("plain", psnr(values=[2.0, 1.0, 3.5]), properties=about)
        runs("partial", psnr(values=[2.0, 1.0], signature=name), properties=about, total=3)
        return table_files(rank(load_summaries([runs.root]), ["tag"]), Options(by=("tag",), pairs=True))

    def test_machine_forms_hold_it_as_it_is(self, files: dict[str, str], name: str) -> None:
        rows = list(csv.DictReader(io.StringIO(files["leaderboard.csv"], newline="")))
        assert sum(row["model"] == name for row in rows) == 2
        assert all(None not in row.values() and None not in row for row in rows)
        pairs = list(csv.DictReader(io.StringIO(files["pairs.csv"], newline="")))
        assert [{pair["model"], pair["other"]} for pair in pairs] == [{name, "plain"}] * 2
        tables = json.loads(files["leaderboard.json"])["tables"]
        assert all(name in [row["label"] for row in table["rows"]] for table in tables)

    def test_the_wide_csv_stays_rectangular_and_starts_no_formula(self, files: dict[str, str], name: str) -> None:
        lines = list(csv.reader(io.StringIO(files["leaderboard_wide.csv"], newline="")))
        assert len(lines) == 7
        assert {len(line) for line in lines} == {len(lines[0])}
        assert not any(cell.startswith(("=", "@", "\t")) for line in lines for cell in line)

    def test_markdown_keeps_its_cells_and_runs_nothing(self, files: dict[str, str], name: str) -> None:
        text = files["leaderboard.md"]
        rows = [line for line in text.split("\n") if line.startswith("|")]
        assert len(rows) == 2 * 5
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {7}
        allowed = r"</?(?:u|sup|details|summary)>"
        assert not re.findall(r"<[a-zA-Z/!]", re.sub(allowed, "", text))
        assert max(map(len, rows)) < 600
        assert not set(text) & set("\u202e\u2066\u2028\x00\x1b\x07\x85")

    def test_html_shows_it_and_runs_nothing(self, files: dict[str, str], name: str) -> None:
        page = Reader(files["leaderboard.html"])
        assert set(page.tags) <= {
            *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "thead", "tbody", "tr", "th", "td"),
            *("bdi", "b", "u", "sup", "small", "ul", "li", "details", "summary", "code"),
        }
        assert page.tags["tr"] == 2 * 4
        flat = " ".join(name.split())
        shown = "".join(c for c in flat if c.isprintable() or c == "\u200d")
        if len(shown) <= 80:
            assert shown in page.cells
        assert max(map(len, page.cells)) <= 80
        assert "http" not in files["leaderboard.html"].replace('http-equiv="Content-Security-Policy"', "")

    def test_latex_holds_no_special_that_was_not_meant(self, files: dict[str, str], name: str) -> None:
        for line in files["leaderboard.tex"].split("\n"):
            if line.startswith("%") or line == r"\par\smallskip\begingroup\footnotesize\raggedright":
                continue
            meant = re.sub(r"\\(?:begin|end)\{tabular\}(?:\{[rl]+\})?|\$\\(?:pm|uparrow|downarrow|cdot)\$|\$\^\\dagger\$", "", line)
            meant = re.sub(r"\\[#$%&_{}]|\\\\$|\\[a-zA-Z]+\d*", "", meant)
            assert not set(meant) & set('\\#$%_^~<>|`"')
            assert meant.count("{") == meant.count("}")
            assert meant.count("&") in (0, 5)
            assert len(line) < 900


class TestLatex:
    def test_a_table_of_booktabs(self, runs: Runs) -> None:
        text = latex(example(runs))
        assert r"rank & model & mean rank & psnr[hole] (dB) $\uparrow$ & mse[hole] x100 $\downarrow$ & clips & note \\" in text
        assert r"1 & flow & 1.00 & \textbf{30.50} & \textbf{0.088} & 8/8 &  \\" in text
        assert r"2 & telea & 2.00 & \underline{27.91} & \underline{0.123} & 8/8 &  \\" in text
        assert text.index("telea") < text.index("\\midrule\n & blank") < text.index("\\bottomrule")

    def test_intervals_and_ranges(self, runs: Runs) -> None:
        for model, values in zip("ab", noisy(12, 0.1, 0), strict=True):
            runs(model, psnr(values=values))
        row = runs.group().rows[0]
        low, high = row.intervals["psnr[hole]"]
        value = f"\\textbf{{{row.summary.cells[0].text}}} {{\\scriptsize$\\pm${(high - low) / 2:.2f}}}\\textsuperscript{{1--2}}"
        assert value in latex(runs.table())
        assert "scriptsize" not in latex(runs.table(), intervals=False)


class TestHtml:
    def test_cells_have_their_interval_below_and_no_script(self, runs: Runs) -> None:
        for model, values in zip("ab", noisy(12, 0.1, 0), strict=True):
            runs(model, psnr(values=values))
        page = html_page(runs.table())
        row = runs.group().rows[0]
        low, high = row.intervals["psnr[hole]"]
        assert f"<b>{row.summary.cells[0].text}</b> <sup>1-2</sup><small>{low:.2f} to {high:.2f}</small>" in page
        assert "prefers-color-scheme" in page or "light-dark(" in page
        assert "<script" not in page
        assert f"{low:.2f} to" not in html_page(runs.table(), intervals=False)


class TestJson:
    def test_it_holds_what_the_tidy_csv_holds_and_the_options(self, runs: Runs) -> None:
        for model, values in zip("ab", noisy(12, 0.1, 0), strict=True):
            runs(model, psnr(values=values), mse(None, absent="no weights"))
        found = json.loads(json_text(runs.table(), Options(by=("tag",), intervals=False)))
        assert found["options"] == {"by": ["tag"], "intervals": False, "pairs": False, "columns": []}
        tidy = next(csv.DictReader(io.StringIO(tidy_csv(runs.table()))))
        row = found["tables"][0]["rows"][0]
        cell = row["cells"]["psnr[hole]"]
        assert (row["model"], row["place"], row["ranked"]) == (tidy["model"], 1, True)
        assert [cell[key] for key in ("value", "low", "high")] == [float(tidy[key]) for key in ("value", "low", "high")]
        assert row["cells"]["mse[hole]"]["absent"] == "no weights"
        assert "value" not in row["cells"]["mse[hole]"]


def test_the_ends_of_intervals_stand_in_every_form(runs: Runs) -> None:
    for model, values in zip("ab", noisy(12, 0.1, 0), strict=True):
        runs(model, psnr(values=values))
    low, high = runs.group().rows[0].intervals["psnr[hole]"]
    files = table_files(runs.table(), Options())
    tidy = next(csv.DictReader(io.StringIO(files["leaderboard.csv"])))
    wide = next(csv.DictReader(io.StringIO(files["leaderboard_wide.csv"])))
    assert (float(tidy["low"]), float(tidy["high"])) == pytest.approx((low, high), rel=1e-5)
    assert (wide["psnr[hole] (dB) ↑ low"], wide["psnr[hole] (dB) ↑ high"]) == (f"{low:.2f}", f"{high:.2f}")
    assert f"± {(high - low) / 2:.2f}" in files["leaderboard.md"]
    assert "psnr[hole] (dB) ↑ low" not in table_files(runs.table(), Options(intervals=False))["leaderboard_wide.csv"]
