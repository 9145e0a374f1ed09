"""The sweep kills what an earlier epoch of the same run left, and nothing else: real processes."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from mpirun_infer.supervise.sweep import sweep_earlier_epochs

MARK = "MPIRUN_INFER_RUN_ID"


@pytest.fixture
def run():
    """A name that no other test uses."""
    return f"sweep{os.urandom(6).hex()}"


@pytest.fixture
def sleeper():
    """Start a process that sleeps with this environment, and look after it."""
    started = []

    def start(**environment):
        # Its environment is seen from exec on, which Popen waits for.
        process = subprocess.Popen(
            ["sleep", "600"], env={"PATH": os.defpath, **environment}, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_only_earlier_epochs_of_the_same_run_are_killed(run, sleeper):
    earlier = [sleeper(**{MARK: f"{run}.{epoch}"}) for epoch in (1, 2, 9)]
    others = [
        sleeper(**{MARK: f"{run}.10"}),  # the present one
        sleeper(**{MARK: f"{run}.11"}),  # one that took over from us
        sleeper(**{MARK: f"{run}x.1"}),
        sleeper(**{MARK: f"x{run}.1"}),
        sleeper(**{MARK: f"{run}.1.1"}),  # a run whose name begins like ours
        sleeper(**{MARK: f"{run}.-1"}),
        sleeper(**{MARK: f"{run}."}),
        sleeper(**{MARK: run}),
        sleeper(**{f"X{MARK}": f"{run}.1"}),
        sleeper(X=f"{MARK}={run}.1"),
        sleeper(),
    ]
    killed = sweep_earlier_epochs(f"{run}.10")
    assert sorted(killed) == sorted(process.pid for process in earlier)
    assert [process.wait(20) for process in earlier] == [-9, -9, -9]
    assert [process.poll() for process in others] == [None] * len(others)
    assert sweep_earlier_epochs(f"{run}.10") == []


def test_what_detached_itself_is_found_by_its_mark(run, tmp_path):
    code = (
        "import os, signal, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "        os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "        signal.pause()\n"
    )
    path = tmp_path / "pid"
    subprocess.run([sys.executable, "-c", code, path], env={MARK: f"{run}.1"}, check=True)
    wait_until(path.exists)
    pid = int(path.read_text())
    try:
        assert sweep_earlier_epochs(f"{run}.2") == [pid]
        wait_until(lambda: not is_alive(pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_a_process_with_an_earlier_mark_does_not_kill_itself(run):
    """A rank started by hand in the environment of an old runner, for instance."""
    code = (
        "from mpirun_infer.supervise.sweep import sweep_earlier_epochs\n"
        f"print(sweep_earlier_epochs('{run}.2'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={MARK: f"{run}.1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
