"""What a model says of its run that a reader of the table must know: from the clips' records into every form of the table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.conftest import custom
from tests.summaries import Runs, psnr
from tests.toy import grey
from vpbench.clip import Frames, MaskedClip
from vpbench.results import Note, load_summaries
from vpbench.running import Result, Run
from vpbench.tables import Options, print_table, rank, table_files

LOSSY = "lossy input: h264 yuv420p"


class Noted:
    """Says something of every clip, and one thing more of those in ``bent``; ``notes`` is an attribute."""

    def __init__(self, bent: list[str]) -> None:
        self.bent = bent
        self.notes: list[str] = []

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        self.notes = [LOSSY, *(["the aspect was changed"] if clip.name in self.bent else [])]
        return grey(clip, seed=seed)


class NotedByMethod:
    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        return grey(clip, seed=seed)

    def notes(self) -> list[str]:
        return [LOSSY, LOSSY]


def noted(name: str, **kwargs: Any) -> dict[str, Any]:
    return {**custom("grey"), "target": f"tests.test_notes.{name}", "kwargs": kwargs}


def test_notes_are_in_the_records_and_in_the_summary_with_their_clips(config: dict[str, Any]) -> None:
    config["model"] = noted("Noted", bent=["b", "d"])
    result = Run({**config, "limit": 4}).execute()
    assert json.loads((result.folder / "clips/b.json").read_text())["notes"] == [LOSSY, "the aspect was changed"]
    Run(config).execute()  # goes on with the fifth: what the first four said is still known
    (found,) = load_summaries([result.folder])
    assert found.notes == (Note(LOSSY, tuple("abcde")), Note("the aspect was changed", ("b", "d")))
    (found,) = load_summaries([Run({**config, "model": noted("NotedByMethod")}).execute().folder])
    assert found.notes == (Note(LOSSY, tuple("abcde")),)


def test_a_run_without_notes_says_nothing_of_them(run: Callable[..., Result]) -> None:
    folder = run(limit=1).folder
    assert "notes" not in json.loads((folder / "clips/a.json").read_text())
    assert "notes" not in json.loads((folder / "scores/pixels-raw/summary.json").read_text())["model"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two rows of eight clips; one says two things."""
    write = Runs(tmp_path)
    write("plain", psnr(values=list(np.linspace(10, 20, 8))))
    write("noted", psnr(values=list(np.linspace(11, 21, 8))))
    (file,) = tmp_path.glob("run1/scores/*/summary.json")
    summary = json.loads(file.read_text())
    every = summary["clips"]["names"]
    summary["model"]["notes"] = [{"note": LOSSY, "clips": every}, {"note": "resized: 64x48 by bicubic.", "clips": every[:3]}]
    summary["clips"]["properties"] = {clip: {"operation": "swap" if i < 2 else "add"} for i, clip in enumerate(every)}
    file.write_text(json.dumps(summary))
    return tmp_path


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.html", "leaderboard.tex"])
def test_every_table_for_people_marks_the_row_and_says_it_below(runs: Path, name: str) -> None:
    text = table_files(rank(load_summaries([runs])), Options())[name].replace("\\_", "_")
    assert "lossy input; resized" in text
    assert "noted: lossy input: h264 yuv420p." in text
    assert "noted: resized: 64x48 by bicubic (3 of 8 clips)." in text
    assert "plain: " not in text


@pytest.mark.parametrize(("terminal", "width"), [(False, 80), (True, 200), (True, 40)])
def test_the_printed_table_too(runs: Path, terminal: bool, width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)
    print_table(rank(load_summaries([runs])), console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "lossy input; resized" in printed
    assert "noted: lossy input: h264 yuv420p.\nnoted: resized: 64x48 by bicubic (3 of 8 clips).\n" in printed


def test_machines_get_them_too(runs: Path) -> None:
    files = table_files(rank(load_summaries([runs])), Options())
    notes = {row["model"]: row["notes"] for row in csv.DictReader(io.StringIO(files["leaderboard.csv"]))}
    assert notes == {"plain": "", "noted": f"{LOSSY}; resized: 64x48 by bicubic."}
    wide = {row["model"]: row["note"] for row in csv.DictReader(io.StringIO(files["leaderboard_wide.csv"]))}
    assert wide["noted"] == "lossy input; resized"
    (table,) = json.loads(files["leaderboard.json"])["tables"]
    rows = {row["label"]: row.get("notes") for row in table["rows"]}
    assert rows == {"plain": None, "noted": [{"note": LOSSY, "clips": 8}, {"note": "resized: 64x48 by bicubic.", "clips": 3}]}


def test_a_noted_row_is_ranked_all_the_same_and_a_slice_has_its_own_clips(runs: Path) -> None:
    whole, *parts = rank(load_summaries([runs]), by=["operation"]).groups
    assert [row.place for row in whole.rows] == [1, 2]
    (swap,) = [group for group in parts if group.slice == "operation=swap"]
    row = next(row for row in swap.rows if row.label == "noted")
    assert {note.text: note.clips for note in row.summary.notes}["resized: 64x48 by bicubic."] == ("clip0", "clip1")
