"""Scoring in a process of its own, beside the model."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.sweeps import processes
from tests.toy import Handle, Toy, grey
from vpbench.clip import Clip, Frames, MaskedClip
from vpbench.configuration import RunConfig, resolved
from vpbench.errors import ConfigError
from vpbench.run_folder import Passes
from vpbench.running import Run

GENERATING = os.getpid()


@dataclass(frozen=True)
class Lethal(Handle):
    """Clip ``c`` does something in every process but the one that generates."""

    generating: int = 0
    what: str = ""

    def load(self) -> Clip:
        if self.name == "c" and os.getpid() != self.generating:
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError("no room beside the model")
        return super().load()


class LethalToy(Toy):
    def __init__(self, generating: int, what: str) -> None:
        super().__init__()
        self._handles = [Lethal(h.name, h.salt, h.frames, generating, what) for h in self]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for what in ("scores", "measures") for p in sorted((folder / what).rglob("*.*"))}


@pytest.fixture
def apart(config: dict[str, Any], tmp_path: Path) -> Callable[..., Run]:
    """A run whose clips are scored beside the model, in a folder of its own."""
    return lambda **changes: Run({**config, "overlap": True, "out": str(tmp_path / "apart"), **changes})


def test_the_files_are_those_of_one_process(config: dict[str, Any], apart: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Run(config).execute()
    monkeypatch.setattr(Passes, "score", lambda *_: pytest.fail("scored in the process that generates"))
    seen: list[tuple[str, int]] = []
    result = apart().execute(lambda name, done, total: seen.append((name, done)))
    assert contents(result.folder) == contents(alone.folder)
    assert seen == [("", 0), ("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]
    assert result.generated == list("abcde")
    assert not list(result.folder.glob("clips/*.claim"))


def test_what_is_generated_already_is_scored_there_too(apart: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first = apart().execute()
    for path in (first.folder / "measures").rglob("*.npz"):
        path.unlink()
    monkeypatch.setattr(Passes, "score", lambda *_: pytest.fail("scored in the process that generates"))
    again = apart().execute()
    assert (again.ok, again.generated) == (5, [])


@pytest.mark.parametrize(
    ("what", "told"), [("kill", "ended with status -9"), ("raise", "c: could not be scored beside the model.*no room")]
)
def test_the_model_s_process_scores_what_the_other_leaves(
    what: str, told: str, config: dict[str, Any], apart: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    alone = Run(config).execute()
    result = apart(benchmark={"_target_": "tests.test_beside.LethalToy", "generating": GENERATING, "what": what}).execute()
    assert (result.ok, result.failed) == (5, {})
    assert contents(result.folder) == contents(alone.folder)
    assert not list(result.folder.glob("clips/*.claim"))
    assert re.search(told, caplog.text)


def test_a_death_while_the_model_goes_on_is_not_waited_for(config: dict[str, Any], apart: Callable[..., Run]) -> None:
    alone = Run(config).execute()
    model = {"_target_": "vpbench.models.custom", "target": "tests.test_beside.kills_the_scorer", "name": "grey", "kwargs": {}}
    result = apart(model=model).execute()
    assert (result.ok, result.failed) == (5, {})
    one, other = contents(result.folder), contents(alone.folder)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == ["scores/pixels-raw/summary.json"], "which names the run"


def kills_the_scorer(clip: MaskedClip, *, seed: int) -> Frames:
    """At the third clip, and leaves the news of it time to arrive before the fourth."""
    if clip.name == "c":
        for pid in processes("ppid", os.getpid()):
            os.kill(pid, signal.SIGKILL)
        time.sleep(2)
    return grey(clip, seed=seed)


def test_clips_that_cannot_be_made_or_read_fail_as_without_it(apart: Callable[..., Run]) -> None:
    model = {"_target_": "vpbench.models.custom", "target": "tests.toy.raises_on_c", "name": "grey"}
    benchmark = {"_target_": "tests.toy.Toy", "names": ["a", "broken", "c", "d"]}
    result = apart(model=model, benchmark=benchmark).execute()
    assert result.ok == 2
    assert result.failed == {"broken": "OSError: broken.mp4: truncated", "c": "RuntimeError: no idea how to fill this one"}


def test_an_interruption_ends_both_and_gives_claims_back(
    apart: Callable[..., Run], interrupted_at: Callable[[str], AbstractContextManager[None]]
) -> None:
    run = apart()
    with interrupted_at("d"), pytest.raises(KeyboardInterrupt):
        run.execute()
    assert not list(run.folder.glob("clips/*.claim"))
    assert apart().execute().generated == ["d", "e"]


def test_nobody_goes_on_scoring_for_a_process_that_was_killed(tmp_path: Path) -> None:
    out, said = tmp_path / "runs", tmp_path / "said"
    line = ["run", "model=custom", "model.target=tests.toy.counts_calls", f"model.kwargs.log={tmp_path / 'log'}", "model.kwargs.seconds=1"]
    line += ["benchmark=demo", "protocol=pixels", "overlap=true", f"out={out}"]
    with subprocess.Popen([sys.executable, "-m", "vpbench", *line], start_new_session=True, stderr=said.open("w")) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("*/*/measures/*/*.npz")):  # so both are at work
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(processes("pgid", process.pid)) == 2
        process.kill()
    while processes("pgid", process.pid):
        assert time.monotonic() < deadline, "the process that scores goes on"
        time.sleep(0.05)
    assert "Traceback" not in said.read_text()
    again = subprocess.run([sys.executable, "-m", "vpbench", *line, "overlap=false", "model.kwargs.seconds=0"], check=False)
    assert again.returncode == 0


def test_a_value_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlap=maybe: expected auto, true or false"):
        resolved(OmegaConf.create({**vars(RunConfig(model={}, benchmark={}, protocol={})), "overlap": "maybe", "leaderboard": None}))
