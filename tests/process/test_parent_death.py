"""A process that asked for it dies with its parent, however early that is."""

import os
import signal
import subprocess
import sys

import pytest
from waiting import wait_until

from mpirun_infer.errors import ExitCode
from mpirun_infer.supervise import parent_death
from mpirun_infer.supervise.parent_death import die_with_parent

PARENT = """
import os, signal, subprocess
from functools import partial
from mpirun_infer.supervise.parent_death import die_with_parent
child = subprocess.Popen(["sleep", "60"], preexec_fn=partial(die_with_parent, os.getpid()))
print(child.pid, flush=True)
signal.pause()
"""


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_child_of_a_killed_parent_is_killed():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, "-c", PARENT]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment) as parent:
        child = int(parent.stdout.readline())
        assert lives(child)
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: not lives(child), "the end of the child")


def test_a_parent_that_is_gone_before_the_call_is_noticed():
    pid = os.fork()
    if pid == 0:
        die_with_parent(1 << 22)  # nobody's parent has this number
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ExitCode.INCOMPLETE


@pytest.mark.parametrize(("namespace", "code"), [(parent_death._HOST_PID_NAMESPACE, 75), ("x", 0)])
def test_a_process_that_init_has_adopted_ends(monkeypatch, namespace, code):
    """In a container's own PID namespace pid 1 may be mpiexec."""
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(parent_death, "_pid_namespace", lambda: namespace)
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
