"""The run loop: one clip is generated, stored, scored and recorded by itself; what stops a run loses nothing."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import custom
from tests.toy import Handle, Toy, toy_clip
from vpbench import running, storage, video
from vpbench.clip import MaskedClip
from vpbench.errors import ConfigError, ModelError, StorageError
from vpbench.models import check_prediction
from vpbench.results import load_summaries
from vpbench.running import Result, Run
from vpbench.tables import rank

Execute = Callable[..., Result]
Interrupted = Callable[[str], AbstractContextManager[None]]


def files(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for pattern in patterns for p in sorted(folder.glob(pattern)) if p.is_file()}


def summary(result: Result, track: str = "raw") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.folder / "scores" / f"pixels-{track}" / "summary.json").read_text())
    return found


def value(result: Result, column: str) -> Any:
    return next(c["value"] for c in summary(result)["columns"] if c["column"] == column)


def test_a_run_leaves_the_folder_that_the_design_names(run: Execute) -> None:
    result = run()
    assert result.ok == result.total == 5
    assert result.failed == {}
    assert sorted(p.name for p in result.folder.iterdir()) == ["clips", "measures", "predictions", "run.json", "scores"]
    assert sorted(p.name for p in (result.folder / "predictions").iterdir()) == [f"{n}.mkv" for n in "abcde"]
    with (result.folder / "scores/pixels-raw/clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == list("abcde")
    assert float(rows[0]["psnr[background]"]) == 100.0
    record = json.loads((result.folder / "clips/a.json").read_text())
    assert record["status"] == "ok"
    assert record["seconds"] > 0
    provenance = json.loads((result.folder / "run.json").read_text())["provenance"]
    assert {"vpbench", "packages", "python", "command", "platform"} <= set(provenance)


def test_the_stored_prediction_is_lossless(run: Execute) -> None:
    result = run()
    clip = toy_clip("b")
    expected = clip.frames.copy()
    expected[clip.masks] = 128
    np.testing.assert_array_equal(video.read_video(result.folder / "predictions/b.mkv")[0], expected)


def test_the_value_of_a_table_is_the_mean_over_clips(run: Execute) -> None:
    result = run()
    with (result.folder / "scores/pixels-raw/clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert value(result, "psnr[hole]") == pytest.approx(np.mean([float(row["psnr[hole]"]) for row in rows]), rel=1e-12)


def test_the_same_command_again_does_nothing_and_changes_nothing(config: dict[str, Any], tmp_path: Path) -> None:
    config["model"] = custom("counts_calls", log=str(tmp_path / "calls"))
    first = Run(config).execute()
    before = files(first.folder, "**/*.json", "**/*.csv", "**/*.npz", "**/*.mkv")
    second = Run(config).execute()
    assert second.generated == []
    assert files(first.folder, "**/*.json", "**/*.csv", "**/*.npz", "**/*.mkv") == before
    assert (tmp_path / "calls").read_text().split() == list("abcde")


@pytest.mark.parametrize("damage", ["prediction", "record", "truncated prediction"])
def test_a_missing_or_damaged_clip_is_made_again_and_only_that_one(
    config: dict[str, Any], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    config["model"] = custom("counts_calls", log=str(tmp_path / "calls"))
    folder = Run(config).execute().folder
    before = files(folder, "scores/**/*")
    if damage == "prediction":
        (folder / "predictions/c.mkv").unlink()
    elif damage == "record":
        (folder / "clips/c.json").write_text("{")
    else:
        path = folder / "predictions/c.mkv"
        path.write_bytes(path.read_bytes()[:-20])
    assert Run(config).execute().generated == ["c"]
    said = "clips/c.json is damaged" if damage == "record" else "c: its prediction is gone or is not the one that was scored"
    assert said in caplog.text
    assert (tmp_path / "calls").read_text().split() == [*"abcde", "c"]
    assert files(folder, "scores/**/*") == before


def test_what_a_killed_process_left_half_written_is_cleared(config: dict[str, Any]) -> None:
    run = Run(config)
    left = run.files.prediction_path("b").with_name(".b.mkv.123.456.tmp.mkv")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    run.execute()
    assert not left.exists()


@pytest.mark.parametrize("place", ["predictions", "measures/some-v1-raw", "clips", "../.reference/0123"])
def test_what_a_dead_process_left_half_written_anywhere_is_cleared(place: str, config: dict[str, Any]) -> None:
    run = Run(config)
    folder = run.folder / place
    folder.mkdir(parents=True)
    mine = storage.beside(folder / "b.npz")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}.", f"-{process.pid}."))
    elsewhere = dead.with_name(re.sub(r"[0-9a-f]{8}-", "00000000-", dead.name))
    for path in (mine, dead, elsewhere):
        path.write_bytes(b"half")
    run.execute()
    assert [path.exists() for path in (mine, dead, elsewhere)] == [True, False, True]


def test_missing_measures_are_computed_without_running_the_model(config: dict[str, Any], tmp_path: Path) -> None:
    config["model"] = custom("counts_calls", log=str(tmp_path / "calls"))
    folder = Run(config).execute().folder
    before = files(folder, "scores/**/*", "measures/**/*.npz")
    shutil.rmtree(folder / "measures")
    next((folder / "scores").glob("*/summary.json")).unlink()
    assert Run(config).execute().generated == []
    assert files(folder, "scores/**/*", "measures/**/*.npz") == before


def test_a_second_track_scores_what_is_there(config: dict[str, Any], tmp_path: Path) -> None:
    config["model"] = custom("counts_calls", log=str(tmp_path / "calls"))
    Run(config).execute()
    both = Run({**config, "track": ["raw", "composite"]}).execute()
    assert both.generated == []
    signatures = [{c["signature"] for c in summary(both, track)["columns"]} for track in ("raw", "composite")]
    assert not signatures[0] & signatures[1], "a composite is another thing than a raw prediction"


def test_scoring_some_clips_by_a_second_track_leaves_the_scores_of_the_first(run: Execute) -> None:
    whole = run()
    before = files(whole.folder, "scores/pixels-raw/**/*")
    both = run(track=["raw", "composite"], limit=1)
    assert files(whole.folder, "scores/pixels-raw/**/*") == before
    assert (both.ok, summary(both, "composite")["clips"]["names"]) == (1, ["a"])


def test_scores_of_more_clips_stay_while_passes_that_were_added_are_run(run: Execute, caplog: pytest.LogCaptureFixture) -> None:
    whole = run()
    before = files(whole.folder, "scores/**/*")
    shutil.rmtree(whole.folder / "measures")  # as are the passes of weights that were fetched since
    with caplog.at_level("INFO"):
        part = run(limit=3)
    assert part.ok == 3
    assert "stays as it is, of 5 clips, until as many have all passes (now 3)" in caplog.text
    assert files(whole.folder, "scores/**/*") == before
    shutil.rmtree(whole.folder / "scores")
    assert summary(run(limit=3))["clips"]["names"] == ["a", "b", "c"]


def test_scores_do_not_stay_where_a_clip_of_theirs_failed_since(run: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run()
    shutil.rmtree(whole.folder / "measures")
    (whole.folder / "predictions" / "b.mkv").unlink()
    monkeypatch.setattr(Handle, "load", lambda self: (_ for _ in ()).throw(OSError("gone")) if self.name == "b" else toy_clip(self.name))
    part = run(clips=["a", "b"])
    assert summary(part)["clips"]["names"] == ["a"]
    assert [one["clip"] for one in summary(part)["clips"]["failed"]] == ["b"]


def test_a_shard_leaves_the_scores_of_a_second_track_to_the_last_one(run: Execute) -> None:
    whole = run()
    before = files(whole.folder, "scores/pixels-raw/**/*")
    parts = [run(track=["raw", "composite"], shard=shard, num_shards=3) for shard in range(3)]
    assert [len(part.scores) for part in parts] == [0, 0, 2]
    assert files(whole.folder, "scores/pixels-raw/**/*") == before
    assert summary(parts[2], "composite")["clips"]["ok"] == parts[2].ok == 5


def test_scores_of_fewer_clips_than_a_run_has_are_read_with_a_warning(run: Execute, caplog: pytest.LogCaptureFixture) -> None:
    folder = run(limit=1).folder
    load_summaries([folder])
    assert not caplog.text
    run(shard=0, num_shards=2)
    load_summaries([folder])
    more = len(list((folder / "clips").glob("*.json"))) - 1
    assert f"has {more} more clips, which were begun since" in caplog.text


def test_scores_of_predictions_that_were_made_again_are_read_with_a_warning(run: Execute, caplog: pytest.LogCaptureFixture) -> None:
    both = run(track=["raw", "composite"])
    time.sleep(0.05)
    (both.folder / "predictions" / "b.mkv").unlink()
    run()
    load_summaries([both.folder])
    assert "older than its run" not in caplog.text, "the model gave the same again"
    path = both.folder / "clips" / "b.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction": "0" * 64}))  # as of a model that draws anew
    load_summaries([both.folder])
    assert caplog.text.count("is older than its run: predictions were made again since") == 2
    assert "with protocol=pixels track=composite, without limit" in caplog.text


def test_scores_of_a_clip_that_fails_now_or_failed_then_are_read_with_a_warning(
    run: Execute, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Handle, "load", lambda self: (_ for _ in ()).throw(OSError("gone")) if self.name == "b" else toy_clip(self.name))
        folder = run(track=["raw", "composite"]).folder
        caplog.clear()
        load_summaries([folder])
        assert not caplog.text
    run()
    load_summaries([folder])
    assert "pixels-composite/summary.json: the run has 1 more clips" in caplog.text
    assert "pixels-raw" not in caplog.text
    run(track=["raw", "composite"])
    caplog.clear()
    load_summaries([folder])
    assert not caplog.text
    time.sleep(0.05)
    (folder / "predictions" / "b.mkv").unlink()
    monkeypatch.setattr(Handle, "load", lambda self: (_ for _ in ()).throw(OSError("gone")) if self.name == "b" else toy_clip(self.name))
    run()
    caplog.clear()
    load_summaries([folder])
    assert "pixels-composite/summary.json: is older than its run: 1 of its clips are not done" in caplog.text
    assert "pixels-raw" not in caplog.text


def test_scores_of_a_track_that_was_begun_are_said_to_be_left_out(run: Execute, caplog: pytest.LogCaptureFixture) -> None:
    folder = run().folder
    run(track=["composite"], shard=0, num_shards=2)
    assert [one.track for one in load_summaries([folder])] == ["raw"]
    assert "pixels-composite: is left out, scores were begun and are not there" in caplog.text
    assert "with protocol=pixels track=composite" in caplog.text
    run(track=["composite"])
    caplog.clear()
    assert [one.track for one in load_summaries([folder])] == ["composite", "raw"]
    assert not caplog.text


def test_a_shard_does_not_derive_scores_that_are_there(run: Execute) -> None:
    path = run().folder / "scores" / "pixels-raw" / "summary.json"
    time.sleep(0.05)

    def derived(**what: Any) -> bool:
        before = path.stat().st_ino, path.stat().st_mtime_ns
        assert run(**what).ok == 5
        return (path.stat().st_ino, path.stat().st_mtime_ns) != before

    assert not derived(shard=1, num_shards=3)
    assert derived(), "one process always derives them"
    assert not derived(shard=1, num_shards=3)
    path.write_text("x")
    assert derived(shard=1, num_shards=3), "damaged"
    for gone in ("clips.csv", "frames/c.csv"):
        (path.parent / gone).unlink()
        assert derived(shard=1, num_shards=3), gone
        assert (path.parent / gone).is_file()
    (path.parents[2] / "predictions" / "a.mkv").unlink()
    assert [derived(shard=shard, num_shards=3) for shard in range(3)].count(True) == 1, "a clip was made again"


def test_one_bad_clip_is_recorded_and_the_run_goes_on(run: Execute) -> None:
    result = run(model=custom("raises_on_c"))
    assert result.failed == {"c": "RuntimeError: no idea how to fill this one"}
    assert result.ok == 4
    record = json.loads((result.folder / "clips/c.json").read_text())
    assert record["stage"] == "generate"
    assert "raises_on_c" in record["traceback"]
    assert summary(result)["clips"]["failed"] == [{"clip": "c", "reason": "RuntimeError: no idea how to fill this one"}]


def test_a_clip_that_cannot_be_read_is_recorded(run: Execute) -> None:
    result = run(benchmark={"_target_": "tests.toy.Toy", "names": ["a", "broken", "z"]})
    assert result.failed == {"broken": "OSError: broken.mp4: truncated"}
    assert result.ok == 2


def test_a_failed_clip_is_tried_again(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config["benchmark"]["names"] = ["a", "broken"]
    assert Run(config).execute().failed
    monkeypatch.setattr("tests.toy.Handle.load", lambda handle: toy_clip(handle.name))
    again = Run(config).execute()
    assert again.failed == {}
    assert again.generated == ["broken"]
    assert "error" not in json.loads((again.folder / "clips/broken.json").read_text())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("count", r"returned 3 frames for a clip of 4"),
        ("shape", r"returned shape \(4, 30, 40, 3\), dtype uint8"),
        ("dtype", r"dtype int32"),
        ("nan", r"NaN or infinite"),
        ("float", r"float32.*np\.rint"),
        ("list", r"a list"),
    ],
)
def test_a_wrong_prediction_says_what_came(run: Execute, how: str, message: str) -> None:
    result = run(model=custom("wrong", how=how), limit=1)
    with pytest.raises(ModelError, match=message):
        raise ModelError(result.failed["a"])
    assert "expected uint8 (4, 32, 40, 3)" in result.failed["a"]


def test_a_prediction_in_another_memory_layout_is_fine() -> None:
    clip = toy_clip("a")
    turned = np.asfortranarray(clip.frames)
    assert check_prediction(turned, clip, "x").flags.c_contiguous


@pytest.mark.parametrize("what", [{"limit": 2}, {"clips": ["a", "b"]}])
def test_a_restricted_run_is_partial_and_grows_into_the_whole(run: Execute, what: dict[str, Any]) -> None:
    part = run(**what)
    found = summary(part)["clips"]
    assert {key: found[key] for key in ("total", "ok", "names", "failed", "missing")} == {
        "total": 5,
        "ok": 2,
        "names": ["a", "b"],
        "failed": [],
        "missing": ["c", "d", "e"],
    }
    whole = run()
    assert whole.folder == part.folder
    assert whole.generated == ["c", "d", "e"]


def test_an_unknown_clip_lists_the_known_ones(run: Execute) -> None:
    with pytest.raises(ConfigError, match=r"'z' is unknown\..*Valid: a, b, c, d, e"):
        run(clips=["a", "z"])


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"model": {**custom("grey", level=9), "name": "grey"}},
        {"benchmark": {"_target_": "tests.toy.Toy", "salt": "other masks"}},
        {"benchmark": {"_target_": "tests.toy.Toy", "count": 4}},
    ],
)
def test_what_decides_an_output_is_part_of_the_identity(run: Execute, change: dict[str, Any]) -> None:
    assert run().folder != run(**change).folder


def test_the_bytes_of_a_custom_models_file_are_part_of_the_identity(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "my_model_file.py"
    monkeypatch.syspath_prepend(tmp_path)
    ids = []
    for level in (1, 2):
        source.write_text(f"def fill(clip, *, seed):\n    f = clip.frames.copy()\n    f[clip.masks] = {level}\n    return f\n")
        monkeypatch.delitem(__import__("sys").modules, "my_model_file", raising=False)
        config["model"] = {"_target_": "vpbench.models.custom", "target": "my_model_file.fill", "kwargs": {}}
        ids.append(Run(config).id)
    assert ids[0] != ids[1]


def test_a_folder_of_another_configuration_is_refused(config: dict[str, Any]) -> None:
    run = Run(config)
    path = run.folder / "run.json"
    found = json.loads(path.read_text())
    found["identity"]["seed"] = 7
    path.write_text(json.dumps(found))
    with pytest.raises(StorageError, match=r"made by another configuration \(seed: 7 there, 0 here\)"):
        Run(config)
    assert json.loads(path.read_text()) == found, "nothing was changed"


def test_a_damaged_manifest_is_said_and_written_anew(config: dict[str, Any]) -> None:
    path = Run(config).execute().folder / "run.json"
    before = json.loads(path.read_text())["identity"]
    path.write_text("garbage")
    with pytest.raises(StorageError, match=r"run\.json: cannot be read as JSON .*Delete it and run the same command again"):
        Run(config)
    path.unlink()
    assert Run(config).execute().generated == []
    assert json.loads(path.read_text())["identity"] == before


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real = video.write_lossless

    def full_after_two(path: Path, frames: Any, fps: float) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        real(path, frames, fps)

    monkeypatch.setattr(video, "write_lossless", full_after_two)
    with pytest.raises(StorageError, match=r"c\.mkv: cannot be written \(No space left on device\).*finished clips are kept"):
        Run(config).execute()
    monkeypatch.setattr(video, "write_lossless", real)
    assert Run(config).execute().generated == ["c", "d", "e"]


def test_a_claim_that_a_killed_process_left_on_a_finished_clip_goes_and_a_living_one_stays(run: Execute) -> None:
    clips = run().folder / "clips"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for clip, holder in (("a", dead), ("b", alive)):
            storage.write_json(clips / f"{clip}.claim", {"host": "here", "machine": storage.machine(), "pid": holder.pid, "since": 0})
        run()
        assert [path.name for path in clips.glob("*.claim")] == ["b.claim"]
    finally:
        alive.kill()
        alive.wait()


def test_where_predictions_cannot_lie_the_run_ends_and_no_clip_has_failed(run: Execute) -> None:
    folder = run(limit=1).folder
    shutil.rmtree(folder / "predictions")
    (folder / "predictions").write_text("")
    with pytest.raises(StorageError, match=r"predictions: cannot be written \(File exists\)"):
        run()
    assert [path.name for path in (folder / "clips").glob("*.json")] == ["a.json"]


def test_an_interruption_releases_the_claim_and_loses_nothing(config: dict[str, Any], interrupted_at: Interrupted) -> None:
    with interrupted_at("c"), pytest.raises(KeyboardInterrupt):
        Run(config).execute()
    run = Run(config)
    assert not list(run.folder.glob("clips/*.claim"))
    assert run.execute().generated == ["c", "d", "e"]


def test_a_clip_that_another_process_works_on_is_waited_for(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(config)
    loaded: list[str] = []
    read = Handle.load

    def load(handle: Handle) -> Any:
        loaded.append(handle.name)
        return read(handle)

    monkeypatch.setattr(Handle, "load", load)
    caplog.set_level("INFO")
    claim = run.files.claim_path("b")
    storage.write_json(claim, {"host": "elsewhere", "pid": 1, "since": 0})

    def other_machine_gives_up(_: float) -> None:
        os.utime(claim, (0, 0))

    monkeypatch.setattr(running.time, "sleep", other_machine_gives_up)
    assert run.execute().generated == ["a", "c", "d", "e", "b"]
    assert loaded == ["a", "c", "d", "e", "b"], "read while another process had it"
    since = time.strftime("%H:%M:%S", time.localtime(0))
    assert [r.message for r in caplog.records if "waiting" in r.message] == [f"waiting for b: elsewhere, process 1, since {since}"]


def test_the_hole_of_an_edit_without_a_known_result_has_no_value(run: Execute) -> None:
    result = run(benchmark={"_target_": "tests.toy.Toy", "names": ["edit1", "edit2", "plain"]})
    columns = {c["column"]: c for c in summary(result)["columns"]}
    assert columns["psnr[hole]"]["n"] == 1
    assert [e["clip"] for e in columns["psnr[hole]"]["excluded"]] == ["edit1", "edit2"]
    assert "no true answer" in columns["psnr[hole]"]["excluded"][0]["reason"]
    assert columns["psnr[background]"]["n"] == 3


def test_an_inpainting_model_sees_no_pixel_of_the_hole() -> None:
    """Search everything reachable from the object for the colour that only the hole has."""
    clip = toy_clip("a")
    secret = (251, 3, 252)
    clip.frames[clip.masks] = secret
    seen = MaskedClip.of(clip)

    def arrays(value: Any, depth: int = 0) -> list[np.ndarray]:
        if isinstance(value, np.ndarray):
            return [value] + ([arrays(value.base, depth)[0]] if isinstance(value.base, np.ndarray) else [])
        if depth > 4 or isinstance(value, (str, bytes, int, float, type(None))):
            return []
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else vars(value).values()
        return [found for item in inside for found in arrays(item, depth + 1)]

    found = arrays(seen)
    assert len(found) >= 2, "the search must have found frames and masks"
    assert any(array.dtype == np.uint8 for array in found)
    for array in found:
        if array.dtype == np.uint8:
            assert not (array.reshape(-1, 3) == secret).all(axis=1).any()
            assert not np.shares_memory(array, clip.frames)
    assert seen.source is None
    edit = MaskedClip.of(toy_clip("a", operation="remove"))
    assert edit.source is not None


def test_the_model_gets_its_own_masks() -> None:
    clip = toy_clip("a")
    MaskedClip.of(clip).masks[:] = False
    assert clip.masks.any(), "a model that changes its masks must not change the scoring"


def test_a_model_that_needs_the_reference_is_marked(run: Execute) -> None:
    leaf = {"_target_": "vpbench.baselines.ground_truth.GroundTruth", "name": "ground_truth", "needs_reference": True, "ranked": False}
    result = run(model=leaf)
    assert summary(result)["model"] == {"name": "ground_truth", "needs_reference": True, "ranked": False}
    assert value(result, "psnr[hole]") == 100.0
    assert value(result, "ssim[hole]") == 1.0


def test_a_model_with_random_weights_is_shown_and_never_ranked(run: Execute) -> None:
    result = run(model=custom("WithRandomWeights"))
    assert summary(result)["model"]["barred"] == "seeded random weights"
    (row,) = rank(load_summaries([result.folder])).groups[0].rows
    assert (row.place, row.reason) == (None, "not ranked: seeded random weights")


def test_the_benchmark_fingerprint_follows_its_clips() -> None:
    assert [h.fingerprint() for h in Toy(3)] != [h.fingerprint() for h in Toy(3, salt="x")]
