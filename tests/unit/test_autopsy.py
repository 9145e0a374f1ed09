"""Who is to blame for a death: every phase, with and without work, with and without our kill."""

import signal

import pytest

from mpirun_infer.model import FailureKind, MiniBatch
from mpirun_infer.supervise.autopsy import STDERR_TOLD_BYTES, Cause, broken_connection, examine
from mpirun_infer.supervise.runner_process import PageView

PHASES = ("idle", "import", "init", "load", "run", "format", "shutdown")
TIMEOUT = Cause(FailureKind.RUN_TIMEOUT, "run() took longer than 1 s (run_invocation_timeout)")


def handed(*ids):
    return [
        (MiniBatch(id=number, input_index=0, first_item=number, paths=(b"/d",)), 2)
        for number in ids
    ]


def page(phase, mini_batch=5, try_number=2):
    return PageView(mini_batch, try_number, PHASES.index(phase), 0)


def judge(tries, seen, *, cause=None, status=int(signal.SIGSEGV), stderr=b""):
    return examine(
        handed=tries,
        page=seen,
        now=100.0,
        status=status,
        cause=cause,
        stderr_tail=stderr,
        script_folder="/home/me",
    )


@pytest.mark.parametrize("phase", PHASES)
def test_the_first_is_blamed_in_the_phases_that_are_about_it(phase):
    tries = handed(5, 6)
    finding = judge(tries, page(phase))
    expected = tries[0] if phase in ("load", "run", "format") else None
    assert expected == finding.blamed
    assert finding.kind is FailureKind.PROCESS_EXIT
    assert finding.error.startswith("runner killed by SIGSEGV")


@pytest.mark.parametrize(
    "seen", [page("run", mini_batch=6), page("run", try_number=1), page("run", mini_batch=4)]
)
def test_nobody_is_blamed_when_the_page_speaks_of_another_try(seen):
    assert judge(handed(5, 6), seen).blamed is None


def test_the_first_is_blamed_when_the_page_is_torn():
    tries = handed(5, 6)
    finding = judge(tries, None)
    assert finding.blamed == tries[0]
    assert finding.error == "runner killed by SIGSEGV in run()"


def test_the_first_is_blamed_when_we_killed_it_for_it():
    tries = handed(5)
    finding = judge(tries, page("idle"), cause=TIMEOUT, status=int(signal.SIGKILL))
    assert (finding.blamed, finding.kind, finding.error) == (
        tries[0],
        FailureKind.RUN_TIMEOUT,
        TIMEOUT.error,
    )


@pytest.mark.parametrize("cause", [None, TIMEOUT])
@pytest.mark.parametrize("seen", [None, page("run"), page("idle", -1, 0)])
def test_nobody_is_blamed_when_it_had_nothing(seen, cause):
    assert judge([], seen, cause=cause).blamed is None


def test_the_end_of_standard_error_is_told():
    finding = judge(handed(5), page("run"), stderr=b"x" * 10_000 + b"the end\xff")
    head, _, tail = finding.detail.partition("last lines of standard error:\n")
    assert head == "runner killed by SIGSEGV in run()\n"
    assert tail.endswith("the end\N{REPLACEMENT CHARACTER}")
    assert len(tail) == STDERR_TOLD_BYTES


def test_how_long_run_took_is_told_when_it_was_running():
    seen = PageView(5, 2, PHASES.index("run"), int(97e9))
    assert judge(handed(5), seen).run_s == 3.0
    assert judge(handed(5), page("load")).run_s == 0.0
    assert judge(handed(5), None).run_s == 0.0


def test_silence_is_told_as_nothing():
    finding = judge(handed(5), page("run"))
    assert (finding.detail, finding.where) == (finding.error, "")


def test_connections_that_end_before_the_process_does():
    assert broken_connection("a frame of 9 EB").error == (
        "the runner's connection broke (a frame of 9 EB): "
        "does the script write to descriptors that it did not open?"
    )
    assert broken_connection("").error == (
        "the runner's connection was closed, but not by its death: "
        "does the script close descriptors that it did not open?"
    )
