"""The conformance suite over real MPI: three ranks under mpiexec."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mpirun_infer
from mpirun_infer.launch.mpiexec import argv, find_launcher

sys.path.insert(0, str(Path(__file__).parent))
from transport_suite import PROGRAMS, RANKS

SUITE = Path(__file__).parent / "transport_suite.py"
WITHIN_S = 60

pytestmark = pytest.mark.mpi


def test_conformance_over_mpi():
    line = argv(find_launcher(), RANKS, [sys.executable, str(SUITE)])
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_", "PMI_", "PMIX_", "PRTE_"))
    }
    environment["PYTHONPATH"] = str(Path(mpirun_infer.__file__).parent.parent)
    process = subprocess.Popen(
        line,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=WITHIN_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines() == [f"ok {program.__name__}" for program in PROGRAMS]
