"""Sweeps over shards, launched by joblib, by a real Slurm and by a real Ray: the tables are those of one process, to the last byte."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import said, wait
from tests.sweeps import finished, start, tables, write_models


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two slow models."""
    return write_models(tmp_path_factory.mktemp("sweeps"), 0.7)


def sweep(place: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return start(place, "limit=6", *arguments, environment=environment)


@pytest.fixture(scope="module")
def local(place: Path) -> dict[str, bytes]:
    finished(sweep(place, "out=local"))
    return tables(place, "local")


def test_shards_on_the_cores_of_a_machine(place: Path, local: dict[str, bytes]) -> None:
    finished(sweep(place, "out=cores", "shard=0,1", "num_shards=2", "hydra/launcher=cores", "hydra.launcher.n_jobs=2"))
    assert tables(place, "cores") == local


def test_shards_on_slurm_with_a_job_that_is_killed_and_queued_again(place: Path, local: dict[str, bytes], slurm: dict[str, str]) -> None:
    settings = ["partition=main", "gpus_per_node=0", "cpus_per_task=1", "mem_gb=1", "timeout_min=10"]
    environment = {**slurm, "OMP_NUM_THREADS": "1"}
    process = sweep(
        place,
        *("out=slurm", "shard=0,1,2", "num_shards=3", "hydra/launcher=slurm"),
        *(f"hydra.launcher.{setting}" for setting in settings),
        environment=environment,
    )
    records = place / "slurm" / "demo"
    running: list[str] = []

    def at_work() -> bool:
        running[:] = said(["squeue", "-h", "-t", "RUNNING", "-o", "%i"], slurm).split()
        return bool(running) and len(list(records.glob("*/clips/*.json"))) >= 2

    wait(at_work, "the second clip", 300)
    killed = running[0]
    assert subprocess.run(["scontrol", "requeue", killed], env=slurm, capture_output=True, timeout=30).returncode == 0
    wait(lambda: killed not in said(["squeue", "-h", "-t", "RUNNING", "-o", "%i"], slurm).split(), "the end of the killed job")
    # Slurm holds a job that was put back for two minutes; nobody has to wait here
    said(["scontrol", "update", f"jobid={killed}", "starttime=now"], slurm)
    finished(process)
    assert tables(place, "slurm") == local
    again = said(["scontrol", "show", "job", killed], slurm)
    assert "Restarts=1" in again, again


def test_shards_on_ray_with_a_worker_that_is_killed(place: Path, local: dict[str, bytes], ray: dict[str, str]) -> None:
    process = sweep(
        place,
        *("out=ray", "shard=0,1,2", "num_shards=3", "hydra/launcher=ray_cluster"),
        *("hydra.launcher.ray.remote.num_cpus=1", "hydra.launcher.ray.remote.num_gpus=0"),
        environment=ray,
    )
    records = place / "ray" / "demo"
    at_work: list[int] = []

    def second() -> bool:
        with contextlib.suppress(OSError, ValueError):  # a claim that is being written or taken back
            at_work[:] = [json.loads(path.read_bytes())["pid"] for path in records.glob("*/clips/*.claim")]
        assert process.poll() is None, process.communicate()
        return bool(at_work) and len(list(records.glob("*/clips/*.json"))) >= 2

    wait(second, "the second clip", 300)
    os.kill(at_work[0], signal.SIGKILL)
    finished(process)
    assert tables(place, "ray") == local
    assert len(list(place.glob("ray/.hydra/*/*/outcome.json"))) == 6, "a job's outcome lies where nobody looks for it"
