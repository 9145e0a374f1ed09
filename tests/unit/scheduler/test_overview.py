"""What status.json says at each stage of a run."""

import pytest
from bench import Bench

from mpirun_infer.core.overview import overview
from mpirun_infer.model import ItemCounts, MiniBatchCounts, WorkerCounts


def status(bench):
    return overview(bench.scheduler, now=bench.now, epoch=2, output="/out/p", wall="now")


def test_before_anyone_is_there():
    found = status(Bench(ranks=2, slots=3))
    assert found.state == "starting"
    assert found.workers == WorkerCounts(total=6, ready=0, busy=0, lost=0)
    assert found.mini_batches == MiniBatchCounts(total=None, listing=True)
    assert found.items == ItemCounts(total=None)
    assert (found.epoch, found.output, found.updated_at) == (2, "/out/p", "now")
    assert (found.exit_code, found.reason, found.eta_s, found.items_per_s) == (None, None, None, 0)


def test_at_work():
    bench = Bench(ranks=3, max_try=1).joined()
    bench.now += 10
    bench.list_(*range(8), items=2)
    bench.listed(8, 16, unusable=1)
    bench.unusable(b"/d/pipe")
    bench.now += 4
    bench.ok(0, 0, rows=2)
    bench.fails(1, 1)
    bench.ok(2, 2, rows=1)
    bench.durable()
    found = status(bench)
    assert found.state == "running"
    assert found.workers == WorkerCounts(total=3, ready=3, busy=3, lost=0)
    assert found.mini_batches == MiniBatchCounts(
        total=8, listing=False, done=2, running=3, failed=1
    )
    assert found.items == ItemCounts(total=17, succeeded=3, failed=4)
    assert found.rows == 3
    assert {kind: number for kind, number in found.failures.items() if number} == {
        "RUN_EXCEPTION": 2,
        "MISSING_ROWS": 1,
        "LOAD_ERROR": 1,
    }
    assert (found.elapsed_s, found.scoring_s) == (14.0, 4.0)
    assert found.items_per_s == pytest.approx(7 / 4, abs=0.1)
    assert found.eta_s == pytest.approx(4 / 3 * 5, abs=0.1)
    assert found.first_failure.item == "/d/1.0.png", "a failed run() says more than a pipe"


def test_lost_and_retired_workers():
    bench = Bench(ranks=3).joined()
    bench.lost(1)
    bench.retired(1)
    assert status(bench).workers == WorkerCounts(total=3, ready=1, busy=0, lost=2)


def test_draining_and_after_the_end():
    bench = Bench().joined()
    bench.list_(0)
    bench.drain()
    assert status(bench).state == "draining"
    bench = Bench().joined()
    bench.list_(0)
    bench.listed(1)
    bench.now += 2
    bench.ok(0, 0)
    bench.durable()
    bench.now += 100
    found = status(bench)
    assert found.state == "running"  # the journalist says complete when all is done
    assert (found.scoring_s, found.eta_s) == (2.0, None)


def test_what_earlier_epochs_did_is_no_rate_of_this_one():
    first = Bench().joined()
    first.list_(0, 1)
    first.ok(0, 0)
    first.durable()
    second = Bench(ledger=first.ledger)
    second.ledger.give_back(1)
    second.listed(2)
    second.hello(1)
    second.ready(0)
    second.list_(1)
    second.now += 10
    found = status(second)
    assert (found.mini_batches.done, found.items_per_s, found.eta_s) == (1, 0.0, None)
