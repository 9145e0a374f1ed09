"""The live line and the summary: every state, with and without a total."""

import pytest

from mpirun_infer.core.progress import counted, duration, progress_line, rate, summary_lines
from mpirun_infer.model import FirstFailure, ItemCounts, MiniBatchCounts, Status, WorkerCounts


def running(**changes):
    facts = {
        "state": "running",
        "workers": WorkerCounts(total=4, ready=4, busy=3),
        "mini_batches": MiniBatchCounts(total=20000, listing=False, done=4117, running=3),
        "items": ItemCounts(total=200000, succeeded=41170),
        "rows": 41170,
        "elapsed_s": 5 * 3600 + 2 * 60 + 14.7,
        "scoring_s": 18000.0,
        "eta_s": 19 * 3600 + 25 * 60 + 59.2,
    }
    return Status(**(facts | changes))


def test_the_line_is_the_one_people_know():
    assert progress_line(running()) == (
        "Processed 4117 of 20000 mini batches in 5:02:14. Estimated remaining time 19:25:59."
    )


def test_failed_mini_batches_are_processed_too():
    batches = MiniBatchCounts(total=1000, listing=False, done=411, running=3, failed=1)
    line = progress_line(running(mini_batches=batches))
    assert line.startswith("Processed 412 of 1000 mini batches in ")


def test_rate_failures_and_lost_workers_follow_when_there_are_any():
    status = running(
        eta_s=None,
        items_per_s=451.64,
        items=ItemCounts(total=200000, succeeded=41170, failed=1200),
        workers=WorkerCounts(total=4, ready=3, lost=1),
    )
    assert progress_line(status) == (
        "Processed 4117 of 20000 mini batches in 5:02:14. "
        "451.6 items/s. 1,200 items failed. 1 worker lost."
    )


def test_the_listing_still_goes_on():
    batches = MiniBatchCounts(total=None, listing=True, done=7)
    line = progress_line(running(mini_batches=batches, eta_s=None, elapsed_s=3.0))
    assert line == "Processed 7 mini batches in 0:00:03. Still listing."


def test_a_start_names_the_workers_that_are_ready():
    status = Status(state="starting", workers=WorkerCounts(total=4, ready=1), elapsed_s=2.9)
    assert progress_line(status) == "Starting: 1 of 4 workers ready, 0:00:02."
    assert progress_line(Status()) == "Starting: starting, 0:00:00."


def test_a_drain_is_said_first():
    assert progress_line(running(state="draining")).startswith("Draining. Processed 4117 of ")


def test_no_remaining_time_once_it_has_ended():
    assert "remaining" not in progress_line(running(state="failed", eta_s=3.0))


def test_the_summary_of_a_run_without_failures():
    status = Status(
        state="complete",
        exit_code=0,
        mini_batches=MiniBatchCounts(total=100, listing=False, done=100),
        items=ItemCounts(total=10000, succeeded=10000),
        rows=10000,
        elapsed_s=12.4,
        scoring_s=9.1,
        items_per_s=1098.9,
        output="/abs/out/parallel_run_step.txt",
    )
    assert summary_lines(status) == [
        "Complete in 0:00:12.",
        "  items          10,000: 10,000 succeeded, 0 failed",
        "  mini-batches   100: 100 done, 0 failed",
        "  rows           10,000",
        "  failures       none",
        "  rate           1,099 items/s, 9.1 s of scoring",
        "  file           /abs/out/parallel_run_step.txt",
    ]


def test_the_summary_of_a_failed_run_names_causes_and_the_first_failure():
    status = running(
        state="failed",
        exit_code=3,
        epoch=2,
        reason="12 items failed, error_threshold is 10",
        items=ItemCounts(total=20, succeeded=5, failed=12),
        first_failure=FirstFailure(
            item="/d/6.png",
            mini_batch=5,
            try_number=3,
            error="SIGSEGV",
            log="logs/user/error/n1/process001.txt",
        ),
    )
    status.failures |= {"RUN_EXCEPTION": 11, "PROCESS_EXIT": 1}
    lines = summary_lines(status)
    assert lines[:3] == [
        "Failed after 5:02:14 (launch 2 of this run), exit code 3.",
        "  reason         12 items failed, error_threshold is 10",
        "  items          20: 5 succeeded, 12 failed, 3 left",
    ]
    assert "  failures       RUN_EXCEPTION 11, PROCESS_EXIT 1" in lines
    assert lines[-2:] == [
        "  first failure  /d/6.png (mini-batch 5, try 3): SIGSEGV",
        "  its log        logs/user/error/n1/process001.txt",
    ]


def test_the_summary_of_an_interrupted_run_says_how_it_goes_on():
    lines = summary_lines(running(state="interrupted", exit_code=75))
    assert lines[0] == (
        "Incomplete after 5:02:14; the same command goes on from here, exit code 75."
    )


def test_the_summary_without_totals():
    status = Status(state="draining", items=ItemCounts(succeeded=3, failed=1))
    lines = summary_lines(status)
    assert lines[0] == "Draining, 0:00:00 so far."
    assert "  items          3 succeeded, 1 failed" in lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00:00"), (59.99, "0:00:59"), (3600, "1:00:00"), (360000, "100:00:00")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0"), (0.0521, "0.052"), (9.96, "10"), (451.64, "451.6"), (12345.6, "12,346")],
)
def test_rates(per_second, text):
    assert rate(per_second) == text


def test_counted():
    assert [counted(n, "item") for n in (0, 1, 1200)] == ["0 items", "1 item", "1,200 items"]
