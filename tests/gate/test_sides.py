"""Where the two sides come from: run folders, saved baselines, leaderboards; and which of several is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import custom
from tests.gate.made import cell, summary
from vpbench.cli import main
from vpbench.errors import ConfigError, DataError
from vpbench.gate import gate
from vpbench.gate_sides import Choice, choose, load_side
from vpbench.results import Summary, load_summaries
from vpbench.running import Result

Execute = Callable[..., Result]


def result(model: str = "a", protocol: str = "pixels", track: str = "raw", run: str = "", **changes: object) -> Summary:
    return summary(cell("psnr", [1.0, 2.0]), model=model, protocol=protocol, track=track, run=run or f"{model}-1", **changes)


class TestChoice:
    def test_one_of_each_is_the_pair_whatever_the_models_are_called(self) -> None:
        one, other = result("a"), result("b")
        assert choose([one], [other], Choice()) == (one, other)

    def test_protocol_and_track_must_agree(self) -> None:
        wanted = result("a", "standard", "composite")
        found = choose([result("a"), wanted], [result("a", "standard", "raw"), wanted], Choice())
        assert found == (wanted, wanted)

    def test_nothing_in_common_is_said_with_what_each_side_has(self) -> None:
        found = choose([result(protocol="standard")], [result(track="composite"), result()], Choice())
        assert found == "nothing to compare: the baseline has standard raw, the candidate has pixels composite, pixels raw"

    @pytest.mark.parametrize("name", ["model", "fingerprint", "benchmark"])
    def test_equal_models_and_data_decide_between_several(self, name: str) -> None:
        mine = result(**{name: "x"})
        others = [result(run=f"r{i}", **{name: f"other{i}"}) for i in range(3)]
        assert choose([*others, mine], [mine], Choice()) == (mine, mine)

    def test_several_pairs_are_an_error_that_lists_the_options(self) -> None:
        with pytest.raises(ConfigError, match=r"2 pairs .* say which with\n  --baseline-model b \| c$"):
            choose([result("b"), result("c")], [result("a")], Choice())
        with pytest.raises(ConfigError, match=r"\n  --candidate-model a-1 \| a-2$"):
            choose([result("a")], [result("a"), result("a", run="a-2")], Choice())
        both = [result(), result(protocol="standard"), result(track="composite")]
        with pytest.raises(ConfigError, match=r"3 pairs .*\n  --protocol pixels \| standard\n  --track composite \| raw$"):
            choose(both, both, Choice())

    def test_the_options_pick(self) -> None:
        models = [result("b"), result("c"), result("c", run="c-2")]
        assert choose(models, [result("a")], Choice(baseline_model="b")) == (models[0], result("a"))
        assert choose(models, [result("a")], Choice(baseline_model="c-2")) == (models[2], result("a"))
        assert choose([result("a")], models, Choice(candidate_model="c-1")) == (result("a"), models[1])
        kinds = [result(), result(protocol="standard"), result(track="composite")]
        assert choose(kinds, kinds, Choice(protocol="standard")) == (kinds[1], kinds[1])
        assert choose(kinds, kinds, Choice(track="composite")) == (kinds[2], kinds[2])

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            (Choice(baseline_model="teela"), r"--baseline-model: 'teela' is unknown. Did you mean 'telea'\?"),
            (Choice(candidate_model="x"), r"--candidate-model: 'x' is unknown. Valid: telea"),
            (Choice(protocol="pixel"), r"--protocol: 'pixel' is unknown. Did you mean 'pixels'\?"),
            (Choice(track="row"), r"--track: 'row' is unknown. Did you mean 'raw'\?"),
        ],
    )
    def test_an_option_that_names_nothing_is_an_error(self, choice: Choice, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            choose([result("telea")], [result("telea")], choice)

    def test_a_protocol_that_only_one_side_has_is_nothing_to_compare(self) -> None:
        found = choose([result(), result(protocol="standard")], [result()], Choice(protocol="standard"))
        assert found == "nothing to compare: the baseline has standard raw, the candidate has none of these"


class TestSaved:
    def test_it_gives_the_verdict_of_the_runs_it_was_made_of(self, run: Execute, tmp_path: Path) -> None:
        before = run(model=custom("grey", level=100)).folder
        after = run(model=custom("grey", level=250)).folder
        file = tmp_path / "deep" / "baseline.json"
        assert main(["gate", "--save", str(file), str(before)]) == 0
        from_file, from_run = gate(file, after), gate(before, after)
        assert from_file.checks == from_run.checks
        assert from_file.exit_status == from_run.exit_status == 1
        assert gate(file, file).exit_status == 0

    def test_it_holds_several_runs(self, run: Execute, tmp_path: Path) -> None:
        folders = [run(model={**custom("grey", level=level), "name": f"grey{level}"}).folder for level in (100, 120)]
        assert main(["gate", "--save", str(tmp_path / "b.json"), *map(str, folders)]) == 0
        assert [s.model for s in load_summaries([tmp_path / "b.json"])] == ["grey100", "grey120"]
        assert main(["gate", "--baseline", str(tmp_path / "b.json"), "--candidate", str(folders[1])]) == 0

    def test_it_is_smaller_than_the_summaries_and_equal_for_equal_runs(self, run: Execute, tmp_path: Path) -> None:
        done = run()
        for name in ("one.json", "two.json"):
            assert main(["gate", "--save", str(tmp_path / name), str(done.folder)]) == 0
        assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
        (original,) = done.scores
        assert (tmp_path / "one.json").stat().st_size < (original / "summary.json").stat().st_size
        assert json.loads((tmp_path / "one.json").read_text())["schema"] == 3

    def test_a_partial_or_failed_run_is_no_baseline(self, run: Execute, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        part = run(limit=2).folder
        assert main(["gate", "--save", str(tmp_path / "b.json"), str(part)]) == 3
        assert "2 of 5 clips, 0 failed: no baseline" in capsys.readouterr().err
        broken = run(model=custom("raises_on_c")).folder
        assert main(["gate", "--save", str(tmp_path / "b.json"), str(broken)]) == 4
        assert not (tmp_path / "b.json").exists()

    def test_the_same_file_on_both_sides_is_said(self, run: Execute) -> None:
        folder = run().folder
        assert "both sides are the same file" in gate(folder, folder).notes[0]


class TestLeaderboard:
    @pytest.fixture
    def table(self, run: Execute, tmp_path: Path) -> Path:
        folders = [run(model={**custom("grey", level=level), "name": f"grey{level}"}).folder for level in (100, 120)]
        assert main(["rank", *map(str, folders), "-o", str(tmp_path / "board")]) == 0
        return tmp_path / "board" / "leaderboard.csv"

    def test_a_row_is_a_baseline_for_rules_without_a_test(self, table: Path, run: Execute) -> None:
        same, worse = (run(model=custom("grey", level=level)).folder for level in (100, 250))
        choice = Choice(baseline_model="grey100")
        for rules in ("strict", "tolerance"):
            assert gate(table, same, rules, choice).exit_status == 0
            found = gate(table, worse, rules, choice)
            assert found.exit_status == 1
            assert {check.column for check in found.checks if check.status == "regression"} >= {"psnr[hole]"}

    def test_rules_with_a_test_are_inconclusive_and_say_what_would_do(self, table: Path, run: Execute) -> None:
        found = gate(table, run().folder, "default", Choice(baseline_model="grey100"))
        assert found.exit_status == 3
        assert "a rule with `test: none` compares the values alone" in found.checks[0].reason

    def test_a_slice_is_inconclusive(self, table: Path, run: Execute, tmp_path: Path) -> None:
        (tmp_path / "r.yaml").write_text("rules: [{metric: psnr, region: hole, slice: operation=inpaint, test: none}]")
        found = gate(table, run().folder, str(tmp_path / "r.yaml"), Choice(baseline_model="grey100"))
        assert (found.exit_status, found.checks[0].reason) == (3, "only the candidate has values per clip in operation=inpaint")

    def test_which_row_must_be_said(self, table: Path, run: Execute) -> None:
        with pytest.raises(ConfigError, match=r"--baseline-model grey100 \| grey120"):
            gate(table, run().folder, "strict")

    def test_it_cannot_be_the_candidate(self, table: Path) -> None:
        with pytest.raises(ConfigError, match=r"leaderboard.csv: .* it can only be the one --baseline"):
            load_side(table, "--candidate")

    @pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "benchmark,slice\nx,all\n", "\0"])
    def test_another_table_is_named(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(DataError, match=r"x.csv: is no leaderboard.csv"):
            load_side(tmp_path / "x.csv", "--baseline")

    @pytest.mark.parametrize("value", ["nan", "inf", "x"])
    def test_a_value_that_is_no_number_is_named(self, value: str, table: Path) -> None:
        lines = table.read_text().splitlines()
        position = lines[0].split(",").index("value")
        fields = lines[1].split(",")
        fields[position] = value
        table.write_text("\n".join([lines[0], ",".join(fields)]))
        with pytest.raises(DataError, match=rf"leaderboard.csv: is no leaderboard.csv .*{value}"):
            load_side(table, "--baseline")

    def test_one_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"y.csv: cannot be read"):
            load_side(tmp_path / "y.csv", "--baseline")
