"""Hello, seats, Ready, and the end of workers that cannot work."""

from bench import Bench

from mpirun_infer.core.ending import Phase
from mpirun_infer.core.messages import read_plan


def test_nobody_is_welcomed_before_everyone_is_there():
    bench = Bench(ranks=2)
    bench.hello(1)
    bench.list_(0)
    bench.assert_drained()
    bench.hello(2)
    assert bench.sent() == ["welcome r1.1 w0", "welcome r2.1 w1"]
    assert bench.said == [
        ("info", "worker 0 on n1: cores 0-3, 4 threads"),
        ("info", "worker 1 on n2: cores 0-3, 4 threads"),
    ]
    bench.assert_drained()


def test_a_rank_with_slots_gets_a_seat_for_each():
    bench = Bench(ranks=2, slots=3)
    bench.hello(2, 1)
    assert bench.sent() == ["welcome r1.1 w0 w1 w2", "welcome r2.1 w3 w4 w5"]
    bench.assert_drained()


def test_the_lowest_rank_of_each_node_is_told_so():
    bench = Bench(ranks=4)
    for rank, node in ((3, "b"), (1, "a"), (4, "a"), (2, "b")):
        bench.hello(rank, node=node)
    first = {rank: welcome.first_on_node for rank, welcome in bench.welcomes.items()}
    assert first == {1: True, 2: True, 3: False, 4: False}
    assert len(bench.sent()) == 4
    bench.assert_drained()


def test_the_welcome_says_what_the_runners_need():
    bench = Bench(ranks=2, slots=2, first_process=40)
    bench.hello(1, 2)
    welcome = bench.welcomes[2]
    assert read_plan(welcome.plan) == bench.terms.plan
    assert (welcome.first_process, welcome.workers_total, welcome.beat_s) == (40, 4, 2.0)
    assert [seat.worker for seat in welcome.seats] == [2, 3]
    assert len(bench.sent()) == 2
    bench.assert_drained()


def test_a_rank_that_waits_for_the_others_is_not_silent():
    bench = Bench(ranks=2)
    bench.hello(1)
    bench.tick(60)
    bench.hello(2)
    bench.tick(1)
    assert bench.sent() == ["welcome r1.1 w0", "welcome r2.1 w1"]
    assert Phase.RUNNING is bench.scheduler.ending.phase
    bench.assert_drained()


def test_work_goes_to_a_worker_when_it_is_ready_not_before():
    bench = Bench(ranks=2)
    bench.hello(1, 2)
    bench.sent()
    bench.list_(0, 1, 2)
    bench.assert_drained()
    bench.ready(1)
    assert bench.sent() == ["dispatch w1.1 0/1", "dispatch w1.1 1/1"]
    bench.ready(0)
    assert bench.sent() == ["dispatch w0.1 2/1"]
    bench.assert_drained()


def test_a_stranger_is_not_heard():
    bench = Bench().joined()
    bench.list_(0)
    bench.sent()
    bench.ok(0, 0, rank=7)
    bench.beat(7)
    bench.lost(7)
    bench.assert_drained()


def test_the_progress_clock_of_the_first_hand_out():
    bench = Bench(first_dispatch_timeout_s=50).joined()
    bench.beat(1)
    bench.tick(10)
    bench.beat(1)
    bench.now += 35
    bench.beat(1)
    bench.tick(5)
    bench.assert_drained()
    bench.tick(0.1)
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.sent() == ["release r1"]
    assert bench.scheduler.ending.verdict.reason == (
        "no mini-batch was handed out within 50 s (first_task_creation_timeout): "
        "the inputs are still being listed (does their file system answer?); worker 0 on n1: idle"
    )
    bench.assert_drained()


def test_the_first_hand_out_timeout_while_ranks_are_missing():
    bench = Bench(ranks=2, first_dispatch_timeout_s=50)
    bench.hello(1)
    bench.tick(51)
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.scheduler.ending.verdict.reason.endswith(": no worker has joined")
    assert bench.sent() == ["release r1"]
    bench.hello(2)
    assert bench.sent() == ["release r2 at once"]
    bench.assert_drained()


def test_a_retired_worker_gives_everything_back():
    bench = Bench(ranks=2).joined()
    bench.list_(0, 1, 2, 3, 4)
    bench.sent()
    bench.retired(0, "cannot be killed")
    assert bench.said == [("warning", "worker 0 takes no more work: cannot be killed")]
    bench.assert_drained()
    bench.ok(1, 1)
    assert bench.sent() == ["dispatch w1.1 0/1"]
    bench.ok(1, 3)
    assert bench.sent() == ["dispatch w1.1 2/1"]
    bench.ok(0, 0)
    assert bench.submitted() == ["committed 1/1 rows=1 at 0+2", "committed 3/1 rows=1 at 2+2"]
    bench.assert_drained()


def test_when_the_last_worker_retires_the_run_fails_with_its_reason():
    bench = Bench(ranks=2).joined()
    bench.retired(0, "init() failed", "Traceback 0")
    bench.assert_drained()
    bench.retired(1, "init() failed", "Traceback 1")
    assert bench.submitted() == ["ended failed 4", "flush"]
    assert bench.sent() == ["release r1 at once", "release r2 at once"]
    assert bench.scheduler.ending.verdict.reason == "no worker is left: init() failed\nTraceback 1"
    bench.assert_drained()


def test_a_usage_error_ends_the_run_at_once():
    bench = Bench(ranks=2).joined()
    bench.list_(0)
    bench.sent()
    bench.retired(1, "score.py has no run()", "Traceback", usage_error=True)
    assert bench.submitted() == ["ended failed 2", "flush"]
    assert bench.sent() == ["release r1 at once", "release r2 at once"]
    assert bench.scheduler.ending.verdict.reason == "score.py has no run()"
    bench.assert_drained()


def test_too_few_workers_for_min_workers():
    bench = Bench(ranks=3, min_workers=2).joined()
    bench.retired(0)
    bench.assert_drained()
    bench.retired(2)
    assert bench.submitted() == ["ended interrupted 75", "flush"]
    assert bench.sent() == ["release r1", "release r2", "release r3"]
    assert bench.scheduler.ending.verdict.reason == "only 1 workers are left, min_workers is 2"
    bench.assert_drained()
