"""What the runner gets, and when."""

import pytest

from mpirun_infer.model import MiniBatch
from mpirun_infer.supervise.work_queue import AHEAD_BELOW_S, WorkQueue


def tries(*ids):
    return [
        (MiniBatch(id=number, input_index=0, first_item=number, paths=(b"/d",)), 1)
        for number in ids
    ]


def ids(some):
    return [mini_batch.id for mini_batch, _ in some]


@pytest.fixture
def queue():
    queue = WorkQueue()
    queue.add(tries(1, 2, 3))
    return queue


def test_one_at_a_time_as_long_as_nothing_is_known(queue):
    assert ids(queue.next_for_runner()) == [1]
    assert queue.next_for_runner() == []
    queue.answered((1, 1))
    assert ids(queue.next_for_runner()) == [2]
    assert (ids(queue.sent), len(queue)) == ([2], 2)


def test_short_runs_are_handed_over_ahead(queue):
    queue.note_run(AHEAD_BELOW_S / 2)
    assert ids(queue.next_for_runner()) == [1, 2, 3]
    queue.add(tries(4))
    assert ids(queue.next_for_runner()) == [4]
    assert ids(queue.sent) == [1, 2, 3, 4]


def test_the_mean_follows_a_change(queue):
    queue.note_run(0.0)
    queue.note_run(10 * AHEAD_BELOW_S)
    assert ids(queue.next_for_runner()) == [1]
    for _ in range(10):
        queue.note_run(0.0)
    assert ids(queue.next_for_runner()) == [2, 3]


def test_long_runs_after_short_ones_wait_until_the_runner_has_nothing(queue):
    queue.note_run(0.0)
    queue.next_for_runner()
    queue.note_run(10 * AHEAD_BELOW_S)
    queue.add(tries(4))
    assert queue.next_for_runner() == []
    for number in (1, 2, 3):
        queue.answered((number, 1))
    assert ids(queue.next_for_runner()) == [4]


@pytest.mark.parametrize("answer", [(2, 1), (1, 2), (0, 1), (99, 1)])
def test_only_the_first_can_be_answered(queue, answer):
    queue.note_run(0.0)
    queue.next_for_runner()
    with pytest.raises(ValueError, match=f"mini_batch {answer[0]}, try {answer[1]}"):
        queue.answered(answer)
    assert ids(queue.sent) == [1, 2, 3]


def test_nothing_can_be_answered_when_nothing_was_sent(queue):
    with pytest.raises(ValueError, match="mini_batch 1"):
        queue.answered((1, 1))
    assert queue.first is None


def test_what_waits_can_be_taken_back(queue):
    queue.next_for_runner()
    assert queue.take_waiting() == (2, 3)
    assert queue.take_waiting() == ()
    assert (ids(queue.sent), len(queue)) == ([1], 1)
    assert ids([queue.first]) == [1]


def test_all_can_be_taken_in_order(queue):
    queue.next_for_runner()
    assert queue.take_all() == (1, 2, 3)
    assert (len(queue), queue.first, queue.take_all()) == (0, None, ())
