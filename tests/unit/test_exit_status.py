"""Wait statuses and stack dumps in words."""

import signal

import pytest

from mpirun_infer.child import runner
from mpirun_infer.supervise.exit_status import UNUSABLE_STATUS, blamed_line, exit_text, phase_text

KILLED = "(the kernel's out-of-memory killer, or someone's kill -9)"
BROKEN = "the runner's connection was closed or broken"
DOES = "does the script close descriptors that it did not open?"
EXITED = "(os._exit, or an exit in C code)"


def exited(code):
    return code << 8


@pytest.mark.parametrize(
    ("status", "phase", "expected"),
    [
        (signal.SIGSEGV, "run", "runner killed by SIGSEGV in run()"),
        (signal.SIGSEGV | 0x80, "run", "runner killed by SIGSEGV in run()"),  # with a core file
        (signal.SIGBUS, "init", "runner killed by SIGBUS in init()"),
        (
            signal.SIGKILL,
            "run",
            f"runner killed by SIGKILL in run() {KILLED}",
        ),
        (signal.SIGRTMIN + 3, "load", "runner killed by signal 37 while it loaded the mini-batch"),
        (
            exited(0),
            "run",
            f"runner exited with status 0 in run() {EXITED}",
        ),
        (
            exited(70),
            "import",
            f"{BROKEN} while it imported the entry script: {DOES}",
        ),
    ],
)
def test_the_end_of_a_process_in_words(status, phase, expected):
    assert expected == exit_text(int(status), phase)


def test_the_status_is_that_of_the_runner():
    assert runner.UNUSABLE_STATUS == UNUSABLE_STATUS


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("idle", "between two mini-batches"),
        ("format", "while it formatted the rows"),
        ("shutdown", "in shutdown()"),
    ],
)
def test_phases_in_words(phase, expected):
    assert expected == phase_text(phase)


DUMP = b"""Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/home/me/score.py", line 12 in look
  File "/home/me/score.py", line 30 in run
  File "/opt/child/entry.py", line 99 in run
"""


@pytest.mark.parametrize(
    ("stderr", "folder", "expected"),
    [
        (DUMP, "/home/me", "score.py:12"),
        (DUMP, "/elsewhere", "__init__.py:519"),
        (DUMP + b"bye\n", "/home/me", "score.py:12"),
        (DUMP.replace(b"line 12", b"line 11") + DUMP, "/home/me", "score.py:12"),
        (DUMP.partition(b"\n\n")[2], "/home/me", "score.py:12"),
        (DUMP[:60], "/home/me", ""),
        (b'File "/home/me/score.py", line 12, in run\n', "/home/me", ""),
        (b"", "/home/me", ""),
        (b'Current thread 0x1:\n  File "/m/caf\xff.py", line 3 in f\n', "/m", "caf\udcff.py:3"),
    ],
)
def test_the_line_that_is_blamed(stderr, folder, expected):
    assert expected == blamed_line(stderr, folder)
