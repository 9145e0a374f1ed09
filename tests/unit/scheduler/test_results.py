"""What becomes of results: committed, tried again, failed for good, or dropped as stale."""

import pytest
from bench import Bench, bad, ok

from mpirun_infer.core.messages import Outcome
from mpirun_infer.model import FailureKind


def busy(ranks=1, count=2, **terms):
    """`count` mini-batches are out (two at each worker at most)."""
    bench = Bench(ranks=ranks, **terms).joined()
    bench.list_(*range(count))
    bench.sent()
    return bench


def test_rows_go_where_the_last_ones_ended():
    bench = busy()
    bench.ok(0, 0, rows=3)
    bench.ok(0, 1, rows=0)
    assert bench.submitted() == ["committed 0/1 rows=3 at 0+6", "committed 1/1 rows=0 at 6+0"]
    assert bytes(bench.rows) == b"0\n0\n0\n"
    assert bench.ledger.finals == 0
    bench.durable()
    assert bench.ledger.finals == 2
    assert (bench.scheduler.outbox.awaited, len(bench.ledger.holders)) == (0, 0)
    bench.assert_drained()


def test_a_pack_of_outcomes_shares_one_body():
    bench = busy()
    bench.result(0, bad(0), ok(1, rows=2), body=b"1\n1\n")
    assert bench.submitted() == ["try_failed 0/1 RUN_EXCEPTION", "committed 1/1 rows=2 at 0+4"]
    assert bench.sent() == ["dispatch w0.1 0/2"]
    assert bytes(bench.rows) == b"1\n1\n"
    bench.assert_drained()


def test_a_stale_outcome_in_a_pack_takes_its_rows_along():
    bench = busy()
    bench.result(0, ok(7, rows=1), ok(1, rows=1), body=b"7\n1\n")
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2"]
    assert bytes(bench.rows) == b"1\n"
    bench.assert_drained()


def test_a_failed_try_is_tried_again_before_new_work_by_whoever_is_free():
    bench = busy(ranks=2, count=6)
    bench.fails(0, 0)
    assert bench.submitted() == ["try_failed 0/1 RUN_EXCEPTION"]
    assert bench.sent() == ["dispatch w0.1 0/2"]
    bench.fails(0, 2, kind=FailureKind.PROCESS_EXIT)
    assert bench.submitted() == ["try_failed 2/1 PROCESS_EXIT"]
    assert bench.sent() == ["dispatch w0.1 2/2"]
    assert bench.said == [
        (
            "warning",
            (
                "item /d/0.0.png failed (try 1 of 3): ValueError: no, score.py:3; trying again"
                "; log logs/e.txt"
            ),
        ),
        (
            "warning",
            (
                "item /d/2.0.png failed (try 1 of 3): ValueError: no, score.py:3; trying again"
                "; log logs/e.txt"
            ),
        ),
    ]
    bench.assert_drained()


def test_the_last_try_fails_it_for_good():
    bench = busy(count=1, max_try=2)
    bench.fails(0, 0)
    assert bench.submitted() == ["try_failed 0/1 RUN_EXCEPTION"]
    assert bench.sent() == ["dispatch w0.1 0/2"]
    bench.fails(0, 0, 2, FailureKind.RUN_TIMEOUT)
    assert bench.submitted() == ["failed 0/2 RUN_TIMEOUT"]
    assert bench.ledger.counts.mini_batches_failed == 0
    bench.durable()
    assert bench.ledger.counts.mini_batches_failed == 1
    assert [(tried.try_number, tried.final) for tried in bench.tries] == [(1, False), (2, True)]
    first = bench.ledger.first_failed
    assert (first.item, first.mini_batch, first.try_number) == ("/d/0.0.png", 0, 2)
    assert first.error.endswith(", score.py:3"), "the place belongs to it"
    bench.assert_drained()


def test_every_failed_try_is_reported_but_few_are_told():
    bench = busy(count=40, max_try=1)
    for number in range(40):
        bench.fails(0, number)
    assert len(bench.tries) == 40
    assert len(bench.said) == 21
    assert len(bench.kept) == 40
    last = ("warning", "more failures follow; all are in logs/user/error.txt")
    assert last == bench.said[-1]
    assert [f"failed {number}/1 RUN_EXCEPTION" for number in range(40)] == bench.submitted()
    bench.sent()
    bench.assert_drained()


@pytest.mark.parametrize(
    "where",
    [
        {"try_number": 2},
        {"try_number": 0},
        {"incarnation": 2},
        {"incarnation": 0},
        {"worker": 1},
        {"worker": 9},
        {"rank": 2},
        {"number": 2},
        {"number": 99},
    ],
    ids=str,
)
def test_a_result_that_is_not_outstanding_is_dropped(where):
    bench = busy(ranks=2, count=4)  # worker 0 holds 0 and 2, worker 1 holds 1 and 3
    values = {"worker": 0, "number": 0, "rank": None} | where
    if values["number"] == 2:
        values |= {"worker": 1}
    bench.ok(values.pop("worker"), values.pop("number"), **values)
    assert bytes(bench.rows) == b""
    assert {0, 1, 2, 3} == set(bench.ledger.holders)
    bench.assert_drained()


def test_the_same_result_twice_counts_once():
    bench = busy()
    for _ in range(3):
        bench.ok(0, 0)
        bench.fails(0, 0)
    assert bench.submitted() == ["committed 0/1 rows=1 at 0+2"]
    bench.durable()
    bench.ok(0, 0)
    assert bench.ledger.counts.rows == 1
    assert len(bench.tries) == 1
    bench.assert_drained()


def test_the_same_failure_twice_counts_once():
    bench = busy(count=1)
    bench.fails(0, 0)
    bench.fails(0, 0)
    assert bench.sent() == ["dispatch w0.1 0/2"]
    assert bench.submitted() == ["try_failed 0/1 RUN_EXCEPTION"]
    bench.ok(0, 0)  # of the first try, which has failed
    bench.assert_drained()
    bench.ok(0, 0, 2)
    assert bench.submitted() == ["committed 0/2 rows=1 at 0+2"]
    bench.assert_drained()


def test_an_outcome_that_says_nothing_is_dropped_and_stays_outstanding():
    bench = busy(count=1)
    bench.result(0, Outcome(mini_batch=0, try_number=1))
    bench.assert_drained()
    bench.ok(0, 0)
    assert bench.submitted() == ["committed 0/1 rows=1 at 0+2"]
    bench.assert_drained()


def test_the_first_header_is_kept_and_equal_ones_are_not_repeated():
    bench = busy(count=3)
    bench.ok(0, 0, header=b"a b\n")
    bench.ok(0, 1, header=b"a b\n")
    assert bench.submitted() == [
        "header 0+4",
        "committed 0/1 rows=1 at 4+2",
        "committed 1/1 rows=1 at 6+2",
    ]
    assert bytes(bench.rows) == b"a b\n0\n1\n"
    bench.durable()
    assert bench.scheduler.outbox.awaited == 0
    assert bench.sent() == ["dispatch w0.1 2/1"]
    bench.assert_drained()


def test_a_header_that_differs_fails_the_try():
    bench = busy(max_try=1)
    bench.ok(0, 0, header=b"a b\n")
    bench.ok(0, 1, header=b"a c\n")
    assert bench.submitted() == [
        "header 0+4",
        "committed 0/1 rows=1 at 4+2",
        "failed 1/1 BAD_RETURN",
    ]
    assert "its columns differ from those of the header" in bench.said[-1][1]
    assert "a c" in bench.said[-1][1]
    bench.assert_drained()


def test_rows_without_a_header_may_come_before_and_after_it():
    bench = busy(count=3)
    bench.ok(0, 0)
    bench.ok(0, 1, header=b"a\n")
    bench.sent()
    bench.ok(0, 2)
    assert bench.submitted() == [
        "committed 0/1 rows=1 at 0+2",
        "header 2+2",
        "committed 1/1 rows=1 at 4+2",
        "committed 2/1 rows=1 at 6+2",
    ]
    bench.assert_drained()


def test_a_resume_keeps_the_header_of_the_earlier_epoch():
    first = busy(count=1)
    first.ok(0, 0, header=b"a\n")
    first.durable()
    second = busy(count=0, ledger=first.ledger)
    second.list_(1, 2)
    second.sent()
    second.ok(0, 1, header=b"a\n")
    second.ok(0, 2, header=b"b\n")
    assert second.submitted() == ["committed 1/1 rows=1 at 0+2", "try_failed 2/1 BAD_RETURN"]
    assert second.sent() == ["dispatch w0.1 2/2"]
    second.assert_drained()


def test_more_rows_than_items_are_kept_counted_up_to_the_items_and_told_once():
    bench = busy()
    bench.ok(0, 0, rows=3)
    bench.ok(0, 1, rows=2)
    bench.durable()
    counts = bench.ledger.counts
    assert (
        counts.rows,
        counts.rows_surplus,
        counts.items_succeeded,
        counts.items_failed,
    ) == (5, 3, 2, 0)
    assert bench.said == []
    bench.listed(2)
    assert [level for level, _ in bench.said] == ["warning"]
    assert "returned 3 rows more than it got items" in bench.said[0][1]
    bench.submitted()
    bench.sent()
    bench.assert_drained()


def test_missing_rows_fail_items_not_the_mini_batch():
    bench = Bench().joined()
    bench.list_(0, items=5)
    bench.sent()
    bench.ok(0, 0, rows=2)
    (kept,) = bench.kept
    assert kept.startswith("mini-batch 0 (5 items, the first is /d/0.0.png): 2 rows came back")
    assert kept.endswith(", so 3 items failed (MISSING_ROWS)")
    assert bench.said == [], "they are in the list of failures and in the summary"
    bench.durable()
    counts = bench.ledger.counts
    assert (
        counts.mini_batches_done,
        counts.mini_batches_failed,
        counts.items_succeeded,
        counts.items_failed,
    ) == (1, 0, 2, 3)
    assert bench.submitted() == ["committed 0/1 rows=2 at 0+4"]
    bench.assert_drained()


def test_unusable_items_are_failed_items():
    bench = busy(count=1)
    bench.unusable(b"/d/socket", b"/d/\xff")
    assert (bench.ledger.counts.items_unusable, bench.ledger.counts.items_failed) == (2, 2)
    assert bench.said == [
        ("error", "item /d/socket failed: not a regular file"),
        ("error", "item /d/\udcff failed: not a regular file"),
    ]
    assert bench.ledger.first_unusable == (b"/d/socket", "not a regular file")
    assert [text for _, text in bench.said] == bench.kept
    bench.assert_drained()
