"""The launcher's view of one mpiexec; what stands in for mpiexec does what a master may do."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from mpirun_infer.errors import ExitCode
from mpirun_infer.launch import scratch
from mpirun_infer.launch.ranks import Ranks
from mpirun_infer.launch.scratch import SHARED_MEMORY_VARIABLE, Scratch
from mpirun_infer.launch.signals import StopRequests
from mpirun_infer.model import LaunchOrder
from mpirun_infer.store.run_folder import RunFolder

PROGRAM = """
import json, os, signal, sys
from mpirun_infer.core.records import Ended, Opened
from mpirun_infer.store import journal, lock
from mpirun_infer.store.run_folder import RunFolder

deed, output, order = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
folder = RunFolder(output, "rows.txt")

def ended(state, exit_code):
    held = lock.acquire(folder, launch=order["launch"])
    opened = Opened(version=1, run_id="r", epoch=held.epoch, fingerprint={}, accepted=(),
                    started_at="", host="", pid=0, launch=order["launch"])
    last = Ended(state=state, exit_code=exit_code, reason="because", rows_end=0)
    with open(folder.journal_segment(held.epoch), "wb") as file:
        file.write(journal.encode(1, opened, synced=0))
        if state:
            file.write(journal.encode(2, last))

if deed == "verdict":
    print("noise")
    print(json.dumps({"exit_code": 3, "reason": "too many"}), flush=True)
elif deed == "starts nothing":
    sys.stderr.write("no such host\\n")
    sys.exit(1)
elif deed == "killed at once":
    os.kill(os.getpid(), signal.SIGKILL)
elif deed == "lost":
    ended("", 0)
    os.kill(os.getpid(), signal.SIGKILL)
elif deed == "failed":
    ended("failed", 3)
elif deed == "complete":
    ended("complete", 0)
elif deed == "waits":
    signal.pause()
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """`launch(deed)`: what came of an mpiexec that did so."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    folder.prepare()

    def launch(deed, turn=lambda: None):
        order = LaunchOrder(job="{}", launch=f"host.{os.getpid()}.1")
        with StopRequests(str(tmp_path / "drain")) as stops:
            line = [sys.executable, "-c", PROGRAM, deed, folder.output]
            with Ranks(folder, order, line, stops) as ranks:
                outcome = ranks.watch(turn)
        assert os.listdir(folder.control_dir) == []
        assert os.listdir(tmp_path / "tmp") == []
        return outcome

    launch.folder = folder
    return launch


def test_the_verdict_of_rank_0_is_the_outcome(launch):
    outcome = launch("verdict")
    assert (outcome.exit_code, outcome.reason, outcome.lost) == (3, "too many", False)


def test_ranks_that_never_started_are_a_usage_error_with_mpiexecs_words(launch):
    outcome = launch("starts nothing")
    assert (outcome.exit_code, outcome.lost) == (ExitCode.USAGE, False)
    assert "mpiexec ended with status 1" in outcome.reason
    assert "no such host" in outcome.reason


def test_ranks_that_were_killed_are_lost(launch):
    outcome = launch("lost")
    assert (outcome.exit_code, outcome.lost) == (ExitCode.INCOMPLETE, True)
    assert "mpiexec ended with signal SIGKILL" in outcome.reason


def test_ranks_that_were_killed_while_they_started_are_lost(launch):
    """Somebody killed them before there was a run: a fault of the moment, not of the setup."""
    outcome = launch("killed at once")
    assert (outcome.exit_code, outcome.lost) == (ExitCode.INCOMPLETE, True)


def test_without_a_verdict_the_journal_tells_the_end(launch):
    outcome = launch("failed")
    assert (outcome.exit_code, outcome.reason, outcome.lost) == (3, "because", False)


def test_a_master_that_died_between_its_last_record_and_the_final_name_is_lost(launch):
    """The journal says complete, but nobody has given the rows their name: exit 0 would lie."""
    outcome = launch("complete")
    assert (outcome.exit_code, outcome.lost) == (ExitCode.INCOMPLETE, True)


def test_two_interrupts_end_it_at_once(launch):
    outcome = launch("waits", turn=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert (outcome.exit_code, outcome.lost) == (ExitCode.INCOMPLETE, False)
    assert "stopped at once on request" in outcome.reason


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_orders_of_dead_launchers_are_removed_and_of_live_ones_kept(launch):
    host = os.uname().nodename
    control = launch.folder.control_dir
    kept = [f"launch.{host}.{os.getppid()}.5.json", f"launch.elsewhere.{dead_pid()}.5.json"]
    gone = [f"launch.{host}.{dead_pid()}.5.json"]
    for name in (*kept, *gone):
        open(os.path.join(control, name), "w").close()
    with pytest.raises(AssertionError, match=r"launch\."):
        launch("verdict")  # it finds the kept ones
    assert sorted(kept) == sorted(os.listdir(control))


# --------------------------------------------------------------------------- scratch


@pytest.fixture
def places(tmp_path, monkeypatch):
    places = [tmp_path / "tmp", tmp_path / "shm"]
    for place in places:
        place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(places[0]))
    monkeypatch.setattr(scratch, "SHARED_MEMORY", str(places[1]))
    return places


def test_scratch_is_private_and_gone_afterwards(places):
    with Scratch() as variables:
        sessions, shared = (
            variables["PRTE_MCA_prte_local_tmpdir_base"],
            variables[SHARED_MEMORY_VARIABLE],
        )
        for folder, place in zip((sessions, shared), places, strict=True):
            assert os.path.dirname(folder) == str(place)
            assert os.stat(folder).st_mode & 0o777 == 0o700
            open(os.path.join(folder, "left"), "w").close()
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_what_a_killed_launcher_left_is_removed_by_the_next_one(places):
    own = f"mpirun-infer.{os.uname().nodename}.{os.geteuid()}"
    kept = [f"{own}.{os.getppid()}", f"mpirun-infer.elsewhere.0.{dead_pid()}", f"{own}.x", "other"]
    for place in places:
        for name in (*kept, f"{own}.{dead_pid()}"):
            (place / name).mkdir()
            (place / name / "file").touch()
        (place / f"{own}.{dead_pid()}").symlink_to(place / "other")
    with Scratch():
        pass
    for place in places:
        assert (place / "other" / "file").exists()
        names = {path.name for path in place.iterdir() if not path.is_symlink()}
        assert set(kept) == names


def test_where_nothing_can_be_made_mpi_does_as_it_likes(places, monkeypatch):
    for place in places:
        place.rmdir()
    with Scratch() as variables:
        assert variables == {}
