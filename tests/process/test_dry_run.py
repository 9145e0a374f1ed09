"""Real dry runs, as processes: exit codes, what the script sees, what is left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "entry_scripts"
LAUNCHED = ("OMPI_", "PMI_", "PMIX_", "MV2_", "SLURM_", "MPIRUN_INFER_", "AZUREML_")


@pytest.fixture
def dry_run(tmp_path):
    """`dry_run(*options)`: a dry run in a folder with one file, `ok`."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ok").touch()

    def dry_run(*options, script="tells_all.py", stdin=None, data="data", **more):
        kept = {name: text for name, text in os.environ.items() if not name.startswith(LAUNCHED)}
        path = os.pathsep.join(filter(None, sys.path))
        line = [sys.executable, "-m", "mpirun_infer", "run", "--dry-run"]
        ended = subprocess.run(
            [
                *line,
                *("--entry-script", str(SCRIPTS / script)),
                *("--input", data, "--output", "out"),
                *map(str, options),
            ],
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": path, "TMPDIR": str(tmp_path / "tmp")} | more,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert os.listdir(tmp_path / "tmp") == []
        assert not (tmp_path / "out").exists()
        return ended

    dry_run.folder = tmp_path
    return dry_run


def test_a_mini_batch_that_succeeds(dry_run):
    ended = dry_run()
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert seen["paths"] == [f"{dry_run.folder}/data/ok"]
    assert f"--output={dry_run.folder}/out" in seen["argv"]
    folder = seen["environ"]["AZUREML_BI_OUTPUT_PATH"]
    assert folder == seen["output_dir"]
    assert folder.startswith(f"{dry_run.folder}/tmp/")
    assert seen["written_to"]
    assert b"1 items, 1 rows" in ended.stderr
    assert b"nothing was kept" in ended.stderr


def test_the_users_variables_win_here_too(dry_run):
    (dry_run.folder / "mine").mkdir()
    value = f"{dry_run.folder}/mine"
    ended = dry_run("--set", f"environment_variables.AZUREML_BI_OUTPUT_PATH={value}")
    assert value == json.loads(ended.stdout)["environ"]["AZUREML_BI_OUTPUT_PATH"]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("def run(m): raise ValueError('told to')", 3, b"ValueError: told to"),
        ("import os\ndef run(m): os.abort()", 3, b"SIGABRT"),
        ("def run(m): return 5", 3, b"is wanted"),
        ("def init(): pass", 2, b"has no run() function"),
        ("def init(): raise OSError('no model')\ndef run(m): pass", 4, b"OSError: no model"),
    ],
)
def test_exit_codes(dry_run, text, code, message):
    (dry_run.folder / "score.py").write_text(text)
    ended = dry_run(script=dry_run.folder / "score.py")
    assert code == ended.returncode, ended.stderr
    assert message in ended.stderr
    assert b"this is a bug" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "environment.python=/bin/true"), b"/bin/true did not start as a Python"),
        (("--node-count", 2), b"node_count: 2 is wanted, but outside of a Slurm allocation"),
        (("--workers", 3, "--slots-per-rank", 2), b"not a multiple of slots_per_rank"),
        (("--input", "nothing"), b"does not exist"),
    ],
)
def test_what_a_run_refuses_a_dry_run_refuses_too(dry_run, options, message):
    ended = dry_run(*options)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_list_on_standard_input(dry_run):
    options = ("--set", 'inputs={l: "@-"}', "--", "--list=${{inputs.l}}")
    ended = dry_run_list(dry_run, options, b"data/ok\n")
    seen = json.loads(ended.stdout)
    assert seen["paths"] == [f"{dry_run.folder}/data/ok"]
    assert seen["argv"][-1].startswith(f"--list={dry_run.folder}/tmp/")
    assert seen["argv"][-1].endswith("/stdin.list")


def dry_run_list(dry_run, options, text):
    ended = dry_run(*options, data="l=@-", stdin=text)
    assert ended.returncode == 0, ended.stderr
    return ended


def test_relative_lines_start_at_the_current_folder_nul_separated_too(dry_run):
    ended = dry_run_list(dry_run, (), b"data/ok\0")
    assert json.loads(ended.stdout)["paths"] == [f"{dry_run.folder}/data/ok"]


def test_an_empty_standard_input_is_told(dry_run):
    ended = dry_run(data="@-", stdin=b"")
    assert ended.returncode == 2
    assert b"standard input holds no paths" in ended.stderr
