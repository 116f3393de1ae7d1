"""A real Slurm on one node (munge, controller and node daemon from Debian's packages) and a real Ray, started and ended here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.required import missing

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONF = """\
ClusterName=vpbench
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname={host} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which its commands find it."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent or os.getuid() != 0:
        missing("slurm", f"{', '.join(absent)} not installed (slurm-wlm, munge)" if absent else "only root can start it")
    root = Path(f"/tmp/vpbench-slurm-{os.getpid()}")  # short: the socket's path has at most 108 characters
    for part in ("munge", "state", "spool"):
        (root / part).mkdir(parents=True, exist_ok=True)
    key = root / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for path in (root / "munge", key):
        shutil.chown(path, "munge", "munge")
    ports = [free_port(), free_port()]
    conf = root / "slurm.conf"
    conf.write_text(CONF.format(root=root, controller=ports[0], node=ports[1], host=socket.gethostname()))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={root}/munge/socket"]
    munge += [f"--{kind}-file={root}/munge/{kind}" for kind in ("pid", "log", "seed")]
    daemons = []
    try:
        daemons.append(subprocess.Popen(["runuser", "-u", "munge", "--", *munge], stderr=subprocess.DEVNULL))
        wait(lambda: (root / "munge" / "socket").exists(), "munged")
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            daemons.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait(lambda: "idle" in said(["sinfo", "-h", "-o", "%t"], environment), f"Slurm (logs in {root})")
        yield environment
    finally:
        subprocess.run(["scancel", "--partition=main"], env=environment, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(30)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def ray() -> Iterator[dict[str, str]]:
    """The environment in which ``hydra/launcher=ray_cluster`` finds a cluster of two cores."""
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        missing("ray", "hydra-ray-launcher is not installed (pip install -e '.[ray]')")
    root = Path(f"/tmp/vpbench-ray-{os.getpid()}")  # short, for the same reason
    port = free_port()
    environment = {**os.environ, "RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    start = ["ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={root}"]
    program = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    head = subprocess.Popen([*program, *start[1:]], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: "Active" in said([*program, "status"], environment), "Ray")
        yield environment
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(root, ignore_errors=True)


def said(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; nothing when it fails."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30).stdout


def wait(until: object, what: str, seconds: float = 120.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    assert callable(until)
    while not until():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} is not there after {seconds:g} s")
        time.sleep(0.1)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
