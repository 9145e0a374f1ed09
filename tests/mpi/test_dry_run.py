"""A dry run is believed because the script cannot tell it from a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mpirun_infer

pytestmark = pytest.mark.mpi

# What names the launch, and whether it is a dry one.
DIFFERENT = {"AZUREML_RUN_ID", "MPIRUN_INFER_RUN_ID", "MPIRUN_INFER_TREE"}
DIFFERENT |= {"MPIRUN_INFER_STAND_INS"}
FOLDERS = {"AZUREML_BI_OUTPUT_PATH", "PWD", "OLDPWD"}


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", 1),
        ("--workers", 2, "--mini-batch-size", 3),
        ("--workers", 4, "--slots-per-rank", 2),
        ("--workers", 2, "--process-count-per-node", 2, "--node-count", 1),
    ],
)
def test_the_script_sees_the_same_in_a_dry_run(job, judge, options):
    job.script("tells_all.py")
    job.files(1)
    line = [*options, "--", "--labels", "a b"]
    dry = job.run("--dry-run", *line)
    assert dry.process.returncode == 0, dry.err
    seen_dry = json.loads(dry.out)
    assert not job.output.exists()
    run = job.run(*line)
    seen = json.loads(*job.rows())
    judge(run, job.rows())
    assert seen["argv"] == seen_dry["argv"]
    assert seen["paths"] == seen_dry["paths"]
    for environ in (seen["environ"], seen_dry["environ"]):
        assert not [name for name in environ if name.startswith("MPIRUN_INFER_SHARED")]
        for name in DIFFERENT | FOLDERS:
            environ.pop(name, None)
    assert seen["environ"] == seen_dry["environ"]


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_on_standard_input_is_kept_for_the_next_launch(job, judge, end):
    """Relative to where it was piped in; its placeholder is the kept list, in every launch."""
    job.script("tells_all.py")
    job.files(1)
    options = ["--input", "l=@-", "--", "--list=${{inputs.l}}"]
    piped = subprocess.run(
        [sys.executable, "-m", "mpirun_infer", "run", *job.arguments(options)],
        cwd=job.folder,
        env=job.environment(PYTHONPATH=str(Path(mpirun_infer.__file__).parent.parent)),
        input=b"data/f000.txt" + end,
        timeout=60,
        check=False,
        capture_output=True,
    )
    assert piped.returncode == 0, piped.stderr
    kept = job.output / ".mpirun_infer" / "stdin.list"
    assert kept.read_bytes() == bytes(job.data) + b"/f000.txt" + end
    seen = json.loads(*job.rows())
    assert seen["argv"][-1] == f"--list={kept}"
    assert seen["paths"] == [str(job.data / "f000.txt")]
    again = job.run(*options)  # nothing on standard input
    judge(again, job.rows())
    assert "complete already" in again.err
