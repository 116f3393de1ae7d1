"""Damaged inputs for every reader: it takes them or refuses them with an error of ours, in bounded time and memory, and runs nothing.

``make test`` reads some inputs per reader, ``make test-long`` the 2,000 of docs/reliability.md.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.campaign import campaign
from tests.fuzz.guards import Watch
from tests.fuzz.hostile import scripts_in
from tests.fuzz.mutations import BY_SUFFIX, mutate
from tests.fuzz.readers import READERS

INPUTS = int(os.environ.get("VPBENCH_FUZZ", "50"))  # per reader; make test-long: 2000
REPORTING = ("outputs to be scored", "run folders: status", "hashes of files (JSON)")  # they say what is wrong, or pass over it


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_only_our_errors_come_out(name: str, tmp_path: Path) -> None:
    tally = campaign(name, 0, INPUTS, seed=0, keep=tmp_path / "found")
    assert not tally.findings, f"{tally.findings}; inputs in {tmp_path / 'found'}"
    assert tally.inputs == tally.accepted + tally.refused == INPUTS
    assert tally.accepted < INPUTS or name in REPORTING, "no input was refused: are they damaged at all?"


def test_names_of_readers_are_unique() -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)


@pytest.mark.parametrize("suffix", sorted(BY_SUFFIX))
def test_equal_seeds_give_equal_damage(suffix: str) -> None:
    data = b'{"a": [1, 2.5, "x"], "b": null}\n' * 3
    one, again, other = (mutate(data, f"a.{suffix}", [b"x,y\n1,2\n"], random.Random(seed)) for seed in (3, 3, 4))
    assert one == again
    assert {one, other} != {data}


@pytest.mark.parametrize(
    "markup",
    [
        "<script>alert(1)</script>",
        "<p onclick=alert(1)>x</p>",
        '<a href="javascript:alert(1)">x</a>',
        '<a href=" java&#115;cript:alert(1)">x</a>',
        "<img src=x>",
        '<link href="https://elsewhere/a.css">',
        '<p style="background: url(//elsewhere)">x</p>',
    ],
)
def test_a_page_that_could_run_something_is_seen(markup: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f"<!doctype html><p>fine</p>{markup}")
    assert scripts_in(tmp_path)


def test_a_page_of_ours_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="../x.html#a">&lt;script&gt;</a><script src="../charts.js"></script>')
    (tmp_path / "data.js").write_text('window.REPORT = {"a":"\\u003cscript"};\n')
    assert scripts_in(tmp_path) == []


def test_pickles_programs_and_writes_elsewhere_are_seen(tmp_path: Path) -> None:
    import pickle
    import subprocess
    import sys

    (tmp_path / "inside").mkdir()
    watch = Watch(tmp_path / "inside", programs=False)
    with watch.listening():
        (tmp_path / "inside/a").write_text("fine")
        assert watch.seen == []
        pickle.loads(pickle.dumps(Path))
        subprocess.run([sys.executable, "-c", ""], check=True)
        (tmp_path / "b").write_text("outside")
        (tmp_path / "inside/a").rename(tmp_path / "a")
    assert [line.split()[0] for line in watch.seen if "pyc" not in line and "/dev/" not in line][-4:] == [
        "unpickled",
        "subprocess.Popen",
        "open",
        "os.rename",
    ]
