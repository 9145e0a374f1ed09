"""Who gets what: prefetch, packs, small tails, taking back."""

import pytest
from bench import Bench

from mpirun_infer.core.scheduler import LOOKAHEAD_PER_WORKER

FAST_S = 0.0002
"""A run this long makes packs of 10."""


def tries(line):
    """The mini-batches of a dispatch line."""
    return [int(word.split("/")[0]) for word in line.split()[2:]]


def test_one_runs_and_one_waits_at_each_worker():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1, 2, 3, 4)
    assert bench.sent() == [
        "dispatch w0.1 0/1",
        "dispatch w1.1 1/1",
        "dispatch w0.1 2/1",
        "dispatch w1.1 3/1",
    ]
    bench.ok(1, 1)
    assert bench.sent() == ["dispatch w1.1 4/1"]
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2"]
    bench.assert_drained()


def test_the_idle_are_fed_before_the_hungry():
    bench = Bench(ranks=2).joined()
    bench.list_(0)
    assert bench.sent() == ["dispatch w0.1 0/1"]
    bench.list_(1)
    assert bench.sent() == ["dispatch w1.1 1/1"]
    bench.list_(2)
    assert bench.sent() == ["dispatch w0.1 2/1"]
    bench.assert_drained()


@pytest.mark.parametrize("run_s", [0.001, 0.5])
def test_runs_of_a_millisecond_and_more_are_not_packed(run_s):
    bench = Bench().joined()
    bench.list_(*range(50))
    bench.sent()
    bench.ok(0, 0, run_s=run_s)
    assert bench.sent() == ["dispatch w0.1 2/1"]
    bench.submitted()
    bench.assert_drained()


def test_short_runs_are_packed_and_two_packs_are_kept_out():
    bench = Bench().joined()
    bench.list_(*range(60))
    assert bench.sent() == ["dispatch w0.1 0/1", "dispatch w0.1 1/1"]
    bench.ok(0, 0, run_s=FAST_S)
    # One is out, ten follow: more only when no more than a pack is left.
    assert [list(range(2, 12))] == [tries(line) for line in bench.sent()]
    bench.ok(0, 1, run_s=FAST_S)
    assert [list(range(12, 22))] == [tries(line) for line in bench.sent()]
    for number in range(2, 11):
        bench.ok(0, number, run_s=FAST_S)
    assert len(bench.submitted()) == 11
    bench.assert_drained()
    bench.ok(0, 11, run_s=FAST_S)
    assert [list(range(22, 32))] == [tries(line) for line in bench.sent()]
    bench.submitted()
    bench.assert_drained()


def test_a_pack_is_bounded():
    bench = Bench().joined()
    bench.list_(*range(200))
    bench.sent()
    bench.ok(0, 0, run_s=1e-7)
    assert [len(tries(line)) for line in bench.sent()] == [32]
    bench.submitted()
    bench.assert_drained()


def test_packs_become_small_at_the_end():
    bench = Bench(ranks=2).joined()
    bench.list_(*range(40))
    bench.listed(40)
    bench.sent()
    bench.ok(0, 0, run_s=FAST_S)
    # 36 wait: 36 // 4 = 9, 27 // 4 = 6, and so on, never less than one
    assert [len(tries(line)) for line in bench.sent()] == [9, 6]
    assert bench.submitted() == ["listed 40", "committed 0/1 rows=1 at 0+2"]
    bench.assert_drained()


def test_no_mini_batch_is_wanted_beyond_the_lookahead():
    bench = Bench(ranks=2).joined()
    assert bench.scheduler.wanted == 2 * LOOKAHEAD_PER_WORKER
    bench.list_(*range(10))
    bench.sent()
    assert bench.scheduler.wanted == 2 * LOOKAHEAD_PER_WORKER - 6
    bench.drain()
    assert bench.scheduler.wanted == 0
    assert bench.sent() == ["revoke w0.1", "revoke w1.1"]
    bench.assert_drained()


def test_an_idle_worker_gets_what_waits_at_a_busy_one():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1, 2)
    bench.listed(3)
    assert bench.sent() == ["dispatch w0.1 0/1", "dispatch w1.1 1/1", "dispatch w0.1 2/1"]
    bench.ok(1, 1)
    assert bench.sent() == ["revoke w0.1"]
    bench.returned(0, 2)
    assert bench.sent() == ["dispatch w1.1 2/1"]
    assert bench.submitted() == ["listed 3", "committed 1/1 rows=1 at 0+2"]
    bench.assert_drained()


def test_nothing_is_taken_back_while_more_is_listed():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1, 2)
    bench.sent()
    bench.ok(1, 1)
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2"]
    bench.assert_drained()


def test_nothing_is_taken_back_from_a_worker_that_is_through_soon():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1, 2, 3, 4)
    bench.listed(5)
    bench.sent()
    bench.ok(0, 0, run_s=0.01)
    assert bench.sent() == ["dispatch w0.1 4/1"]
    bench.ok(1, 1, run_s=0.01)
    bench.ok(1, 3, run_s=0.01)
    bench.submitted()
    bench.assert_drained()


def test_a_worker_that_has_nothing_to_give_is_not_asked_again_before_its_next_result():
    bench = Bench(ranks=3).joined()
    bench.list_(0, 1, 2, 3, 4)
    bench.listed(5)
    bench.sent()
    bench.ok(2, 2)
    assert bench.sent() == ["revoke w0.1"]
    bench.returned(0)  # its runner has begun the second one
    assert bench.sent() == ["revoke w1.1"]
    bench.returned(1)
    bench.ready(2)
    bench.submitted()
    bench.assert_drained()
    bench.ok(0, 0)
    bench.submitted()
    bench.assert_drained()


def test_a_worker_is_not_asked_twice_at_a_time():
    bench = Bench(ranks=3).joined()
    bench.list_(0, 1, 2, 3)
    bench.listed(4)
    bench.sent()
    bench.ok(1, 1)
    assert bench.sent() == ["revoke w0.1"]
    bench.ok(2, 2)
    bench.submitted()
    bench.assert_drained()
    bench.returned(0, 3)
    assert bench.sent() == ["dispatch w1.1 3/1"]
    bench.assert_drained()


def test_what_comes_back_is_handed_out_in_its_old_order():
    bench = Bench().joined()
    bench.list_(0, 1, 2, 3)
    bench.sent()
    bench.returned(0, 0, 1, ready=False)
    bench.assert_drained()
    bench.ready(0)
    assert bench.sent() == ["dispatch w0.1 0/1", "dispatch w0.1 1/1"]
    bench.assert_drained()


def test_a_worker_whose_runner_is_replaced_gets_nothing_until_it_is_ready():
    bench = Bench().joined()
    bench.list_(0, 1, 2)
    bench.sent()
    bench.fails(0, 0)
    assert bench.sent() == ["dispatch w0.1 0/2"]
    bench.returned(0, 1, 0, ready=False)
    bench.list_(3)
    assert bench.submitted() == ["try_failed 0/1 RUN_EXCEPTION"]
    bench.assert_drained()
    bench.ready(0)
    assert bench.sent() == ["dispatch w0.1 1/1", "dispatch w0.1 0/2"]
    bench.assert_drained()


def test_what_was_never_handed_out_cannot_be_returned():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1)
    bench.sent()
    bench.returned(0, 1, 7)
    bench.assert_drained()
    bench.ok(1, 1)
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2"]
    bench.assert_drained()
