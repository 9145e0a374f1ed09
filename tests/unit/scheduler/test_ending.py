"""Thresholds, verdicts, drain, and the phases up to Left."""

import pytest
from bench import Bench

from mpirun_infer.core.ending import Phase
from mpirun_infer.core.progress import counted

COMPLETE = ["release r1", "release r2"]


def through(outcomes, *, items=1, **terms):
    """Two ranks; each outcome is the number of rows of one mini-batch, None: it fails."""
    bench = Bench(ranks=2, max_try=1, **terms).joined()
    bench.list_(*range(len(outcomes)), items=items)
    bench.listed(len(outcomes), items * len(outcomes))
    for number, rows in enumerate(outcomes):
        worker = bench.ledger.holders[number].worker if number in bench.ledger.holders else 0
        if rows is None:
            bench.fails(worker, number)
        else:
            bench.ok(worker, number, rows=rows)
        for holder in (0, 1):  # an idle worker asks for what the other one has prefetched
            if bench.scheduler.crew.workers[holder].revoking:
                bench.returned(holder)
    bench.sent()
    bench.submitted()
    bench.durable()
    return bench


def verdict(bench):
    found = bench.scheduler.ending.verdict
    return None if found is None else (found.state, int(found.exit_code), found.reason)


def test_the_end_of_a_complete_run():
    bench = through([1, 1, 1])
    assert [*COMPLETE] == bench.sent()
    assert bench.submitted() == ["ended complete 0", "flush"]
    assert Phase.ENDING is bench.scheduler.ending.phase
    bench.released(1)
    bench.durable()
    assert bench.left is None
    bench.assert_drained()
    bench.released(2)
    assert bench.left == (0, "")
    assert Phase.ENDED is bench.scheduler.ending.phase
    bench.tick(100)
    bench.assert_drained()


def test_a_run_ends_only_when_its_last_record_is_durable():
    bench = through([1])
    bench.released(1, 2)
    bench.tick(1000)
    assert bench.left is None
    bench.sent()
    bench.submitted()
    bench.durable()
    assert bench.left == (0, "")
    bench.assert_drained()


def test_a_rank_that_does_not_leave_is_waited_for_until_the_deadline():
    bench = through([1], leave_s=20)
    bench.sent()
    bench.submitted()
    bench.durable()
    bench.released(1)
    for _ in range(2):
        bench.now += 9.9
        bench.beat(2)
    bench.tick()
    assert bench.left is None
    bench.tick(0.2)
    assert bench.left == (0, "")
    bench.assert_drained()


def test_a_rank_lost_while_leaving_is_not_waited_for():
    bench = through([1])
    bench.sent()
    bench.submitted()
    bench.durable()
    bench.released(1)
    bench.lost(2)
    assert bench.left == (0, "")
    bench.assert_drained()


def test_the_end_is_not_reached_before_the_listing_ended():
    bench = Bench().joined()
    bench.list_(0)
    bench.sent()
    bench.ok(0, 0)
    bench.durable()
    assert bench.submitted() == ["committed 0/1 rows=1 at 0+2"]
    bench.assert_drained()
    bench.listed(1)
    assert bench.submitted() == ["listed 1", "ended complete 0", "flush"]
    assert bench.sent() == ["release r1"]
    bench.assert_drained()


def test_the_disk_is_hurried_when_nothing_else_is_left_to_wait_for():
    bench = Bench().joined()
    bench.list_(0)
    bench.listed(1)
    bench.sent()
    assert bench.submitted() == ["listed 1"]
    bench.ok(0, 0)
    assert bench.submitted() == ["committed 0/1 rows=1 at 0+2", "flush"]
    bench.assert_drained()


def test_a_resume_with_nothing_left_to_do_needs_no_worker():
    first = through([1, 1])
    second = Bench(ranks=2, ledger=first.ledger)
    second.ledger.ended = None
    second.listed(2)
    assert verdict(second)[0] == "complete"
    assert second.submitted() == ["ended complete 0", "flush"]
    second.durable()
    assert second.left is None
    second.hello(1)
    second.hello(2)
    assert second.sent() == ["release r1 at once", "release r2 at once"]
    second.released(1)
    assert second.left is None
    second.released(2)
    assert second.left == (0, "")
    second.assert_drained()


@pytest.mark.parametrize(
    ("limit", "failures", "state"),
    [
        (-1, 3, "complete"),
        (0, 0, "complete"),
        (0, 1, "failed"),
        (2, 2, "complete"),
        (2, 3, "failed"),
    ],
)
@pytest.mark.parametrize("name", ["error_threshold", "mini_batch_error_threshold"])
def test_a_threshold_must_be_exceeded(name, limit, failures, state):
    bench = through([1, 1, 1] + [None] * failures, **{name: limit})
    assert state == verdict(bench)[0]
    what = "item" if name == "error_threshold" else "mini-batch"
    what = counted(failures, what)
    if state == "failed":
        assert (
            3,
            f"{what} failed, {name} is {limit} (RUN_EXCEPTION {failures})",
        ) == verdict(bench)[1:]
    bench.sent()
    assert [f"ended {state} {3 if state == 'failed' else 0}", "flush"] == bench.submitted()
    bench.assert_drained()


@pytest.mark.parametrize(
    ("percent", "failures", "state"),
    [(25, 1, "complete"), (25, 2, "failed"), (0, 0, "complete"), (0, 1, "failed")],
)
def test_a_percentage_must_be_exceeded(percent, failures, state):
    bench = through([1] * (4 - failures) + [None] * failures, allowed_failed_percent=percent)
    assert state == verdict(bench)[0]
    bench.sent()
    bench.submitted()
    bench.assert_drained()


def test_missing_rows_count_against_the_items_alone():
    bench = through([0, 1], items=2, error_threshold=2, mini_batch_error_threshold=0)
    assert verdict(bench) == (
        "failed",
        3,
        "3 items failed, error_threshold is 2 (MISSING_ROWS 3)",
    )
    bench.sent()
    bench.submitted()
    bench.assert_drained()


def test_unusable_items_count_at_once():
    bench = Bench(error_threshold=0).joined()
    bench.list_(0, 1, 2)
    bench.sent()
    bench.unusable(b"/d/pipe")
    assert verdict(bench)[2] == "1 item failed, error_threshold is 0 (LOAD_ERROR 1)"
    assert bench.sent() == ["release r1 at once"]
    assert bench.submitted() == ["ended failed 3", "flush"]
    bench.ok(0, 0)
    bench.assert_drained()


def test_a_percentage_has_no_meaning_while_the_listing_goes_on():
    bench = Bench(max_try=1, allowed_failed_percent=50).joined()
    bench.list_(0, 1)
    bench.sent()
    bench.fails(0, 0)
    bench.durable()
    assert bench.submitted() == ["failed 0/1 RUN_EXCEPTION"]
    bench.assert_drained()
    bench.listed(2)
    assert verdict(bench) is None
    bench.fails(0, 1)
    bench.durable()
    assert "2 of 2 mini-batches failed, allowed_failed_percent is 50" in verdict(bench)[2]
    bench.sent()
    bench.submitted()
    bench.assert_drained()


def test_a_threshold_is_held_against_durable_facts():
    bench = Bench(ranks=2, max_try=1, error_threshold=0).joined()
    bench.list_(0, 1, 2)
    bench.sent()
    bench.fails(0, 0)
    assert bench.submitted() == ["failed 0/1 RUN_EXCEPTION"]
    bench.assert_drained()
    bench.durable()
    assert bench.sent() == ["release r1 at once", "release r2 at once"]
    assert bench.submitted() == ["ended failed 3", "flush"]
    assert bench.ledger.holders == {}
    bench.ok(1, 1)
    bench.durable()
    bench.released(1, 2)
    assert bench.left[0] == 3
    bench.assert_drained()


def test_nothing_succeeded():
    bench = through([None, None])
    assert verdict(bench) == ("failed", 3, "none of 2 items succeeded (RUN_EXCEPTION 2)")
    assert bench.submitted() == ["ended failed 3", "flush"]
    bench.sent()
    bench.assert_drained()


def test_nothing_succeeded_because_the_script_writes_its_own_files():
    bench = through([0, 0])
    assert verdict(bench)[2] == (
        "none of 2 items succeeded (MISSING_ROWS 2); "
        "if the script writes its own files, set output_action: summary_only"
    )
    bench.sent()
    bench.submitted()
    bench.assert_drained()


def test_nothing_succeeded_is_no_failure_with_summary_only():
    bench = through([0, None], append_row=False)
    assert verdict(bench)[0] == "complete"
    bench.sent()
    bench.submitted()
    bench.assert_drained()


def test_a_drain_waits_for_what_runs_and_takes_back_the_rest():
    bench = Bench(ranks=2).joined()
    bench.list_(*range(6))
    bench.sent()
    bench.drain()
    assert bench.sent() == ["revoke w0.1", "revoke w1.1"]
    bench.returned(0, 2)
    bench.returned(1, 3)
    bench.assert_drained()
    bench.ok(0, 0)
    assert bench.submitted() == ["committed 0/1 rows=1 at 0+2"]
    bench.assert_drained()
    bench.fails(1, 1)
    assert bench.submitted() == [
        "try_failed 1/1 RUN_EXCEPTION",
        "ended interrupted 75",
        "flush",
    ]
    assert bench.sent() == ["release r1", "release r2"]
    bench.released(1, 2)
    bench.durable()
    assert bench.left == (75, "asked")
    assert bench.ledger.finals == 1
    bench.assert_drained()


def test_a_drain_does_not_wait_for_ever():
    bench = Bench(drain_s=30).joined()
    bench.list_(0)
    bench.sent()
    bench.drain()
    bench.now += 29
    bench.beat(1)
    bench.assert_drained()
    bench.now += 1
    bench.beat(1)
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.sent()[0] == "release r1 at once"
    bench.ok(0, 0)
    bench.durable()
    bench.released(1)
    assert bench.left == (75, "asked")
    assert bench.ledger.finals == 0
    bench.assert_drained()


def test_a_drain_with_nothing_out_ends_at_once():
    bench = Bench().joined()
    bench.drain()
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.sent() == ["release r1"]
    bench.drain("again")
    bench.assert_drained()
    assert verdict(bench)[2] == "asked"


def test_a_failure_overrules_a_drain_that_still_waits():
    bench = Bench(max_try=1, error_threshold=0).joined()
    bench.list_(0, 1)
    bench.sent()
    bench.drain()
    assert bench.sent() == ["revoke w0.1"]
    bench.fails(0, 0)
    bench.durable()
    assert verdict(bench)[0] == "failed"
    assert bench.sent() == ["release r1 at once"]
    assert bench.submitted() == ["failed 0/1 RUN_EXCEPTION", "ended failed 3", "flush"]
    bench.assert_drained()


def test_a_drain_does_not_overrule_a_failure_nor_a_complete_run():
    for bench in (through([None]), through([1])):
        before = verdict(bench)
        bench.sent()
        bench.submitted()
        bench.drain()
        assert before == verdict(bench)
        bench.assert_drained()


def test_a_rank_that_is_lost_during_a_drain_holds_nothing_up():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1)
    bench.sent()
    bench.drain()
    bench.lost(1)
    bench.ok(1, 1)
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2", "ended interrupted 75", "flush"]
    assert bench.sent() == ["release r2"]
    bench.released(2)
    bench.durable()
    assert bench.left == (75, "asked")
    bench.assert_drained()


def test_a_rank_that_comes_back_at_the_end_is_let_go():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1)
    bench.sent()
    bench.drain()
    bench.lost(1)
    bench.beat(1)
    assert bench.sent() == ["release r1 at once"]
    bench.ok(1, 1)
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2", "ended interrupted 75", "flush"]
    assert bench.sent() == ["release r1", "release r2"]
    bench.assert_drained()


def test_a_worker_that_becomes_ready_during_a_drain_gets_nothing():
    bench = Bench(ranks=2)
    bench.hello(1, 2)
    bench.ready(0)
    bench.list_(0, 1, 2)
    bench.sent()
    bench.drain()
    assert bench.sent() == ["revoke w0.1"]
    bench.ready(1)
    bench.returned(0, 1)
    bench.assert_drained()


def test_a_long_reason_is_cut_in_the_record_alone():
    bench = Bench().joined()
    bench.retired(0, "r", "x" * 10_000)
    record = bench.queued[-1]
    assert len(record.reason) == 4000
    assert len(verdict(bench)[2]) > 10_000
    bench.sent()
    bench.submitted()
    bench.assert_drained()


def test_no_record_follows_the_last_one():
    bench = Bench().joined()
    bench.drain()
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    bench.listed(3)
    bench.unusable(b"/d/pipe")
    assert bench.sent() == ["release r1"]
    bench.assert_drained()
