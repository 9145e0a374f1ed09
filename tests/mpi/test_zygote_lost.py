"""Somebody kills or stops a zygote; the rows are exact all the same."""

import os
import signal

import pytest

pytestmark = pytest.mark.mpi

OPTIONS = ("--mini-batch-size", "1")


def zygotes(job):
    """The pids of all zygotes of this test's ranks."""
    ranks = set(job.ranks().values())
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with (
                open(f"/proc/{name}/stat", "rb") as stat,
                open(f"/proc/{name}/cmdline", "rb") as line,
            ):
                parent = int(stat.read().rpartition(b")")[2].split()[1])
                if parent in ranks and b"zygote.py" in line.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


@pytest.fixture
def half_way(job):
    job.script("gated.py")
    rows = job.files(60)
    run = job.start(*OPTIONS)
    job.wait_for_rows(30)
    return run, rows


def test_a_zygote_is_killed_and_the_launcher_goes_on(job, judge, half_way):
    run, rows = half_way
    os.kill(zygotes(job)[0], signal.SIGKILL)
    job.wait_until(lambda: "starting again from the journal" in run.err, "another start")
    job.open_gate()
    run.wait()
    assert judge(run, rows)["epoch"] == 2


def test_a_zygote_is_stopped_and_the_run_ends_all_the_same(job, judge, half_way):
    run, rows = half_way
    os.kill(zygotes(job)[0], signal.SIGSTOP)
    job.open_gate()
    run.wait()
    assert judge(run, rows)["epoch"] == 1


def test_a_script_that_kills_its_zygote_each_time_ends(job, judge):
    script = "import os, signal\n\ndef run(batch):\n"
    script += "    os.kill(os.getppid(), signal.SIGKILL)\n    signal.pause()\n"
    (job.folder / "score.py").write_text(script)
    job.files(1)
    run = job.run("--workers", "1", "--crash-limit", "2")
    judge(run, [], 3)
