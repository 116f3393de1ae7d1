"""Each network runs once, sets merge, averages are named, and what cannot be computed is absent with the reason."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import toy_metrics
from tests.conftest import composed_protocol, custom
from tests.toy import toy_clip
from vpbench import weights_table
from vpbench.errors import ConfigError
from vpbench.results import load_summaries
from vpbench.running import Result, Run
from vpbench.scoring import Protocol
from vpbench.storage import read_arrays, write_arrays
from vpbench.tables import rank
from vpbench.views import View

Execute = Callable[..., Result]
LETTERS = "abcde"


@pytest.fixture(autouse=True)
def _no_passes():
    toy_metrics.passes.clear()


def columns(result: Result) -> dict[str, dict[str, Any]]:
    found = json.loads((result.scores[0] / "summary.json").read_text())["columns"]
    return {column["column"]: column for column in found}


def expected(clip: str, frames: int = 4) -> np.ndarray:
    made = toy_clip(clip, frames)
    prediction = made.frames.copy()
    prediction[made.masks] = 128
    return np.abs(prediction.mean(axis=(1, 2)) - made.frames.mean(axis=(1, 2))).sum(axis=1)


def test_a_network_sees_each_video_once_whatever_protocols_and_averages_ask_for(run: Execute) -> None:
    run(protocol=toy_metrics.leaf())
    assert sorted(toy_metrics.passes) == ["prediction"] * 5 + ["reference"] * 5
    toy_metrics.passes.clear()
    other = {**toy_metrics.leaf(), "name": "other", "average": "frames"}
    del other["metrics"]["spread"], other["mean_rank"]
    run(protocol=other)
    run(protocol={**toy_metrics.leaf(), "average": "frame_means"})
    assert toy_metrics.passes == []


def test_the_reference_is_passed_once_for_all_models(run: Execute) -> None:
    run(protocol=toy_metrics.leaf())
    toy_metrics.passes.clear()
    run(protocol=toy_metrics.leaf(), model=custom("grey", level=90))
    assert toy_metrics.passes == ["prediction"] * 5


def test_a_view_of_another_reference_passes_only_the_reference_again(run: Execute) -> None:
    run(protocol=toy_metrics.leaf())
    toy_metrics.passes.clear()
    run(protocol={**toy_metrics.leaf(), "quantise": "vpbench-official"})
    assert toy_metrics.passes == ["reference"] * 5


@pytest.mark.parametrize("average", ["clips", "frame_means", "frames"])
def test_averages_are_what_their_names_say(run: Execute, average: str) -> None:
    column = columns(run(protocol={**toy_metrics.leaf(), "average": average}))["distance[frame]"]
    frames = [expected(clip) for clip in LETTERS]
    means = {
        "clips": np.mean([(f**2).mean() for f in frames]),
        "frame_means": np.mean([f.mean() for f in frames]),
        "frames": np.concatenate(frames).mean(),
    }
    assert column["value"] == pytest.approx(means[average], rel=1e-12)
    assert f"|mean={average}|" in column["signature"]
    assert (column["n"], column["frames"]) == (5, 20)


def test_frames_and_clips_weigh_differently_when_lengths_differ(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import toy

    lengths = {"a": 2, "b": 7}
    monkeypatch.setattr(toy, "toy_clip", lambda name, frames, operation: toy_clip(name, lengths[name], operation=operation))
    config["benchmark"] = {"_target_": "tests.toy.Toy", "count": 2}
    values = {}
    for average in ("frame_means", "frames"):
        values[average] = columns(Run({**config, "protocol": {**toy_metrics.leaf(), "average": average}}).execute())["distance[frame]"]
    a, b = (expected(name, frames).mean() for name, frames in lengths.items())
    assert values["frame_means"]["value"] == pytest.approx((a + b) / 2, rel=1e-12)
    assert values["frames"]["value"] == pytest.approx((2 * a + 7 * b) / 9, rel=1e-12)


def test_a_mean_of_frames_is_signed_as_neither_pooled_nor_capped() -> None:
    leaf = {"name": "x", "metrics": {"psnr": {"_target_": "vpbench.metrics.psnr.Psnr", "regions": ["frame"]}}}
    signatures = [Protocol.of({**leaf, "average": average}).columns[0].signature(View()) for average in ("clips", "frames")]
    assert "|pooled,rgb,cap=100|" in signatures[0]
    assert "|rgb|" in signatures[1]


def test_an_infinite_mean_is_no_number_and_says_why(run: Execute) -> None:
    leaf = {**toy_metrics.leaf(infinite=True), "average": "frames"}
    result = run(protocol=leaf)
    column = columns(result)["distance[frame]"]
    assert column["value"] is None
    assert "infinite" in column["excluded"][0]["reason"]
    with (result.scores[0] / "clips.csv").open() as file:
        assert next(csv.DictReader(file))["distance[frame]"] == "inf"
    assert columns(run(protocol=toy_metrics.leaf(infinite=True)))["distance[frame]"]["value"] is not None


def test_a_set_has_a_value_and_a_jackknife_over_clips(run: Execute) -> None:
    column = columns(run(protocol=toy_metrics.leaf()))["spread[frame]"]
    assert column["average"] == "set"
    assert column["n"] == 5
    without = np.array(column["leave_one_out"])  # in the order of clips.names
    assert len(without) == len(LETTERS)
    assert column["standard_error"] == pytest.approx(np.sqrt(4 / 5 * np.square(without - without.mean()).sum()), rel=1e-12)


def test_a_set_of_one_clip_is_refused_with_the_reason(run: Execute) -> None:
    column = columns(run(protocol=toy_metrics.leaf(), clips=["a"]))["spread[frame]"]
    assert column["value"] is None
    assert "at least 2 clips" in column["excluded"][0]["reason"]


def test_two_halves_merge_to_the_whole_bit_for_bit(config: dict[str, Any], tmp_path: Path) -> None:
    base = {**config, "protocol": toy_metrics.leaf()}
    whole = columns(Run({**base, "out": str(tmp_path / "whole")}).execute())
    for half in (["d", "b"], ["e", "a", "c"]):
        halves = columns(Run({**base, "out": str(tmp_path / "halves"), "clips": half}).execute())
    assert halves == whole


def test_two_halves_merge_to_the_fvd_and_kvd_of_the_whole_bit_for_bit(config: dict[str, Any], tmp_path: Path) -> None:
    leaf = {"name": "sets", "metrics": {}}
    for name in ("Fvd", "Kvd"):
        leaf["metrics"][name.lower()] = {"_target_": f"vpbench.metrics.{name.lower()}.{name}", "regions": ["frame"], "weights": "random-0"}
    base = {**config, "protocol": leaf, "benchmark": {"_target_": "tests.toy.Toy", "count": 4}}
    whole = columns(Run({**base, "out": str(tmp_path / "whole")}).execute())
    for half in (["d", "b"], ["a", "c"]):
        halves = columns(Run({**base, "out": str(tmp_path / "halves"), "clips": half}).execute())
    assert halves == whole
    assert all(column["value"] is not None for column in whole.values())


def test_an_edit_without_a_known_result_counts_only_against_the_source(config: dict[str, Any]) -> None:
    config["benchmark"] = {"_target_": "tests.toy.Toy", "names": ["a", "edit"]}
    column = columns(Run({**config, "protocol": toy_metrics.leaf()}).execute())["distance[frame]"]
    assert [left["clip"] for left in column["excluded"]] == ["edit"]
    column = columns(Run({**config, "protocol": {**toy_metrics.leaf(), "against": "source"}}).execute())["distance[frame]"]
    assert column["excluded"] == []


class TestWeights:
    def test_a_column_without_weights_is_absent_with_the_reason_and_the_others_are_ranked(
        self, run: Execute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self._nowhere(monkeypatch, tmp_path)
        leaf = toy_metrics.leaf()
        leaf["metrics"]["learned"] = {**leaf["metrics"]["distance"], "source": "search"}
        result = run(protocol=leaf)
        assert result.ok == 5
        assert list(result.absent) == ["learned[frame]"]
        column = columns(result)["learned[frame]"]
        assert column["value"] is None
        assert "alexnet" in column["absent"]
        assert columns(result)["distance[frame]"]["value"] is not None

    def test_missing_error_stops_before_any_model_runs(self, run: Execute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self._nowhere(monkeypatch, tmp_path)
        calls = tmp_path / "calls"
        leaf = {**toy_metrics.leaf(source="search"), "missing": "error"}
        with pytest.raises(ConfigError, match=r"(?s)protocol\.missing=error.*alexnet"):
            run(protocol=leaf, model=custom("counts_calls", log=str(calls)))
        assert not calls.exists()

    def test_a_named_file_that_cannot_be_used_is_an_error_whatever_is_missing(self, run: Execute, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"(?s)protocol\.weights.*alexnet\.pth"):
            run(protocol={**toy_metrics.leaf(source=str(tmp_path / "alexnet.pth")), "missing": "skip"})

    def test_stored_arrays_are_still_scored_when_the_weights_are_gone(self, run: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
        leaf = toy_metrics.leaf(source="search")
        monkeypatch.setattr("vpbench.weights.missing", lambda network: "")
        before = columns(run(protocol=leaf))
        monkeypatch.setattr("vpbench.weights.missing", lambda network: "alexnet is gone")
        assert columns(run(protocol=leaf)) == before

    def test_a_column_tells_the_full_sha256_of_its_weights(self, run: Execute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self._nowhere(monkeypatch, tmp_path)
        leaf = toy_metrics.leaf(source="random-3")
        assert columns(run(protocol=leaf))["distance[frame]"]["weights"] == {"alexnet": "random-3"}
        leaf["metrics"]["absent"] = {**leaf["metrics"]["distance"], "source": "search"}
        assert columns(run(protocol=leaf))["absent[frame]"]["weights"] == {}
        known = weights_table.table()["alexnet"].files[0]
        assert len(known.sha256) == 64
        monkeypatch.setattr("vpbench.weights.missing", lambda network: "")
        assert columns(run(protocol=leaf))["absent[frame]"]["weights"] == {"alexnet": known.sha256}
        assert columns(run(protocol=toy_metrics.leaf()))["distance[frame]"]["weights"] == {}

    def test_random_weights_are_named_and_never_ranked(self, run: Execute) -> None:
        leaf = toy_metrics.leaf()
        leaf["metrics"]["learned"] = {**leaf["metrics"]["distance"], "source": "random-3"}
        leaf["mean_rank"].append("learned[frame]")
        results = [run(protocol=leaf), run(protocol=leaf, model={**custom("grey", level=90), "name": "other"})]
        column = columns(results[0])["learned[frame]"]
        assert "random-3" in column["signature"]
        assert column["unranked"]
        (group,) = rank(load_summaries([result.folder for result in results])).groups
        for row in group.rows:
            assert row.mean_rank is not None
            assert "learned[frame]" not in row.ranks
            assert "distance[frame]" in row.ranks

    @staticmethod
    def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("VPBENCH_WEIGHTS", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path / "nowhere"))


def flip(file: Path) -> None:
    """Change a byte of the data of an array that is not the tie."""
    with zipfile.ZipFile(file) as archive:
        at = next(member.header_offset for member in archive.infolist() if not member.filename.startswith("_"))
    data = bytearray(file.read_bytes())
    data[at + 200] ^= 1
    file.write_bytes(data)


def retied(file: Path) -> None:
    """Tie arrays to another prediction."""
    write_arrays(file, {**read_arrays(file), "_prediction": np.zeros(32, np.uint8)})


def untied(file: Path) -> None:
    """Take the tie away."""
    write_arrays(file, {name: values for name, values in read_arrays(file).items() if name != "_prediction"})


DAMAGES = {
    "overwritten": lambda file: file.write_bytes(b"not arrays"),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "one bit": flip,
    "of another prediction": retied,
    "of no prediction": untied,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_foreign_arrays_are_computed_again_and_no_others(run: Execute, config: dict[str, Any], damage: str) -> None:
    before = columns(run(protocol=toy_metrics.leaf()))
    toy_metrics.passes.clear()
    for folder in ("means", "both"):
        (file,) = (Path(config["out"]) / "toy").glob(f"*/measures/{folder}*/c.npz")
        DAMAGES[damage](file)
    assert columns(run(protocol=toy_metrics.leaf())) == before
    assert toy_metrics.passes == ["prediction"]


def test_damaged_reference_arrays_are_computed_again(run: Execute, config: dict[str, Any]) -> None:
    before = columns(run(protocol=toy_metrics.leaf()))
    root = Path(config["out"]) / "toy"
    for file in root.glob(".reference/*/*.npz"):
        file.write_bytes(b"not arrays")
    for folder in root.glob("*/measures"):
        shutil.rmtree(folder)
    assert columns(run(protocol=toy_metrics.leaf())) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": "pooled"}, "frame_means"),
        ({"tracks": ["row"]}, "composite"),
        ({"missing": "maybe"}, "skip"),
        ({"mean_rank": ["distance[hole]"]}, r"distance\[frame\]"),
        ({"quantize": "exact"}, "quantise"),
    ],
)
def test_a_misspelt_switch_lists_the_valid_ones(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Protocol.of({**toy_metrics.leaf(), **change})


def test_the_summary_holds_every_clips_value_and_properties(run: Execute) -> None:
    result = run()
    summary = json.loads((result.scores[0] / "summary.json").read_text())
    names = summary["clips"]["names"]
    lines = list(csv.DictReader(io.StringIO((result.scores[0] / "clips.csv").read_text())))
    assert [line["clip"] for line in lines] == names == list(LETTERS)
    for column in summary["columns"]:
        assert [line[column["column"]] for line in lines] == ["" if v is None else repr(float(v)) for v in column["values"]]
    a = summary["clips"]["properties"]["a"]
    assert a["frames"] == 4
    assert a["seconds"] == a["frames"] / a["fps"]
    assert 0 < a["coverage"] < 1


def test_frames_have_their_values_beside_the_clips(run: Execute) -> None:
    result = run(protocol=composed_protocol("pixels"))
    lines = list(csv.DictReader(io.StringIO((result.scores[0] / "frames" / "a.csv").read_text())))
    assert [line["frame"] for line in lines] == ["0", "1", "2", "3"]
    mse = [float(line["mse[frame]"]) for line in lines]
    column = next(c for c in columns(result).values() if c["column"] == "mse[frame]")
    assert np.mean(mse) == pytest.approx(column["values"][0], rel=1e-12)
