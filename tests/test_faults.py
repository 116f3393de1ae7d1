"""What can befall a sweep: kill -9 at random moments, two processes on one run, a full and a read-only disk, a clip that needs too much
memory, a benchmark whose files change. The tables are those of a sweep that nobody disturbed, to the last byte, and nothing is lost.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests import sweeps
from tests.benchmarks.files import frames, holes, write_masks, write_pictures
from tests.sweeps import finished, processes, tables, write_models
from vpbench.cli import main
from vpbench.storage import owner_of

KILLS = int(os.environ.get("VPBENCH_KILLS", "10"))  # make test-long: 50
GREEDY = """
import numpy

class Greedy:
    version = 1

    def __call__(self, clip, *, seed):
        if clip.name == "galaxies":
            numpy.empty(1 << 50)
        return clip.frames
"""
SMALL = ["benchmark.frames=6", "benchmark.height=96", "benchmark.width=160"]
TWO = ["shard=0,1", "num_shards=2", "hydra/launcher=cores", "hydra.launcher.n_jobs=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models."""
    return write_models(tmp_path_factory.mktemp("faults"), 0.3)


@pytest.fixture(scope="module")
def expected(place: Path) -> dict[str, bytes]:
    """The tables of a sweep that nobody disturbed."""
    finished(start(place, "calm"))
    return tables(place, "calm")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def start(place: Path, out: str, *more: str) -> subprocess.Popen[str]:
    return sweeps.start(place, *SMALL, f"out={out}", *more)


def records(place: Path) -> list[Path]:
    return list((place / "stormy").glob("demo/*/clips/*.json"))


def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_tables(place: Path, expected: dict[str, bytes]) -> None:
    chance = random.Random(0)
    for number in range(KILLS):
        before = records(place)
        if len(before) > 10:  # nearly all done: these are to be made once more, with everything else left as it is
            for path in before:
                path.unlink()
            before = []
        process = start(place, "stormy", *(TWO if number % 3 == 2 else ()))
        until = len(before) + chance.randint(0, 2)
        while process.poll() is None and not (len(records(place)) >= until and any((place / "stormy").rglob("*.claim"))):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.5))
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)  # with all its children, as when a machine is lost
        process.communicate(timeout=60)
        assert set(before) <= set(records(place)), "a clip that was done is done no more"
    finished(start(place, "stormy"))
    assert tables(place, "stormy") == expected
    assert not [path for path in (place / "stormy").rglob("*") if path.suffix in (".claim", ".tmp")]


def test_two_processes_on_one_run_share_its_clips(place: Path, expected: dict[str, bytes]) -> None:
    both = [start(place, "shared") for _ in range(2)]
    for process in both:
        finished(process)
    assert tables(place, "shared") == expected


def test_a_killed_worker_of_a_sweep_is_said_and_the_same_command_goes_on(place: Path, expected: dict[str, bytes]) -> None:
    process = start(place, "worker", *TWO)
    claims: list[Path] = []
    while not claims:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        claims = [path for path in (place / "worker").rglob("*.claim") if owner_of(path)]
    owner = owner_of(claims[0])
    assert owner is not None
    assert owner.pid != process.pid
    os.kill(owner.pid, signal.SIGKILL)
    said = finished(process, 1)
    assert "the sweep was given up (TerminatedWorkerError: " in said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    finished(start(place, "worker", *TWO))
    assert tables(place, "worker") == expected


def test_workers_end_with_a_sweep_that_is_killed(place: Path, expected: dict[str, bytes]) -> None:
    process = start(place, "orphans", *TWO)
    while len({owner.pid for path in (place / "orphans").rglob("*.claim") if (owner := owner_of(path))}) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while left := processes("pgid", process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    finished(start(place, "orphans", *TWO))
    assert tables(place, "orphans") == expected


def test_a_full_disk_stops_a_sweep_which_goes_on_when_there_is_room(place: Path, expected: dict[str, bytes], disk: Path) -> None:
    out = str(disk / "full")
    said = finished(start(place, out), 1)
    assert "No space left on device" in said
    assert str(disk) in said
    assert "Traceback" not in said
    made = [path.parents[1] / "predictions" / f"{path.stem}.mkv" for path in disk.rglob("clips/*.json")]
    when = {path: path.stat().st_mtime_ns for path in made if path.exists()}
    assert when
    remount(disk, "size=100m")
    finished(start(place, out))
    assert {path: path.stat().st_mtime_ns for path in when} == when, "made again"
    assert tables(place, out) == expected


def test_a_read_only_folder_is_said_and_nothing_is_lost(place: Path, expected: dict[str, bytes], disk: Path) -> None:
    remount(disk, "size=100m")
    out = str(disk / "kept")
    finished(start(place, out))
    remount(disk, "ro")
    said = finished(start(place, str(disk / "new")), 2)
    assert "Read-only file system" in said
    assert "out=DIR" in said
    assert "Traceback" not in said
    assert tables(place, out) == expected
    remount(disk, "rw")
    finished(start(place, out))
    assert tables(place, out) == expected


def test_a_clip_that_needs_too_much_memory_fails_alone(place: Path) -> None:
    (place / "greedy.py").write_text(GREEDY)
    line = [
        sys.executable,
        "-m",
        "vpbench",
        "run",
        "model=custom",
        "model.target=greedy.Greedy",
        "benchmark=demo",
        *SMALL,
        "protocol=pixels",
        "out=greedy",
    ]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "galaxies: " in done.stdout
    assert "Unable to allocate" in done.stdout
    assert "1 of 8 clips failed" in done.stdout


def test_files_of_a_benchmark_that_are_missing_are_said_before_anything_is_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = place / "gaps"
    rows = "".join(f"{number:012}_1_seg_0_9.mp4,0,9,8,1,a\n" for number in range(3))
    root.mkdir()
    (root / "list.csv").write_text(f"path,start_frame,end_frame,fps,mask_id,caption\n{rows}")
    line = ["model=telea", "benchmark=vpbench", f"benchmark.root={root}", "benchmark.csv=list.csv", f"out={place / 'gaps-runs'}"]
    assert main(["run", *line]) == 2
    said = capsys.readouterr().out
    assert "000000000000_1_seg_0_9.mp4: cannot be read" in said
    assert "So are the files of 2 more clips. The content of all clips is part of what a run is" in said


def test_a_benchmark_that_changes_is_another_one(place: Path) -> None:
    shown, masks = frames(4), holes(4)
    write_pictures(place / "clips" / "a", shown)
    write_masks(place / "masks" / "a", masks)
    line = [
        "model=telea",
        "benchmark=folder",
        f"benchmark.root={place / 'clips'}",
        f"benchmark.masks_dir={place / 'masks'}",
        "protocol=pixels",
        f"out={place / 'changing'}",
    ]
    assert main(["run", *line]) == 0
    shown[2, :4] += 9
    write_pictures(place / "clips" / "a", shown)
    assert main(["run", *line]) == 0
    assert main(["rank", str(place / "changing"), "-o", str(place / "board")]) == 0
    table = pd.read_csv(place / "board" / "leaderboard.csv")
    assert table["fingerprint"].nunique() == 2
    assert len(list((place / "changing").glob("*/telea-*"))) == 2
