"""`vpbench status`, and runs that several processes share as shards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import custom
from tests.test_cli import loaded_after
from tests.toy import Handle, Toy
from vpbench.cli import main
from vpbench.errors import ConfigError, DataError
from vpbench.results import load_summaries
from vpbench.running import Result, Run, sharded
from vpbench.status import run_folders, standing
from vpbench.storage import machine
from vpbench.tables import Options, rank, table_files

Execute = Callable[..., Result]


def lines(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str]]:
    status = main(["status", *map(str, arguments)])
    return status, capsys.readouterr().out.splitlines()


def test_a_finished_run(run: Execute, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run().folder
    assert lines(capsys, folder) == (0, [f"{folder}: 5/5 done, 0 running, 0 failed, 0 missing"])
    assert lines(capsys, folder.parent.parent)[1][0].startswith(str(folder)), "found below"


def test_failed_and_missing_clips(run: Execute, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(model=custom("raises_on_c"), limit=4).folder
    status, (first, second) = lines(capsys, folder)
    assert status == 1
    assert first.startswith(f"{folder}: 3/5 done, 0 running, 1 failed, 1 missing  about ")
    assert second.startswith("  failed  c: ")


def test_who_works_on_what_since_when_and_what_a_dead_process_left(run: Execute, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(limit=2).folder
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        claim = {"host": "node-6", "machine": machine(), "pid": sleeper.pid, "since": round(time.time()) - 312}
        (folder / "clips/c.claim").write_text(json.dumps(claim))
        (folder / "clips/d.claim").write_text(json.dumps({**claim, "host": "node-7", "machine": "another"}))
        (folder / "clips/e.claim").write_text(json.dumps({**claim, "host": "node-8", "machine": "a third"}))
        os.utime(folder / "clips/e.claim", (0, 0))
        status, found = lines(capsys, folder)
        assert status == 1
        assert found[0].startswith(f"{folder}: 2/5 done, 2 running, 0 failed, 1 missing  about ")
        assert found[1] == f"  running c: node-6, process {sleeper.pid}, for 5 min 12 s"
        assert found[2] == f"  running d: node-7, process {sleeper.pid}, for 5 min 12 s"
    finally:
        sleeper.kill()
        sleeper.wait()
    assert ", 1 running," in lines(capsys, folder)[1][0], "of a process that is gone on this machine the claim is void"


def test_the_time_left_is_what_the_last_clips_took_on_as_many_processes(run: Execute) -> None:
    folder = run(limit=2).folder
    assert standing(folder).seconds_left is not None
    for clip, seconds in (("a", 4), ("b", 8)):
        path = folder / "clips" / f"{clip}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds, "score_seconds": 2.0}))
    assert standing(folder).seconds_left == pytest.approx(3 * 8.0), "nobody works: as one process would"
    for clip in "cd":
        claim = {"host": "node-7", "machine": "another", "pid": 1, "since": round(time.time())}
        (folder / "clips" / f"{clip}.claim").write_text(json.dumps(claim))
    assert standing(folder).seconds_left == pytest.approx(3 * 8.0 / 2)
    for extreme in (1e308, 10**400, -1e9):
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": extreme, "score_seconds": 1e308}))
        left = standing(folder).seconds_left
        assert left is None or left >= 0


def test_a_run_that_cannot_be_read_hides_no_other(run: Execute, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run().folder
    broken = folder.parent / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("garbage")
    assert main(["status", str(folder.parent)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{folder}: 5/5 done")
    assert "broken/run.json: cannot be read as JSON" in said.err


def test_a_run_without_its_manifest_is_said(run: Execute, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = run().folder, run(seed=3).folder
    (other / "run.json").unlink()
    assert main(["status", str(folder.parent)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{folder}: 5/5 done")
    assert f"{other}/run.json: is missing. Run the same command again" in said.err
    run(seed=3)
    assert main(["status", str(folder.parent)]) == 0


def test_for_machines(run: Execute, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(limit=2).folder
    assert main(["status", "--json", str(folder)]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["done"], found["missing"], found["total"], found["run"]) == (["a", "b"], ["c", "d", "e"], 5, str(folder))


def test_nothing_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="holds no run"):
        run_folders([tmp_path])
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_it_imports_no_torch(run: Execute, tmp_path: Path) -> None:
    assert "torch" not in loaded_after(f"from vpbench.cli import main; main(['status', {str(run().folder)!r}])", tmp_path)


@given(st.integers(1, 40), st.integers(1, 12))
def test_shards_share_the_clips_evenly(clips: int, shards: int) -> None:
    handles = [Handle(f"clip{i}", "", 4) for i in range(clips)]
    parts = [sharded(handles, shard, shards) for shard in range(shards)]
    assert sorted(h.name for part in parts for h in part) == sorted(h.name for h in handles)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all([h for h in handles if h in part] == part for part in parts)


@pytest.mark.parametrize(
    ("shard", "shards", "why"),
    [
        (2, 2, "shards are counted from 0, so 0 to 1."),
        (-1, 2, "shards are counted from 0, so 0 to 1."),
        (1, 1, "shards are counted from 0, so 0 to 0. How many there are is num_shards=N."),
        (None, 4, "which of them is this? shard=0 to 3; with -m 'shard=range(0,4)'."),
        (0, 0, "num_shards is how many processes share the clips: 1 or more."),
    ],
)
def test_a_shard_that_is_none_is_refused(config: dict[str, Any], shard: int | None, shards: int, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        Run({**config, "shard": shard, "num_shards": shards})
    given = "" if shard is None else f"shard={shard} "
    assert str(error.value) == f"{given}num_shards={shards}: {why}"


def test_a_failure_belongs_to_the_shard_that_had_it(config: dict[str, Any]) -> None:
    results = [Run({**config, "model": custom("raises_on_c"), "shard": shard, "num_shards": 3}).execute() for shard in range(3)]
    assert sorted(clip for result in results for clip in result.failed) == ["c"]
    assert sum(result.total for result in results[:2]) + len(results[2].generated) + len(results[2].failed) == 5


def test_a_prediction_that_waits_for_its_scores_is_counted_apart(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(config)
    monkeypatch.setattr(run.passes, "score", lambda *_: None)
    folder = run.execute().folder
    assert lines(capsys, folder) == (1, [f"{folder}: 0/5 done, 0 running, 5 to be scored, 0 failed, 0 missing"])
    assert standing(folder).total == 5


def test_shards_together_are_the_run_to_the_last_byte(config: dict[str, Any], tmp_path: Path) -> None:
    config["protocol"]["metrics"]["spread"] = {"_target_": "tests.toy_metrics.Spread", "regions": ["frame"]}
    Run({**config, "out": str(tmp_path / "whole")}).execute()
    results = [Run({**config, "out": str(tmp_path / "parts"), "shard": shard, "num_shards": 3}).execute() for shard in (2, 0, 1)]
    assert sorted(clip for result in results for clip in result.generated) == sorted(h.name for h in Toy(5))
    assert [(result.ok, len(result.scores)) for result in results] == [(1, 0), (2, 0), (5, 1)], "the last shard leaves the scores of all"
    one, other = (table_files(rank(load_summaries([folder])), Options()) for folder in (tmp_path / "whole", tmp_path / "parts"))
    assert one == other


def test_processes_that_end_together_leave_the_scores_of_all(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes its clip while this one writes scores: they are written once more."""
    mine = Run({**config, "clips": ["a", "b", "d"]})
    other = Run(config)
    write, seen = mine._score, []

    def late(records: Any, *others: Any) -> Result:
        if not seen:
            other._generate(lambda clip, done, total: None)
        seen.append(len(records))
        return write(records, *others)

    monkeypatch.setattr(mine, "_score", late)
    assert mine.execute().ok == 5
    assert seen[0] < 5
    assert seen[-1] == 5
    (summary,) = load_summaries([mine.folder])
    assert summary.ok == 5
