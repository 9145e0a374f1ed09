"""A rank whose mpiexec died right after the fork: MPI makes a world of one of it."""

import json
import os
import subprocess
import sys

import pytest

from mpirun_infer.errors import ExitCode

PROGRAM = """
import sys, types
fake = types.ModuleType("mpirun_infer.transport.mpi")
class MpiTransport:
    rank, size = 0, 1
fake.MpiTransport = MpiTransport
sys.modules["mpirun_infer.transport.mpi"] = fake
from mpirun_infer.cli.main import main
sys.argv = ["mpirun-infer", "_rank", "--launch", "/no/such/file"]
main()
"""


@pytest.mark.parametrize(
    ("size", "rank"),
    [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("PMI_SIZE", "PMI_RANK"),
    ],
)
@pytest.mark.parametrize("number", ["0", "2"])
def test_a_rank_that_is_alone_does_nothing_and_writes_no_report(tmp_path, size, rank, number):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": str(tmp_path),
        size: "3",
        rank: number,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == ExitCode.INCOMPLETE
    assert list(tmp_path.glob("mpirun-infer-bug*")) == []
    assert done.stderr == b""
    if number == "0":
        assert "started 3 ranks, but each is alone" in json.loads(done.stdout)["reason"]
    else:
        assert done.stdout == b""
