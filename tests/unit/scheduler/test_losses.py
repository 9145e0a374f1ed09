"""Ranks that go, fall silent and come back."""

import pytest
from bench import Bench

from mpirun_infer.core.ledger import Ledger


def busy(ranks=2, count=4, **terms):
    """Worker 0 holds 0 and 2, worker 1 holds 1 and 3."""
    bench = Bench(ranks=ranks, **terms).joined()
    bench.list_(*range(count))
    bench.sent()
    return bench


def test_only_what_ran_is_charged_when_a_rank_is_lost():
    bench = busy()
    bench.lost(1, "killed")
    assert bench.said == [("warning", "rank 1 on n1 is lost: killed")]
    assert bench.ledger.interruptions == {0: 1}
    bench.assert_drained()  # worker 1 has its two
    bench.ok(1, 1)
    bench.ok(1, 3)
    assert bench.sent() == ["dispatch w1.1 0/1", "dispatch w1.1 2/1"]
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2", "committed 3/1 rows=1 at 2+2"]
    bench.assert_drained()


def test_the_last_sign_of_life_says_what_ran():
    bench = busy()
    bench.beat(1, (0, 2, "run", 0.5))
    bench.lost(1)
    assert bench.ledger.interruptions == {2: 1}
    bench.assert_drained()


def test_a_sign_of_life_about_what_is_settled_does_not_mislead():
    bench = busy()
    bench.beat(1, (0, 0, "run", 0.5))
    bench.ok(0, 0)
    bench.lost(1)
    assert bench.ledger.interruptions == {2: 1}
    bench.submitted()
    bench.assert_drained()


def test_what_a_rank_said_in_an_earlier_life_is_forgotten():
    bench = busy()
    bench.beat(1, (0, 2, "run", 0.5))
    bench.lost(1)
    bench.beat(1)
    assert bench.sent() == ["welcome r1.2 w0"]
    bench.ready(0, incarnation=2)
    assert bench.sent() == ["dispatch w0.2 0/1", "dispatch w0.2 2/1"]
    bench.lost(1)
    assert bench.ledger.interruptions == {2: 1, 0: 1}
    bench.assert_drained()


def test_each_slot_of_a_lost_rank_is_charged_for_its_own():
    bench = Bench(ranks=2, slots=2).joined()
    bench.list_(*range(8))
    bench.sent()
    bench.beat(1, (0, 0, "run", 1.0), (1, 5, "load", 0.1))
    bench.lost(1)
    assert bench.ledger.interruptions == {0: 1, 5: 1}
    assert {2, 3, 6, 7} == set(bench.ledger.holders)
    bench.assert_drained()


@pytest.mark.parametrize("crash_limit", [1, 2, 3])
def test_what_ran_at_too_many_losses_fails(crash_limit):
    bench = Bench(ranks=2, crash_limit=crash_limit).joined()
    bench.list_(0)
    assert bench.sent() == ["dispatch w0.1 0/1"]
    for life in range(1, crash_limit):
        rank = bench.rank_of(bench.ledger.holders[0].worker)
        bench.lost(rank)
        bench.submitted()
        sent = bench.sent()
        assert len(sent) == 1
        assert sent[0].endswith(" 0/1"), "an interruption is no failed try"
        assert {0: life} == bench.ledger.interruptions
        bench.beat(rank)
        bench.sent()
        worker = bench.scheduler.crew.workers[rank - 1]
        bench.ready(rank - 1, incarnation=worker.incarnation)
        bench.assert_drained()
    bench.lost(bench.rank_of(bench.ledger.holders[0].worker))
    assert bench.submitted() == ["failed 0/1 PROCESS_EXIT"]
    assert (
        f"its rank was lost while it ran, {crash_limit} times (crash_limit)" in (bench.said[-1][1])
    )
    bench.durable()
    assert bench.ledger.interruptions == {}
    bench.assert_drained()


def test_what_ran_at_too_many_losses_of_earlier_epochs_fails_without_a_hand_out():
    ledger = Ledger()
    ledger.interruptions.update({0: 3, 1: 2})
    bench = Bench(ledger=ledger).joined()
    bench.list_(0, 1)
    assert bench.submitted() == ["failed 0/1 PROCESS_EXIT"]
    assert bench.sent() == ["dispatch w0.1 1/1"]
    assert "3 times (crash_limit)" in bench.said[-1][1]
    bench.assert_drained()


def test_results_of_a_lost_rank_are_stale_and_make_it_start_anew():
    bench = busy()
    bench.lost(1)
    bench.ok(0, 0)
    assert bench.sent() == ["welcome r1.2 w0"]
    assert bench.said[-1] == ("warning", "rank 1 on n1 is back")
    bench.ok(0, 0)  # still of its first life
    bench.ready(0, incarnation=1)
    bench.fails(0, 2)
    bench.returned(0, 2)
    bench.assert_drained()
    bench.ready(0, incarnation=2)
    assert bench.sent() == ["dispatch w0.2 0/1", "dispatch w0.2 2/1"]
    bench.ok(0, 0)
    bench.assert_drained()
    bench.ok(0, 0, incarnation=2)
    assert bench.submitted() == ["committed 0/1 rows=1 at 0+2"]
    bench.assert_drained()


def test_a_rank_is_lost_once():
    bench = busy()
    bench.lost(1)
    bench.lost(1)
    bench.tick()
    assert len(bench.said) == 1
    assert bench.ledger.interruptions == {0: 1}
    bench.assert_drained()


def test_silence():
    bench = busy()
    bench.now += 10
    bench.beat(2)
    bench.tick(5)
    bench.assert_drained()
    bench.tick(0.1)
    assert bench.said == [("warning", "rank 1 on n1 is lost: silent for 15 s")]
    bench.beat(2)
    bench.tick(15)
    assert len(bench.said) == 1
    bench.assert_drained()


def test_any_message_is_a_sign_of_life():
    bench = busy()
    bench.now += 14
    bench.ok(0, 0)
    bench.beat(2)
    bench.tick(14)
    bench.submitted()
    assert bench.said == []
    bench.assert_drained()


def test_silence_is_never_shorter_than_five_signs_of_life():
    bench = Bench(ranks=2500, slots=4)
    assert (bench.terms.beat_s, bench.terms.silence_s) == (20.0, 100.0)
    bench = Bench(ranks=2)
    assert (bench.terms.beat_s, bench.terms.silence_s) == (2.0, 15.0)


def test_when_the_last_rank_is_lost_the_run_can_be_resumed():
    bench = busy(ranks=1, count=2)
    bench.lost(1)
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.scheduler.ending.verdict.reason == "only 0 workers are left, min_workers is 1"
    bench.durable()
    assert bench.left == (75, "only 0 workers are left, min_workers is 1")
    bench.assert_drained()


def test_a_lost_rank_is_a_retired_worker_to_the_others():
    bench = busy(ranks=3, count=3, min_workers=2)
    bench.lost(1)
    assert bench.sent() == ["dispatch w1.1 0/1"]
    bench.retired(1)
    assert bench.scheduler.ending.verdict.reason == "only 1 workers are left, min_workers is 2"
    assert bench.submitted() == []  # worker 2 works on
    bench.ok(2, 2)
    assert bench.submitted() == ["committed 2/1 rows=1 at 0+2", "ended interrupted 75", "flush"]
    assert bench.sent() == ["release r2", "release r3"]
    bench.assert_drained()


def test_a_stall_names_each_worker_and_what_it_does():
    bench = Bench(ranks=4, progress_timeout_s=30).joined()
    bench.list_(0, 1)
    bench.sent()
    bench.retired(3, "gone")
    for _ in range(3):
        bench.now += 10
        bench.beat(1, (0, 0, "run", 29.7))
        for rank in (2, 3, 4):
            bench.beat(rank)
        bench.tick()
    bench.assert_drained()
    bench.tick(0.5)
    assert bench.scheduler.ending.verdict.reason == (
        "no progress for 30 s (progress_update_timeout): "
        "worker 0 on n1: in run for 30 s with mini-batch 0; "
        "worker 1 on n2: idle; worker 2 on n3: idle; worker 3 on n4: retired"
    )
    bench.assert_drained()  # what is out is waited for, nothing is prefetched
    bench.ok(0, 0)
    bench.ok(1, 1)
    assert [f"release r{rank}" for rank in range(1, 5)] == bench.sent()
    assert bench.submitted() == [
        "committed 0/1 rows=1 at 0+2",
        "committed 1/1 rows=1 at 2+2",
        "ended interrupted 75",
        "flush",
    ]
    bench.assert_drained()


def test_nothing_out_is_no_stall():
    bench = Bench(progress_timeout_s=30).joined()
    bench.list_(0)
    bench.sent()
    bench.listed(1)
    bench.ok(0, 0)
    bench.submitted()
    for _ in range(10):
        bench.now += 10
        bench.beat(1)
        bench.tick()
    assert bench.submitted() == ["flush"] * 20, "only the disk is waited for"
    bench.assert_drained()


def test_a_listing_that_hangs_is_a_stall():
    bench = Bench(progress_timeout_s=30).joined()
    bench.list_(0)
    bench.sent()
    bench.ok(0, 0)
    bench.durable()
    bench.submitted()
    bench.now += 31
    bench.beat(1)
    bench.tick()
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.sent() == ["release r1"]
    assert "the inputs are still being listed" in bench.scheduler.ending.verdict.reason
    bench.assert_drained()
