"""Somebody is killed half-way; the rows are exact all the same."""

import os
import signal

import pytest

pytestmark = pytest.mark.mpi

OPTIONS = ("--mini-batch-size", "1")


@pytest.fixture
def half_way(job):
    """A run that has committed half of its rows, and both workers are at the gate."""
    job.script("gated.py")
    rows = job.files(60)
    run = job.start(*OPTIONS)
    job.wait_for_rows(30)
    job.wait_until(lambda: at_the_gate(job) == {0, 1}, "both workers have work")
    return run, rows


def at_the_gate(job):
    """Workers that were given a mini-batch of the second half."""
    given = job.records("dispatched")
    return {record["worker"] for record in given for number, _ in record["tries"] if number >= 30}


def once(rows, job):
    """No mini-batch was committed twice, over all epochs."""
    committed = [record["mini_batch"] for record in job.records("committed")]
    return sorted(committed) == list(range(len(rows)))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_is_killed_and_the_launcher_goes_on(job, judge, half_way, rank):
    run, rows = half_way
    os.kill(job.ranks()[rank], signal.SIGKILL)
    job.open_gate()
    run.wait()
    status = judge(run, rows)
    assert status["epoch"] == 2
    assert "starting again from the journal (restart 1 of 5)" in run.err
    assert once(rows, job)


def test_mpiexec_is_killed_and_the_launcher_goes_on(job, judge, half_way):
    run, rows = half_way
    os.kill(job.mpiexec(), signal.SIGKILL)
    job.open_gate()
    run.wait()
    status = judge(run, rows)
    assert status["epoch"] == 2
    assert once(rows, job)


def test_restarts_used_up_is_exit_code_75_and_the_same_command_goes_on(job, judge):
    job.script("gated.py")
    rows = job.files(60)
    run = job.start(*OPTIONS, "--max-restarts", "0")
    job.wait_for_rows(20)
    os.kill(job.ranks()[0], signal.SIGKILL)
    run.wait()
    job.judged += 1
    assert run.process.returncode == 75
    assert "restarts are used up (max_restarts)" in run.err
    job.nothing_left()
    assert job.status()[0] == 75
    job.open_gate()
    judge(job.run(*OPTIONS), rows)


def test_the_launcher_is_killed_and_the_same_command_goes_on(job, judge, half_way):
    run, rows = half_way
    run.kill_group()
    run.wait()
    job.open_gate()
    again = job.run(*OPTIONS)
    status = judge(again, rows)
    assert status["epoch"] == 2
    assert once(rows, job)
    assert "settled already" in again.err


def test_everything_is_killed_and_the_same_command_goes_on(job, judge, half_way):
    run, rows = half_way
    victims = [pid for pid, _, _ in job.of_this_job() if pid != run.process.pid]
    os.kill(run.process.pid, signal.SIGSTOP)  # it must not start anything in the meantime
    for pid in (*victims, run.process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run.wait()
    job.open_gate()
    again = job.run(*OPTIONS)
    status = judge(again, rows)
    assert status["epoch"] == 2
    assert once(rows, job)


def test_the_users_own_mpiexec_loses_a_rank_and_the_same_command_goes_on(job, judge, user_mpiexec):
    job.script("gated.py")
    rows = job.files(60)
    line = [*user_mpiexec(3), "run", "--entry-script", "score.py", "--input", "data"]
    line += ["--output", "out", *OPTIONS]
    run = job.start_line(line)
    job.wait_for_rows(20)
    os.kill(job.ranks()[2], signal.SIGKILL)
    assert run.wait() != 0
    job.open_gate()
    again = job.start_line(line)
    assert again.wait() == 0, again.err
    status = judge(again, rows)
    assert status["epoch"] == 2
