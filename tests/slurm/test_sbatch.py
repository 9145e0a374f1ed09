"""The example script of slurm/, submitted to a real Slurm."""

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

SCRIPT = Path(__file__).parent.parent.parent / "slurm" / "openmpi.sbatch"
JOB = """\
entry_script: score.py
inputs: data
output: out
mini_batch_size: 3
"""
SCORE = """\
import os


def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""


def test_sbatch_runs_a_job_to_its_end(slurm, tmp_path):
    """`sbatch slurm/openmpi.sbatch job.yaml`: the README's line, in a folder with a blank."""
    folder = tmp_path / "my job"
    (folder / "data").mkdir(parents=True)
    names = [f"{number:02d}.txt" for number in range(20)]
    for name in names:
        (folder / "data" / name).write_text(name)
    (folder / "score.py").write_text(SCORE)
    (folder / "job.yaml").write_text(JOB)

    submitted = subprocess.run(
        ["sbatch", "--wait", "--nodes=1", "--ntasks-per-node=4", str(SCRIPT), "job.yaml"],
        cwd=folder,
        env=slurm,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    logs = "".join(log.read_text() for log in folder.glob("*.log"))
    assert submitted.returncode == 0, submitted.stderr + logs
    rows = (folder / "out" / "parallel_run_step.txt").read_text().splitlines()
    assert sorted(rows) == names
    status = json.loads((folder / "out" / ".mpirun_infer" / "status.json").read_text())
    assert (status["state"], status["workers"]["total"]) == ("complete", 3)
