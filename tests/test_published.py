"""Published numbers: the committed files agree with themselves, are shown as printed, and bad files are refused with the line."""

from __future__ import annotations

import csv
import math
import re
from decimal import Decimal
from pathlib import Path

import pytest

from tests.test_cli import loaded_after
from vpbench import published
from vpbench.cli import main
from vpbench.errors import ConfigError, DataError
from vpbench.published import COLUMNS, Number, read_numbers, tables

FOLDER = Path(__file__).resolve().parent.parent / "leaderboards" / "published"
GOOD = {
    "source": "arXiv:2503.05639",
    "where": "Table 2",
    "benchmark": "VPBench",
    "split": "inpaint",
    "model": "ProPainter",
    "metric": "LPIPS",
    "unit": "",
    "direction": "lower",
    "scale": "100",
    "printed": "9.89",
    "value": "0.0989",
    "protocol": "not said",
    "digits": "high",
    "digits_why": "read in the paper",
    "meaning": "low",
    "meaning_why": "the region is not said",
}


@pytest.fixture(scope="module")
def committed() -> list[Number]:
    return [number for group in tables(FOLDER).values() for table in group for number in table.numbers]


def written(folder: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    file = folder / "mine.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return file


def by_row(numbers: list[Number]) -> dict[tuple[str, ...], dict[str, Number]]:
    found: dict[tuple[str, ...], dict[str, Number]] = {}
    for number in numbers:
        found.setdefault((number.source, number.where, number.benchmark, number.split, number.model), {})[number.metric] = number
    return found


def rounding(number: Number) -> float:
    """Half a unit of the last printed digit, in the natural unit."""
    return float(Decimal(5).scaleb(-len(number.printed.partition(".")[2]) - 1) / number.scale)


def test_means_of_psnr_are_at_least_the_psnr_of_the_mean_error(committed: list[Number]) -> None:
    rows = [row for row in by_row(committed).values() if {"PSNR", "MSE"} <= set(row)]
    assert len(rows) == 32
    for row in rows:
        worst = -10 * math.log10(float(row["MSE"].value) + rounding(row["MSE"]))
        assert float(row["PSNR"].value) + rounding(row["PSNR"]) >= worst, row["PSNR"]


def test_mean_absolute_errors_are_at_most_the_root_of_the_mean_square(committed: list[Number]) -> None:
    rows = [row for row in by_row(committed).values() if {"MAE", "MSE"} <= set(row)]
    assert len(rows) == 32
    for row in rows:
        assert float(row["MAE"].value) - rounding(row["MAE"]) <= math.sqrt(float(row["MSE"].value) + rounding(row["MSE"])), row["MAE"]


def test_values_lie_where_the_metric_allows(committed: list[Number]) -> None:
    for number in committed:
        value = float(number.value)
        if number.metric == "SSIM" or number.metric.startswith("preferred"):
            assert 0 <= value <= 1, number
        elif number.unit == "dB":
            assert 5 < value < 50, number
        elif number.metric in ("MSE", "MAE", "LPIPS", "CLIP Sim", "CLIP Sim (M)", "CLIP-M"):
            assert 0 < value < 1, number  # a forgotten x100 would be above
        assert value > 0, number


def test_shares_of_a_study_add_up_to_at_most_one(committed: list[Number]) -> None:
    sums: dict[tuple[str, str], Decimal] = {}
    for number in committed:
        if number.metric.startswith("preferred"):
            sums[number.split, number.metric] = sums.get((number.split, number.metric), Decimal(0)) + number.value
    assert len(sums) == 6
    assert all(total <= Decimal("1.001") for total in sums.values()), sums


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("Table 2", "inpaint", "VideoPainter"), ("Tables 5 and 7-9", "inpaint", "VideoPainter: full"), id="ablation"),
        pytest.param(("Table 2", "inpaint_long", "VideoPainter"), ("Tables 5 and 7-9", "inpaint_long", "VideoPainter: full"), id="long"),
    ],
)
def test_a_row_that_a_paper_prints_twice_is_the_same(committed: list[Number], one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def printed(where: str, split: str, model: str) -> dict[str, str]:
        alike = [n for n in committed if n.where.startswith(where) and n.benchmark == "VPBench" and (n.split, n.model) == (split, model)]
        return {n.metric: n.printed for n in alike}

    assert printed(*one) == printed(*other) != {}


@pytest.mark.parametrize("model", ["ReVideo", "VideoPainter"])
def test_rows_that_a_later_paper_repeats_have_the_digits_of_the_first(committed: list[Number], model: str) -> None:
    first = {
        n.metric: n.value for n in committed if n.source == "arXiv:2503.05639" and (n.where, n.split, n.model) == ("Table 3", "edit", model)
    }
    later = {n.metric: n.value for n in committed if n.source == "arXiv:2602.15031" and (n.split, n.model) == ("edit", model)}
    for metric, theirs in (("PSNR", "PSNR"), ("SSIM", "SSIM"), ("LPIPS", "LPIPS"), ("CLIP-M", "CLIP Sim (M)")):
        assert later[metric] == first[theirs]


def test_all_masked_columns_of_doubt_are_marked(committed: list[Number]) -> None:
    doubtful = [n for n in committed if n.source == "arXiv:2503.05639" and not n.metric.startswith("preferred")]
    assert {n.meaning for n in doubtful} == {"low"}
    assert {n.digits for n in doubtful} == {"high"}


def test_the_command_prints_the_digits_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "videopainter", "--folder", str(FOLDER)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ProPainter +20\.97 +\.87 +9\.89 +1\.24 +3\.56 +7\.31 +17\.18 +\.44$", out, re.M)
    assert "LPIPS x100 ↓" in out
    assert "published, not measured here" in out
    assert "E2FGVI" not in out


def test_the_command_imports_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_after(f"from vpbench.cli import main; main(['published', '--folder', {str(FOLDER)!r}])", tmp_path) == []


def test_the_committed_markdown_is_what_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "--folder", str(FOLDER), "--markdown", str(tmp_path / "README.md")]) == 0
    command = "vpbench published --markdown leaderboards/published/README.md"
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text(), f"run `{command}`"


def test_every_number_is_in_the_markdown_once(committed: list[Number]) -> None:
    cells = re.findall(r"(?<=\| )[\d.]+(?= \|)", (FOLDER / "README.md").read_text())
    assert sorted(cells) == sorted(number.printed for number in committed)


def test_the_format_is_documented(committed: list[Number]) -> None:
    page = (FOLDER.parent / "README.md").read_text()
    for column in COLUMNS:
        assert f"`{column}`" in page


def test_a_good_file_loads(tmp_path: Path) -> None:
    (number,) = read_numbers(written(tmp_path, GOOD))
    assert number.header == "LPIPS x100 ↓"
    assert number.value == Decimal("0.0989")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"value": "0.989"}, "value 0.989 times scale 100 is not the 9.89", id="scale forgotten"),
        pytest.param({"printed": "9.89%"}, "printed is '9.89%'", id="printed is no number"),
        pytest.param({"source": ""}, "source is empty", id="no source"),
        pytest.param({"source": "a blog"}, "expected arXiv:ID", id="unknown source"),
        pytest.param({"where": ""}, "where is empty", id="no table"),
        pytest.param({"digits_why": ""}, "digits_why is empty", id="no reason"),
        pytest.param({"direction": "up"}, "direction: 'up' is unknown", id="direction"),
        pytest.param({"meaning": "hgih"}, "Did you mean 'high'?", id="certainty"),
        pytest.param({"scale": "many"}, "is no number", id="scale is no number"),
        pytest.param({"scale": "-100", "value": "-0.0989"}, "scale is -100", id="negative scale"),
        pytest.param({"scale": "NaN", "value": "NaN"}, "scale is NaN", id="scale nan"),
        pytest.param({"model": " ProPainter"}, "leave out spaces", id="spaces"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    file = written(tmp_path, {**GOOD, "metric": "MAE"}, {**GOOD, **changes})
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        read_numbers(file)
    assert f"{file}, row 3" in str(refused.value)


def test_the_same_cell_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 3: the same cell as row 2 .*ProPainter"):
        read_numbers(written(tmp_path, GOOD, GOOD))


def test_a_metric_has_one_scale_in_a_file(tmp_path: Path) -> None:
    other = {**GOOD, "model": "COCOCO", "scale": "1", "value": "9.89"}
    with pytest.raises(DataError, match="one metric has one unit and scale"):
        read_numbers(written(tmp_path, GOOD, other))


def test_unknown_and_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'printed'"):
        read_numbers(written(tmp_path, GOOD, columns=(*COLUMNS[:-1], "print")))
    with pytest.raises(DataError, match="expected the columns"):
        read_numbers(written(tmp_path, GOOD, columns=COLUMNS[:-1]))


def test_an_empty_file_and_one_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("")
    with pytest.raises(DataError, match="found none"):
        read_numbers(tmp_path / "mine.csv")
    with pytest.raises(DataError, match="holds no numbers"):
        read_numbers(written(tmp_path))


def test_names_and_folders_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "videopainters", "--folder", str(FOLDER)]) == 2
    assert "Did you mean 'videopainter'" in capsys.readouterr().err
    assert main(["published", "--folder", str(tmp_path)]) == 2
    assert "holds no published tables" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(published, "CHECKOUT", tmp_path)
    with pytest.raises(ConfigError, match="--folder DIR"):
        tables()
