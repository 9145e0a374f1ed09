"""A current folder that somebody removed under the shell."""

import os

import pytest

from mpirun_infer.cli import run_job
from mpirun_infer.cli.main import call
from mpirun_infer.errors import ExitCode, UsageError


@pytest.fixture
def gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PWD", str(folder))
    folder.rmdir()


def test_it_is_told(gone):
    with pytest.raises(UsageError, match=r"^the current folder is gone; cd to another one$"):
        run_job._current_folder()


def test_run_says_so(gone, monkeypatch, capsys):
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PMI_", "PMIX_", "MV2_", "SLURM_")):
            monkeypatch.delenv(name)
    line = ["run", "--entry-script", "s.py", "--input", "in", "--output", "out"]
    assert call(line) == ExitCode.USAGE
    assert "mpirun-infer: the current folder is gone; cd to" in capsys.readouterr().err
