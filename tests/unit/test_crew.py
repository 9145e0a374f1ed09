"""The ranks and workers: who is fed first, how big a pack is, who is asked to give back."""

import pytest

from mpirun_infer.core.crew import Crew, Handed, Rank, Worker, pack_size
from mpirun_infer.model import MiniBatch, NodeFacts

FACTS = NodeFacts(node="n1", cores=(0,), explicitly_bound=False, gpus=(), python="3.12.1", pid=1)


def crew(workers=2, *, ready=True):
    """One rank with so many workers."""
    found = Crew()
    found.ranks[1] = Rank(facts=FACTS, heard_at=0.0)
    for worker in found.seat(1, range(workers)):
        worker.ready = ready
        found.note(worker)
    return found


def hand(found, number, *ids):
    worker = found.workers[number]
    for one in ids:
        mini_batch = MiniBatch(id=one, input_index=0, first_item=one, paths=(b"/d",))
        worker.handed.append(Handed(mini_batch, 1, 0.0))
    found.note(worker)
    return worker


@pytest.mark.parametrize(
    ("run_s", "size"),
    [
        (None, 1),
        (60.0, 1),
        (0.001, 1),
        (0.000999, 2),
        (0.0005, 4),
        (0.0002, 10),
        (0.0001, 20),
        (0.00001, 32),
        (0.0, 32),
    ],
)
def test_pack_size(run_s, size):
    assert pack_size(run_s) == size


def test_the_mean_follows_the_last_runs():
    worker = Worker(number=0, rank=1, incarnation=1)
    worker.note_run(1.0)
    assert worker.run_s == 1.0
    worker.note_run(2.0)
    assert worker.run_s == pytest.approx(1.3)


def test_take():
    worker = hand(crew(), 0, 4, 5, 6)
    assert worker.take(5).mini_batch.id == 5
    assert worker.take(5) is None
    assert [handed.mini_batch.id for handed in worker.handed] == [4, 6]


def test_the_idle_first_in_the_order_of_their_waiting():
    found = crew(3)
    hand(found, 0, 1)
    assert found.next_to_feed().number == 1
    found.note(found.workers[1])  # goes to the end of the line
    assert found.next_to_feed().number == 2
    hand(found, 1, 2)
    hand(found, 2, 3)
    assert not found.someone_starves()
    assert found.next_to_feed().number == 0
    for number in range(3):
        hand(found, number, 10 + number)
    assert found.next_to_feed() is None


@pytest.mark.parametrize("flag", ["not ready", "retired", "revoking"])
def test_who_must_not_be_fed(flag):
    found = crew(1)
    worker = found.workers[0]
    worker.ready = flag != "not ready"
    worker.retired = flag == "retired"
    worker.revoking = flag == "revoking"
    found.note(worker)
    assert found.next_to_feed() is None
    assert not found.someone_starves()
    hand(found, 0, 1, 2)
    assert found.next_to_revoke() is None


@pytest.mark.parametrize(
    ("ids", "run_s", "firm", "asked"),
    [
        ((1,), None, False, False),
        ((1, 2), None, False, True),
        ((1, 2), 0.2, False, True),
        ((1, 2), 0.19, False, False),
        ((1, 2), 5.0, True, False),
    ],
)
def test_who_is_asked_to_give_back(ids, run_s, firm, asked):
    found = crew(1)
    found.workers[0].run_s = run_s
    found.workers[0].firm = firm
    hand(found, 0, *ids)
    assert (found.next_to_revoke() is not None) == asked


def test_a_new_life_begins_with_nothing():
    found = crew(2)
    hand(found, 0, 1)
    found.ranks[1].lost = True
    found.ranks[1].running = ((0, 1, "run", 1.0),)
    assert found.usable() == 0
    again = found.seat(1, range(2))
    assert [worker.incarnation for worker in again] == [2, 2]
    assert not any(worker.handed or worker.ready for worker in again)
    assert found.ranks[1].running == ()
    assert found.next_to_feed() is None
    assert found.usable() == 2


def test_everyone_left():
    found = crew()
    found.ranks[2] = Rank(facts=FACTS, heard_at=0.0)
    assert not found.everyone_left()
    found.ranks[1].released = True
    assert not found.everyone_left()
    found.ranks[2].lost = True
    assert found.everyone_left()


def test_the_workers_of_a_rank():
    found = crew(2)
    found.ranks[2] = Rank(facts=FACTS, heard_at=0.0)
    found.seat(2, range(2, 4))
    assert [worker.number for worker in found.of_rank(2)] == [2, 3]
