"""A real Slurm of one node, for as long as the tests of this room run.

The daemons are Debian's (slurmctld, slurmd, munge), started by hand in a folder of their own, and
ended by their ids. Without the packages the tests skip; with CI set they fail instead.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo", "scontrol")
UP_WITHIN_S = 60.0

CONF = """\
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ctld_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmdPidFile={root}/slurmd.pid
SlurmctldPidFile={root}/ctld.pid
SlurmdLogFile={root}/slurmd.log
SlurmctldLogFile={root}/ctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd_port} CPUs=4 RealMemory=2000
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _wait_until(condition, what: str, logs: Path) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            tails = [f"{log}:\n{log.read_text()[-2000:]}" for log in logs.glob("*.log")]
            pytest.fail(f"{what} after {UP_WITHIN_S:g} s\n" + "\n".join(tails))
        pause.wait(0.1)


@pytest.fixture(scope="session")
def slurm():
    """The environment in which `sbatch` and its like reach the cluster."""
    missing = [name for name in PROGRAMS if _find(name) is None]
    if missing or os.geteuid() != 0:
        why = f"not installed: {', '.join(missing)}" if missing else "only root can start slurmd"
        if os.environ.get("CI"):
            pytest.fail(f"Slurm is wanted in CI; {why}")
        pytest.skip(f"no Slurm here ({why})")
    root = Path(tempfile.mkdtemp(prefix="slurm-test-"))
    for name in ("state", "spool"):
        (root / name).mkdir()
    (root / "munge.key").write_bytes(os.urandom(1024))
    (root / "munge.key").chmod(0o400)
    conf = root / "slurm.conf"
    conf.write_text(
        CONF.format(
            host=socket.gethostname(), root=root, ctld_port=_free_port(), slurmd_port=_free_port()
        )
    )
    environment = {
        **os.environ,
        "SLURM_CONF": str(conf),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
    }
    daemons = []

    def start(*line: str) -> None:
        log = (root / f"{Path(line[0]).name}.out.log").open("wb")
        with log:
            daemons.append(
                subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            )

    def answers(*line: str) -> str:
        told = subprocess.run(
            line, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        return told.stdout

    try:
        start(
            _find("munged"),
            "--foreground",
            "--force",
            f"--key-file={root}/munge.key",
            f"--socket={root}/munge.socket",
            f"--pid-file={root}/munged.pid",
            f"--log-file={root}/munged.log",
            f"--seed-file={root}/munged.seed",
        )
        _wait_until((root / "munge.socket").exists, "munged is not up", root)
        start(_find("slurmctld"), "-D", "-f", str(conf))
        start(_find("slurmd"), "-D", "-f", str(conf), "-N", "n1")
        _wait_until(
            lambda: answers("sinfo", "-h", "-o", "%t").strip() == "idle", "Slurm is not up", root
        )
        yield environment
    finally:
        for daemon in reversed(daemons):
            _end(daemon)
        shutil.rmtree(root, ignore_errors=True)


def _end(daemon: subprocess.Popen) -> None:
    for number, grace_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(daemon.pid, number)
            daemon.wait(grace_s)
        except ProcessLookupError:
            daemon.wait()
        except subprocess.TimeoutExpired:
            continue
        return
