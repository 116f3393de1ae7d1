from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.summaries import Runs, clip_names, fvd, mse, psnr
from vpbench.errors import ConfigError, DataError
from vpbench.results import load_summaries
from vpbench.slices import BINS, DIMENSIONS, check_dimensions
from vpbench.table_formats import tidy_csv
from vpbench.table_markdown import markdown
from vpbench.tables import Group, rank


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    (tmp_path / "runs").mkdir()
    return Runs(tmp_path / "runs")


def properties(**values: list[Any]) -> dict[str, dict[str, Any]]:
    """Of clips in order, from one list per property; None where a clip lacks it."""
    count = len(next(iter(values.values())))
    return {name: {key: found[i] for key, found in values.items() if found[i] is not None} for i, name in enumerate(clip_names(count))}


def sliced(runs: Runs, *by: str) -> dict[str, Group]:
    return {group.slice: group for group in rank(load_summaries([runs.root]), by).groups}


class TestNames:
    @pytest.mark.parametrize(
        ("dimension", "value", "name"),
        [
            ("coverage", 0.0, "0-10%"),
            ("coverage", 0.0999, "0-10%"),
            ("coverage", 0.1, "10-30%"),
            ("coverage", 0.5, "50%+"),
            ("motion", 0.3, "0.1-0.5%"),
            ("length", 6.125, "5-10s"),
            ("length", 1e9, "30s+"),
        ],
    )
    def test_a_bin_holds_its_lower_end(self, dimension: str, value: float, name: str) -> None:
        assert BINS[dimension].name(value) == name

    def test_an_unknown_dimension_gets_the_nearest_and_all_names(self) -> None:
        with pytest.raises(ConfigError, match=r"--by: 'operations' is unknown. Did you mean 'operation'\? Valid: coverage, .*tag"):
            check_dimensions(["operations"])

    def test_a_dimension_named_twice_counts_once(self) -> None:
        assert check_dimensions(["tag", "motion", "tag"]) == ("tag", "motion")


class TestValues:
    def test_a_slice_is_the_mean_of_its_clips(self, runs: Runs) -> None:
        about = properties(operation=["add", "swap", "add", "swap"])
        runs("a", psnr(values=[1.0, 2.0, 3.0, 8.0]), properties=about)
        groups = sliced(runs, "operation")
        assert list(groups) == ["all", "operation=add", "operation=swap"]
        values = {name: group.rows[0].summary.cells[0].value for name, group in groups.items()}
        assert values == {"all": 3.5, "operation=add": 2.0, "operation=swap": 5.0}
        assert [(group.rows[0].summary.ok, group.rows[0].summary.total) for group in groups.values()] == [(4, 4), (2, 2), (2, 2)]

    def test_a_mean_over_frames_stays_one(self, runs: Runs) -> None:
        about = properties(operation=["add", "add", "swap"])
        runs("a", psnr(values=[1.0, 2.0, 9.0], average="frames", clip_frames=[1, 3, 5]), properties=about)
        assert sliced(runs, "operation")["operation=add"].rows[0].summary.cells[0].value == 1.75

    def test_undefined_clips_stay_undefined_and_are_counted(self, runs: Runs) -> None:
        about = properties(operation=["add", "add", "swap"])
        runs("a", psnr(values=[1.0, None, None]), properties=about)
        cells = {name: group.rows[0].summary.cells[0] for name, group in sliced(runs, "operation").items()}
        assert (cells["operation=add"].value, cells["operation=add"].n) == (1.0, 1)
        assert [clip for clip, _ in cells["operation=add"].excluded] == ["clip1"]
        assert (cells["operation=swap"].value, cells["operation=swap"].n) == (None, 0)

    def test_ranks_are_those_of_the_slice(self, runs: Runs) -> None:
        about = properties(operation=["add", "add", "swap", "swap"])
        runs("a", psnr(values=[1.0, 2.0, 8.0, 9.0]), properties=about)
        runs("b", psnr(values=[2.0, 3.0, 1.0, 1.0]), properties=about)
        best = {name: group.rows[0].label for name, group in sliced(runs, "operation").items()}
        assert best == {"all": "a", "operation=add": "b", "operation=swap": "a"}

    def test_intervals_and_ranges_are_those_of_the_slice(self, runs: Runs) -> None:
        about = properties(operation=["add"] * 9 + ["swap"])
        runs("a", psnr(values=[float(i) for i in range(10)]), properties=about)
        runs("b", psnr(values=[i + 0.5 + 0.01 * i for i in range(10)]), properties=about)
        groups = sliced(runs, "operation")
        low, high = groups["operation=add"].rows[0].intervals["psnr[hole]"]
        assert 0 < low < high < 8.6
        assert groups["operation=add"].rows[0].ranges == {"psnr[hole]": (1, 1)}
        lonely = groups["operation=swap"]
        assert [row.intervals for row in lonely.rows] == [{}, {}]
        assert [row.ranges["psnr[hole]"] for row in lonely.rows] == [(1, 2), (1, 2)]
        assert [row.places for row in lonely.rows] == [(1, 2), (1, 2)]

    def test_a_set_metric_has_no_value_and_a_note_says_why(self, runs: Runs) -> None:
        about = properties(operation=["add", "add", "swap"])
        for model in "ab":
            runs(model, psnr(values=[1.0, 2.0, 3.0]), fvd(10.0, [9.0, 10.0, 11.0]), properties=about)
        group = sliced(runs, "operation")["operation=add"]
        assert [cell.column for cell in group.defined] == ["psnr[hole]"]
        assert all(row.mean_rank == 1 for row in group.rows)
        text = markdown(rank(load_summaries([runs.root]), ["operation"]))
        assert text.count(r"fvd\[frame\] is absent: it is one value over all clips and has none in a slice.") == 2

    def test_values_that_are_not_stored_per_clip_have_none_either(self, runs: Runs) -> None:
        runs("a", psnr(1.0), mse(values=[1.0] * 8), properties=properties(operation=["add"] * 8))
        cell = sliced(runs, "operation")["operation=add"].rows[0].summary.cells[0]
        assert (cell.value, cell.absent) == (None, "its values per clip are not stored")


class TestMembership:
    def test_every_dimension_works_and_ranges_rise(self, runs: Runs) -> None:
        about = properties(
            operation=["swap", "add", None],
            coverage=[0.6, 0.02, 0.2],
            motion=[0.05, None, 2.0],
            seconds=[1.0, 40.0, 6.0],
            tags=[["b", "a"], ["a"], []],
        )
        runs("a", psnr(values=[1.0, 2.0, 3.0]), properties=about)
        assert list(sliced(runs, *DIMENSIONS)) == [
            "all",
            *("operation=add", "operation=swap", "operation=unknown"),
            *("coverage=0-10%", "coverage=10-30%", "coverage=50%+"),
            *("motion=0-0.1%", "motion=1.5%+", "motion=unknown"),
            *("length=0-2s", "length=5-10s", "length=30s+"),
            *("tag=a", "tag=b", "tag=unknown"),
        ]

    def test_a_clip_with_several_tags_is_in_each(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, 2.0]), properties=properties(tags=[["x", "y"], ["y"]]))
        found = {name: group.rows[0].summary.clips for name, group in sliced(runs, "tag").items()}
        assert found == {"all": ("clip0", "clip1"), "tag=x": ("clip0",), "tag=y": ("clip0", "clip1")}

    def test_runs_without_properties_are_unknown(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, 2.0]))
        assert list(sliced(runs, "coverage")) == ["all", "coverage=unknown"]

    def test_a_row_that_lacks_a_clip_of_the_slice_shows_it_and_is_unranked_everywhere(self, runs: Runs) -> None:
        about = properties(operation=["add", "add", "swap"])
        runs("a", psnr(values=[1.0, 2.0, 3.0]), properties=about)
        runs("b", psnr(values=[9.0]), properties=about, total=3)
        groups = sliced(runs, "operation")
        row = groups["operation=add"].rows[1]
        assert (row.label, row.reason, row.summary.ok, row.summary.total) == ("b", "1/3 clips in all", 1, 2)
        assert groups["operation=swap"].rows[1].summary.ok == 0

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ({"coverage": "much"}, "coverage of clip clip0 is 'much'"),
            ({"coverage": True}, "coverage of clip clip0 is True"),
            ({"coverage": 10**400}, "coverage of clip clip0 is 1000"),
            ({"tags": "a"}, "tags of clip clip0 is 'a'"),
        ],
    )
    def test_a_damaged_property_is_named_with_its_file(self, runs: Runs, damage: dict[str, Any], message: str) -> None:
        path = runs("a", psnr(values=[1.0, 2.0]), properties={"clip0": damage})
        with pytest.raises(DataError, match=message) as error:
            sliced(runs, "coverage", "tag")
        assert str(path) in str(error.value)


def test_the_tidy_csv_names_the_slice(runs: Runs) -> None:
    runs("a", psnr(values=[1.0, 2.0]), properties=properties(operation=["add", "swap"]))
    rows = list(csv.DictReader(io.StringIO(tidy_csv(rank(load_summaries([runs.root]), ["operation"])))))
    assert [(row["slice"], row["value"], row["clips_total"]) for row in rows] == [
        ("all", "1.5", "2"),
        ("operation=add", "1", "1"),
        ("operation=swap", "2", "1"),
    ]
