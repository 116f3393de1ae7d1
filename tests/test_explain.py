"""Why two results differ: every effect is what a true scoring with that one switch turned would give, and all of them add up."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.conftest import custom, pixels
from tests.test_cli import loaded_after
from tests.toy import Handle
from tests.toy_metrics import leaf as toy_leaf
from vpbench.cli import main
from vpbench.clip import Frames, MaskedClip
from vpbench.column_split import Difference, Part
from vpbench.differences import Explanation, explain, pick
from vpbench.errors import DataError
from vpbench.results import Summary
from vpbench.running import Run

SMALL_DEMO = {"_target_": "vpbench.benchmarks.demo.Demo", "frames": 5, "height": 64, "width": 96}
PSNR = "vpbench.metrics.psnr.Psnr"
SSIM = "vpbench.metrics.ssim.Ssim"


class Mixed:
    """Clips of different lengths, so that means over frames and over clips differ."""

    name = "mixed"

    def __init__(self, names: str = "abcd") -> None:
        self._handles = [Handle(name, "", 3 + 2 * (ord(name) - ord("a"))) for name in names]

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._handles)


def smudge(clip: MaskedClip, *, seed: int, strength: int = 20) -> Frames:
    """A model that spoils every pixel: more in the hole, more in later frames."""
    rng = np.random.default_rng(seed + len(clip.frames))
    noise = rng.integers(-strength, strength + 1, clip.frames.shape) * np.arange(1, len(clip.frames) + 1)[:, None, None, None] / 4
    frames = np.where(clip.masks[..., None], 110, clip.frames) + noise * (1 + clip.masks[..., None])
    return np.clip(frames, 0, 255).astype(np.uint8)


def protocol(name: str, **changes: Any) -> dict[str, Any]:
    """PSNR and SSIM in a few regions; ``changes`` to the protocol, or to a metric under its name."""
    metrics = {
        "psnr": {"_target_": PSNR, "regions": ["frame", "hole", "background"]},
        "ssim": {"_target_": SSIM, "regions": ["frame", "background"]},
    }
    for metric in ("psnr", "ssim"):
        metrics[metric].update(changes.pop(metric, {}))
    return {"name": name, "metrics": {**metrics, **changes.pop("metrics", {})}, "mean_rank": [], **changes}


ONESIDED = {
    "psnr_onesided": {"_target_": PSNR, "regions": ["background"], "onesided": True},
    "ssim_onesided": {"_target_": SSIM, "regions": ["background"], "border": "reflect", "onesided": True},
}
MODEL = {**custom("smudge"), "target": "tests.test_explain.smudge", "name": "smudge"}


@pytest.fixture
def scored(config: dict[str, Any]) -> Callable[..., Summary]:
    """Score under a protocol, over the mixed benchmark unless told otherwise; leaves the record that Hydra would; returns the summary."""
    records = itertools.count()

    def score(leaf: dict[str, Any], **changes: Any) -> Summary:
        record = Path(changes.get("out", config["out"])) / ".hydra" / f"{next(records):04}" / ".hydra" / "config.yaml"
        record.parent.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create({"protocol": leaf}), record)
        changes = {"benchmark": {"_target_": "tests.test_explain.Mixed"}, "model": MODEL, **changes}
        result = Run({**config, **changes, "protocol": leaf}).execute()
        assert not result.failed
        (folder,) = result.scores
        return pick(folder, "")

    return score


def parts(column: Difference) -> dict[str, Part]:
    return {part.name: part for part in column.parts}


def only(found: Explanation) -> Difference:
    (column,) = found.columns
    return column


def value(summary: Summary, column: str) -> float:
    cell = summary.cell(column)
    assert cell is not None
    assert cell.value is not None
    return cell.value


def assert_sums(column: Difference) -> None:
    """The effects add up to the difference."""
    assert column.difference is not None
    assert column.a.value is not None
    total = math.fsum(part.effect for part in column.parts if part.effect is not None)
    assert total == pytest.approx(column.difference, rel=1e-12, abs=1e-11 * max(1, abs(column.a.value)))


SWITCHES: dict[str, dict[str, Any]] = {
    "average": {"average": "frames"},
    "quantise": {"quantise": "vpbench-official"},
    "mask_dilate_px": {"mask_dilate_px": 6},
    "against": {"against": "source"},
}


@pytest.mark.parametrize(
    "benchmark", [pytest.param({"_target_": "tests.test_explain.Mixed"}, id="mixed"), pytest.param(SMALL_DEMO, id="demo")]
)
@pytest.mark.parametrize("track", ["raw", "composite"])
def test_each_effect_is_that_of_truly_scoring_with_the_one_switch(scored, benchmark: dict[str, Any], track: str) -> None:
    demo = benchmark is SMALL_DEMO
    scored = functools.partial(scored, clips=["coffee-zoom", "remove-cup", "swap-cat-cup"] if demo else None)
    a = scored(protocol("a"), benchmark=benchmark)
    b = scored(protocol("b", **{key: v for change in SWITCHES.values() for key, v in change.items()}), benchmark=benchmark, track=[track])
    found = explain(a, b, measure=True)
    truth = {name: scored(protocol(name, **change), benchmark=benchmark) for name, change in SWITCHES.items()}
    truth["track"] = scored(protocol("track"), benchmark=benchmark, track=["composite"])
    for column in found.columns:
        effects = parts(column)
        assert {"average", "quantise", "mask_dilate_px", "against"} <= set(effects)
        assert ("track" in effects) == (track == "composite")
        if column.difference is None:  # every frame of a composite's background is exact
            assert "infinite" in column.why
            continue
        for name in set(effects) & set(truth):
            cell = truth[name].cell(column.a.column)
            if cell.value is None:  # an exact background: the mean over frames is infinite
                assert effects[name].effect is None
                assert "infinite" in effects[name].why
            else:
                assert effects[name].effect == pytest.approx(cell.value - column.a.value, rel=1e-12, abs=1e-13), (column.a.column, name)
        assert_sums(column)
        assert not any(name.startswith("the rest") for name in effects)  # one run: no prediction differs
    hole = next(column for column in found.columns if column.a.column == "psnr[hole]")
    assert parts(hole)["mask_dilate_px"].effect != 0
    ordered = [abs(part.effect) for part in hole.parts if part.effect is not None]
    assert ordered == sorted(ordered, reverse=True)


def test_the_official_one_sided_mask(scored) -> None:
    a = scored(protocol("a"))
    b = scored(protocol("b", average="frames", quantise="vpbench-official", metrics=ONESIDED))
    alone = scored(protocol("alone", metrics=ONESIDED))
    column = only(explain(a, b, "psnr[background]", "psnr_onesided[background]", measure=True))
    assert (parts(column)["onesided"].a, parts(column)["onesided"].b) == ("false", "true")
    assert parts(column)["onesided"].effect == pytest.approx(
        value(alone, "psnr_onesided[background]") - value(a, "psnr[background]"), rel=1e-12
    )
    assert column.parts[0].name == "onesided"  # the largest by far
    assert_sums(column)


def test_settings_that_only_go_together_are_turned_together(scored) -> None:
    a = scored(protocol("a"))
    alone = scored(protocol("alone", metrics=ONESIDED))
    column = only(explain(a, alone, "ssim[background]", "ssim_onesided[background]"))
    (part,) = column.parts
    assert part.name == "border and onesided"
    assert part.effect == column.difference == value(alone, "ssim_onesided[background]") - value(a, "ssim[background]")


def test_a_setting_that_needs_another_is_turned_after_it(scored) -> None:
    a = scored(protocol("a", metrics=ONESIDED))
    column = only(explain(a, a, "psnr[frame]", "psnr_onesided[background]"))
    effects = parts(column)
    assert effects["region"].effect == pytest.approx(value(a, "psnr[background]") - value(a, "psnr[frame]"), rel=1e-12)
    assert effects["onesided, after region"].effect == pytest.approx(
        value(a, "psnr_onesided[background]") - value(a, "psnr[background]"), rel=1e-12
    )
    assert_sums(column)


@pytest.mark.parametrize("rule", ["clips", "frame_means", "frames"])
def test_clips_that_only_one_has(scored, rule: str, tmp_path: Path) -> None:
    (a, b, common) = (scored(protocol("a", average=rule), clips=list(names), out=str(tmp_path / names)) for names in ("abc", "bcd", "bc"))
    column = next(column for column in explain(a, b).columns if column.a.column == "psnr[hole]")
    lost, gained = parts(column)["clips that only A has"], parts(column)["clips that only B has"]
    assert (lost.a, gained.b) == ("a", "d")
    assert lost.effect == pytest.approx(value(common, "psnr[hole]") - value(a, "psnr[hole]"), rel=1e-12)
    assert gained.effect == pytest.approx(value(b, "psnr[hole]") - value(common, "psnr[hole]"), rel=1e-12)
    assert set(parts(column)) == {"clips that only A has", "clips that only B has"}  # the common clips are the same to the last bit
    assert_sums(column)


def test_the_effect_of_clips_is_that_of_the_values_per_clip(scored, tmp_path: Path) -> None:
    whole, part = scored(protocol("a")), scored(protocol("b"), clips=["a", "d"], out=str(tmp_path / "part"))
    with (whole.source.parent / "clips.csv").open() as file:
        values = {row["clip"]: float(row["psnr[frame]"]) for row in csv.DictReader(file)}
    column = next(column for column in explain(whole, part).columns if column.a.column == "psnr[frame]")
    expected = (values["a"] + values["d"]) / 2 - sum(values.values()) / 4
    assert parts(column)["clips that only A has"].effect == pytest.approx(expected, rel=1e-12)


def test_another_model_is_the_rest_and_is_what_the_same_settings_leave(scored) -> None:
    worse = {**MODEL, "kwargs": {"strength": 60}}
    a, b = scored(protocol("a")), scored(protocol("b", average="frames", mask_dilate_px=6), model=worse)
    a_under_b = scored(protocol("b", average="frames", mask_dilate_px=6))
    found = explain(a, b, measure=True)
    assert {"predictions", "model.kwargs.strength"} <= {part.name for part in found.parts}
    for column in found.columns:
        rest = parts(column)["the rest: other predictions"]
        assert rest.effect == pytest.approx(value(b, column.a.column) - value(a_under_b, column.a.column), rel=1e-9, abs=1e-12)
        assert rest.why == ""
        assert_sums(column)


def test_the_same_result_twice(scored, capsys: pytest.CaptureFixture[str]) -> None:
    a = scored(protocol("a"))
    found = explain(a, a)
    assert found.nothing_differs
    assert {"protocol", "benchmark", "predictions", "versions", "machine", "clips"} <= set(found.equal)
    assert main(["explain", str(a.source), str(a.source.parent)]) == 0
    assert capsys.readouterr().out.endswith("explain: nothing differs\n")


def test_without_measure_missing_arrays_are_named_and_nothing_is_written(scored) -> None:
    a, b = scored(protocol("a")), scored(protocol("b", average="frames", mask_dilate_px=6, quantise="vpbench-official"))
    run = a.source.parents[2]
    before = sorted(run.rglob("*"))
    column = next(column for column in explain(a, b).columns if column.a.column == "psnr[hole]")
    effects = parts(column)
    assert effects["average"].effect is not None
    for name in ("mask_dilate_px", "quantise"):
        assert effects[name].effect is None
        assert "--measure" in effects[name].why
    assert "together, with quantise and mask_dilate_px" in effects
    assert_sums(column)
    assert sorted(run.rglob("*")) == before


def test_what_measure_would_add_is_marked_and_said_once(scored, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = scored(protocol("a")), scored(protocol("b", average="frames", mask_dilate_px=6, quantise="vpbench-official"))
    command = ["explain", str(a.source), str(b.source)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.count("not measured: mask_dilate_px 0 -> 6 (*)\n") == 5
    assert out.count("--measure") == 1
    assert out.splitlines()[-2].startswith("(*) the run lacks the arrays: add --measure")
    assert main([*command, "--measure"]) == 0
    out = capsys.readouterr().out
    assert "(*)" not in out
    assert "--measure" not in out


def test_settings_that_only_go_together_count_as_explained_by_all_of_them(scored) -> None:
    a = scored(protocol("a"))
    b = scored(protocol("b", quantise="vpbench-official", average="frames", metrics=ONESIDED))
    column = only(explain(a, b, "ssim[background]", "ssim_onesided[background]"))
    assert parts(column)["border and onesided"].effect is None
    assert not any(name.startswith("the rest") for name in parts(column))  # "together" turned them all
    assert_sums(column)


def test_settings_given_on_the_command_line_are_found_in_the_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["run", "model=telea", "benchmark=demo", *(f"benchmark.{k}={v}" for k, v in SMALL_DEMO.items() if k != "_target_")]
    base += ["limit=2", f"out={tmp_path / 'runs'}", "protocol=pixels"]
    base += ["protocol.metrics.ewarp_dis=null", "protocol.metrics.ssim=null", "protocol.mean_rank=[]"]
    assert main(base) == 0
    (run,) = (tmp_path / "runs" / "demo").glob("telea-*")
    shutil.copytree(run / "scores" / "pixels-raw", run / "scores" / "first")
    assert main([*base, "+protocol.average=frame_means", "protocol.boundary_px=3"]) == 0  # run.json still tells of the first protocol
    capsys.readouterr()
    a, b = pick(run / "scores" / "first", ""), pick(run / "scores" / "pixels-raw", "")
    column = only(explain(a, b, "psnr[boundary]", measure=True))
    assert {part.name for part in column.parts if part.effect is not None} == {
        "average",
        "boundary_px",
        "together, beyond the sum of these",
    }
    assert_sums(column)


# --- files without a run folder


@pytest.fixture
def submission(tmp_path: Path) -> Callable[[Summary], Path]:
    def save(summary: Summary) -> Path:
        file = tmp_path / f"{summary.protocol}.json"
        shutil.copy(summary.source, file)
        return file

    return save


def test_values_per_clip_tell_the_weights_of_frames_and_the_clips(scored, submission, tmp_path: Path) -> None:
    one = scored(protocol("mine", average="frames"))
    other = scored(protocol("yours", average="frame_means"), clips=["a", "b", "c"], out=str(tmp_path / "part"))
    truth = scored(protocol("truth", average="frame_means"))
    a, b = pick(submission(one), ""), pick(submission(other), "")
    found = explain(a, b)
    assert "A and B without a run folder" in found.unknown[0]
    column = next(column for column in found.columns if column.a.column == "psnr[hole]")
    assert parts(column)["average"].effect == pytest.approx(value(truth, "psnr[hole]") - value(one, "psnr[hole]"), rel=1e-12)
    assert parts(column)["clips that only A has"].effect is not None
    assert parts(column)["the rest: other predictions"].effect == pytest.approx(0, abs=1e-12)
    assert_sums(column)


def test_without_a_run_folder_other_parts_come_from_the_signature_and_are_not_measured(scored, submission) -> None:
    a, b = pick(submission(scored(protocol("mine"))), ""), scored(protocol("yours", mask_dilate_px=6))
    column = next(column for column in explain(a, b).columns if column.a.column == "psnr[hole]")
    part = parts(column)["view"]
    assert (part.a, part.b, part.effect) == ("raw", "raw-dilate6", None)
    assert "no protocol mine installed" in part.why
    assert "view" in parts(column)["the rest: other predictions"].why
    assert_sums(column)


def test_a_submission_under_a_shipped_protocol_has_its_settings_by_name(scored, submission) -> None:
    shipped, changed = pixels(), pixels()
    changed["metrics"]["psnr"]["boundary_px"] = 3
    a, other = pick(submission(scored(shipped)), ""), scored({**changed, "name": "mine"})
    column = only(explain(a, other, "psnr[boundary]"))
    assert (parts(column)["boundary_px"].a, parts(column)["boundary_px"].b) == ("8", "3")
    assert "name the run folder" in parts(column)["boundary_px"].why


def test_without_settings_a_clip_that_one_leaves_out_is_a_clip_that_it_lacks(scored, submission, tmp_path: Path) -> None:
    mixed = {"_target_": "tests.toy.Toy", "names": ["a", "b", "edit-c"]}
    one, other = scored(protocol("mine", against="source"), benchmark=mixed), scored(protocol("yours"), benchmark=mixed)
    common = scored(protocol("mine", against="source"), benchmark=mixed, clips=["a", "b"], out=str(tmp_path / "common"))
    found = explain(pick(submission(one), ""), pick(submission(other), ""), "psnr[hole]")
    part = parts(only(found))["clips that only A has"]
    assert part.a == "edit-c"
    assert part.effect == pytest.approx(value(common, "psnr[hole]") - value(one, "psnr[hole]"), rel=1e-12)
    assert_sums(only(found))


# --- set metrics and networks


def test_a_set_metric_over_fewer_clips(scored, tmp_path: Path) -> None:
    toy = {"_target_": "tests.toy.Toy"}
    a, b = scored(toy_leaf(), benchmark=toy), scored(toy_leaf(), benchmark=toy, clips=["a", "b", "c"], out=str(tmp_path / "part"))
    column = only(explain(a, b, "spread[frame]"))
    assert parts(column)["clips that only A has"].effect == pytest.approx(value(b, "spread[frame]") - value(a, "spread[frame]"), rel=1e-12)
    assert_sums(column)


def test_weights_are_a_setting_and_missing_ones_are_named(scored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    toy = {"_target_": "tests.toy.Toy"}
    a = scored(toy_leaf(source="random-3"), benchmark=toy)
    b = scored({**toy_leaf(source="random-4"), "name": "b"}, benchmark=toy)
    part = parts(only(explain(a, b, "distance[frame]")))["source"]
    assert (part.a, part.b, part.effect) == ("random-3", "random-4", 0.0)  # B's arrays are there: one run
    shutil.rmtree(next(b.source.parents[2].glob("measures/both-random-4-*")))
    assert "--measure" in parts(only(explain(a, b, "distance[frame]")))["source"].why
    assert parts(only(explain(a, b, "distance[frame]", measure=True)))["source"].effect == 0.0


def test_another_metric_of_the_same_unit_is_one_part(scored) -> None:
    both = {name: {"_target_": f"vpbench.metrics.{name}.{name.title()}", "regions": ["frame"]} for name in ("mse", "mae")}
    a = scored(protocol("a", metrics=both))
    (part,) = only(explain(a, a, "mse[frame]", "mae[frame]")).parts
    assert (part.name, part.a, part.b) == ("metric", "vpbench.metrics.mse.Mse", "vpbench.metrics.mae.Mae")
    assert part.effect == value(a, "mae[frame]") - value(a, "mse[frame]")


# --- what cannot be explained


def test_one_name_for_two_quantities_is_not_subtracted(scored) -> None:
    a, b = scored(protocol("a")), scored({"name": "b", "metrics": {"psnr": {"_target_": SSIM, "regions": ["frame"]}}})
    column = only(explain(a, b))
    assert column.difference is None
    assert "different quantities" in column.why


def test_clips_without_a_value_are_said_to_have_none(scored, capsys: pytest.CaptureFixture[str]) -> None:
    edits = {"_target_": "tests.toy.Toy", "names": ["edit-a", "edit-b"]}
    a, b = scored(protocol("a"), benchmark=edits), scored(protocol("b", against="source"), benchmark=edits)
    found = explain(a, b)
    column = next(column for column in found.columns if column.a.column == "psnr[hole]")
    assert column.difference is None
    assert column.why.startswith("A has no value: the hole has no true answer")
    assert not column.equal
    assert main(["explain", str(a.source), str(b.source), "--column", "psnr[hole]"]) == 0
    assert "no true answer" in capsys.readouterr().out


def test_an_infinite_value_is_said_to_be_infinite(scored) -> None:
    exact = {**custom("grey"), "name": "grey"}
    a, b = scored(protocol("a", average="frames"), model=exact), scored(protocol("b"), model=exact)
    column = only(explain(a, b, "psnr[background]"))
    assert column.why == "A has no value: infinite, 4 clips hold frames that equal the reference exactly"
    back = only(explain(b, a, "psnr[background]"))
    assert "infinite" in back.why


def test_an_absent_column_says_why(scored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    absent = {"distance": {"_target_": "tests.toy_metrics.Distance", "source": "search"}}
    present = {"distance": {"_target_": "tests.toy_metrics.Distance", "source": "random-3"}}
    a, b = scored(protocol("a", metrics=absent)), scored(protocol("b", metrics=present))
    column = only(explain(a, b, "distance[frame]"))
    assert column.why.startswith("A has no value: ")
    assert "alexnet" in column.why
    assert not column.equal
    assert not column.unmeasured


@pytest.mark.parametrize("across", [False, True], ids=["one protocol", "two protocols"])
def test_columns_measured_on_neither_side_are_counted_apart(
    scored, across: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    absent = {"distance": {"_target_": "tests.toy_metrics.Distance", "source": "search"}}
    a = scored(protocol("a", metrics=absent))
    b = scored(protocol("b", metrics=absent, average="frames", mask_dilate_px=6)) if across else a
    column = only(explain(a, b, "distance[frame]"))
    assert column.why.startswith("no value on either side: ")
    assert (column.equal, column.unmeasured, column.parts) == (False, True, ())
    assert main(["explain", str(a.source), str(b.source)]) == 0
    *_, reason, last = capsys.readouterr().out.splitlines()
    assert re.match(r"distance\[frame\]: no value on either side: .*alexnet", reason)
    ending = "; 1 column without a value on either side"
    assert last == f"explain: {'5 of 5 columns differ' if across else 'nothing differs'}{ending}"
    assert main(["explain", str(a.source), str(b.source), "--column", "distance[frame]"]) == 0
    out = capsys.readouterr().out
    assert reason in out.splitlines()
    assert "equal columns" not in out
    assert out.endswith("explain: nothing to compare; 1 column without a value on either side\n")


def test_no_common_clip(scored, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = scored(protocol("a")), scored(protocol("b"), benchmark={"_target_": "tests.toy.Toy", "names": ["x", "y"]})
    with pytest.raises(DataError, match="no clip in common"):
        explain(a, b)
    assert main(["explain", str(a.source), str(b.source)]) == 2
    assert "no clip in common (mixed: a, b, c, d; toy: x, y)" in capsys.readouterr().err


def test_common_names_with_other_content_are_not_called_the_same(scored) -> None:
    a = scored(protocol("a"), benchmark={"_target_": "tests.toy.Toy", "names": ["a", "b"]})
    b = scored(protocol("a"), benchmark={"_target_": "tests.toy.Toy", "names": ["a", "b"], "salt": "other"})
    found = explain(a, b)
    part = next(part for part in found.parts if part.name == "content of clips")
    assert part.why.startswith("2 of 2 common clips (a, b): other frames, masks or texts")
    assert next(part for part in found.parts if part.name == "benchmark.salt").b == "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--column", "psnr[hle]"], "Did you mean 'psnr[hole]'", id="unknown column"),
        pytest.param(["--column", "psnr[hole]", "--other-column", "psn[hole]"], "--other-column, in", id="unknown other column"),
        pytest.param(["--other-column", "psnr[hole]"], "name that of A with --column", id="other column alone"),
        pytest.param(["--column", "psnr[hole]", "--other-column", "ssim[frame]"], "different quantities", id="other quantity"),
        pytest.param(["--protocol", "aa"], "Did you mean 'a'", id="unknown protocol"),
        pytest.param(["--other-track", "rw"], "--other-track: 'rw' is unknown. Did you mean 'raw'", id="unknown track"),
    ],
)
def test_bad_choices(scored, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    a = scored(protocol("a"))
    assert main(["explain", str(a.source), str(a.source), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_several_results_are_listed_and_names_choose(scored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = scored(protocol("a")), scored(protocol("b", average="frames"))
    run = str(a.source.parents[2])
    assert main(["explain", run, run]) == 2
    error = capsys.readouterr().err
    assert "holds 2 results" in error
    assert "--model=smudge --protocol=b --track=raw" in error
    saved = tmp_path / "baseline.json"
    saved.write_text(json.dumps({"schema": 3, "results": [json.loads(s.source.read_text()) for s in (a, b)]}))
    assert main(["explain", str(saved), run, "--protocol", "a", "--other-protocol", "b", "--json", str(tmp_path / "x.json")]) == 0
    written = json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (written["a"]["protocol"], written["b"]["protocol"]) == ("a", "b")
    assert {column["column"] for column in written["columns"]} == {cell.column for cell in a.cells}


def test_a_path_that_does_not_exist_and_a_file_that_is_no_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    for path in (tmp_path / "gone", tmp_path / "x.json"):
        assert main(["explain", str(path), str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_arrays_that_are_not_those_of_the_summary_measure_nothing(scored) -> None:
    a, b = scored(protocol("a")), scored(protocol("b", average="frames"))
    found = json.loads(a.source.read_text())
    cell = next(column for column in found["columns"] if column["column"] == "psnr[hole]")
    cell["value"] += 1
    cell["values"] = [number + 1 for number in cell["values"]]
    a.source.write_text(json.dumps(found))
    column = only(explain(pick(a.source, ""), b, "psnr[hole]"))
    assert parts(column)["average"].effect is None
    assert "score the run again" in parts(column)["average"].why
    assert_sums(column)


def test_a_prediction_that_is_gone_cannot_be_measured(scored) -> None:
    a, b = scored(protocol("a")), scored(protocol("b", mask_dilate_px=6, quantise="vpbench-official"))
    for file in (a.source.parents[2] / "predictions").iterdir():
        file.unlink()
    column = only(explain(a, b, "psnr[hole]", measure=True))
    assert "is gone" in parts(column)["mask_dilate_px"].why


def test_names_cannot_write_to_the_terminal(scored, capsys: pytest.CaptureFixture[str]) -> None:
    a = scored(protocol("a"))
    found = json.loads(a.source.read_text())
    found["model"]["name"] = "evil\x1b[2J"
    a.source.write_text(json.dumps(found))
    assert main(["explain", str(a.source), str(a.source)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_explain_imports_no_torch(scored, tmp_path: Path) -> None:
    a, b = scored(protocol("a")), scored(protocol("b", average="frames", quantise="vpbench-official"))
    command = f"from vpbench.cli import main; main(['explain', {str(a.source)!r}, {str(b.source)!r}, '--measure'])"
    assert "torch" not in loaded_after(command, tmp_path)
    assert loaded_after("from vpbench.cli import main; main(['explain', '--help'])", tmp_path) == []


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    one=st.fixed_dictionaries(
        {},
        optional={
            "average": st.sampled_from(["clips", "frame_means", "frames"]),
            "quantise": st.sampled_from(["exact", "vpbench-official"]),
            "mask_dilate_px": st.integers(0, 4),
        },
    ),
    other=st.fixed_dictionaries({}, optional={"average": st.sampled_from(["frame_means", "frames"]), "mask_dilate_px": st.integers(0, 4)}),
    lost=st.sets(st.sampled_from("abcd"), max_size=2),
    strength=st.sampled_from([20, 40]),
)
def test_the_effects_always_add_up(scored, one: dict[str, Any], other: dict[str, Any], lost: set[str], strength: int) -> None:
    kept = "".join(sorted(set("abcd") - lost))
    a = scored(protocol("a", **one), benchmark={"_target_": "tests.test_explain.Mixed", "names": kept})
    b = scored(protocol("b", **other), model={**MODEL, "kwargs": {"strength": strength}})
    for column in explain(a, b, measure=True).columns:
        assert_sums(column)
        assert all(part.effect is not None for part in column.parts)
