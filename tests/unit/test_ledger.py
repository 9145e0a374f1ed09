"""The mini-batch state machine cell by cell, the counts, and replay equals live."""

from itertools import product

import pytest

from mpirun_infer.core.ledger import Holder, Ledger, LedgerError, State
from mpirun_infer.core.records import (
    Committed,
    Dispatched,
    Ended,
    Failed,
    Header,
    Listed,
    Opened,
    Segment,
    TryFailed,
)
from mpirun_infer.model import FailureKind

MINE = Holder(worker=2, incarnation=1, try_number=1)

PENDING, IN_FLIGHT, COMMITTING, FAILING, COMMITTED, FAILED = State


def dispatched(mini_batch=0, try_number=1, worker=2, incarnation=1):
    return Dispatched(worker=worker, incarnation=incarnation, tries=((mini_batch, try_number),))


def committed(mini_batch=0, *, items=(0, 3), rows=3, offset=0, length=6):
    return Committed(
        mini_batch=mini_batch,
        try_number=1,
        worker=2,
        incarnation=1,
        items=items,
        offset=offset,
        length=length,
        rows=rows,
        crc=0,
        run_s=0.5,
    )


def failed(mini_batch=0, *, items=(0, 3), kind=FailureKind.RUN_TIMEOUT):
    return Failed(
        mini_batch=mini_batch,
        try_number=1,
        worker=2,
        incarnation=1,
        items=items,
        kind=kind,
        error="too long",
    )


def try_failed(mini_batch=0, try_number=1):
    return TryFailed(
        mini_batch=mini_batch,
        try_number=try_number,
        worker=2,
        incarnation=1,
        kind=FailureKind.RUN_EXCEPTION,
    )


def opened(epoch, launch="l"):
    return Opened(
        version=1,
        run_id="r",
        epoch=epoch,
        fingerprint={},
        accepted=tuple(Segment(number, 9, 9) for number in range(1, epoch)),
        started_at="2026-01-01T00:00:00Z",
        host="n1",
        pid=7,
        launch=launch,
    )


STEPS = {
    "Dispatched": lambda ledger: ledger.apply(dispatched()),
    "result ok": lambda ledger: ledger.begin(0, State.COMMITTING),
    "result bad": lambda ledger: ledger.begin(0, State.FAILING),
    "given back": lambda ledger: ledger.give_back(0),
    "interrupted": lambda ledger: ledger.interrupt(0),
    "Committed": lambda ledger: ledger.apply(committed()),
    "Failed": lambda ledger: ledger.apply(failed()),
    "TryFailed": lambda ledger: ledger.apply(try_failed()),
}

WAY_TO = {
    PENDING: (),
    IN_FLIGHT: ("Dispatched",),
    COMMITTING: ("Dispatched", "result ok"),
    FAILING: ("Dispatched", "result bad"),
    COMMITTED: ("Dispatched", "result ok", "Committed"),
    FAILED: ("Dispatched", "result bad", "Failed"),
}

LEGAL = {
    (PENDING, "Dispatched"): IN_FLIGHT,
    (IN_FLIGHT, "Dispatched"): IN_FLIGHT,  # replay: what was given back leaves no record
    (IN_FLIGHT, "result ok"): COMMITTING,
    (IN_FLIGHT, "result bad"): FAILING,
    (IN_FLIGHT, "given back"): PENDING,
    (IN_FLIGHT, "interrupted"): PENDING,
    (IN_FLIGHT, "Committed"): COMMITTED,  # replay, as is the next one
    (IN_FLIGHT, "Failed"): FAILED,
    (IN_FLIGHT, "TryFailed"): PENDING,
    (COMMITTING, "Committed"): COMMITTED,
    (FAILING, "Failed"): FAILED,
}


def ledger_in(state):
    ledger = Ledger()
    for step in WAY_TO[state]:
        STEPS[step](ledger)
    return ledger


@pytest.mark.parametrize(
    ("state", "event"), list(product(State, STEPS)), ids=lambda v: getattr(v, "name", v)
)
def test_cell(state, event):
    ledger = ledger_in(state)
    assert state == ledger.state(0)
    wanted = LEGAL.get((state, event))
    if wanted is None:
        with pytest.raises(LedgerError, match=f"mini-batch 0 is {state.name}"):
            STEPS[event](ledger)
        wanted = state
    else:
        STEPS[event](ledger)
    assert wanted == ledger.state(0)
    assert (wanted in (State.COMMITTED, State.FAILED)) == ledger.is_final(0)
    assert (wanted is State.IN_FLIGHT) == (0 in ledger.holders)


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
def test_a_result_counts_only_while_it_is_outstanding(state):
    assert (state is State.IN_FLIGHT) == ledger_in(state).holds(0, MINE)


@pytest.mark.parametrize(
    "other",
    [
        Holder(worker=3, incarnation=1, try_number=1),
        Holder(worker=2, incarnation=2, try_number=1),
        Holder(worker=2, incarnation=1, try_number=2),
    ],
    ids=["worker", "incarnation", "try"],
)
def test_a_result_must_name_worker_incarnation_and_try(other):
    assert not ledger_in(State.IN_FLIGHT).holds(0, other)


def test_a_refused_event_changes_no_count():
    ledger = ledger_in(State.COMMITTED)
    before = (ledger.counts, dict(ledger.failures))
    for step in STEPS.values():
        with pytest.raises(LedgerError):
            step(ledger)
    assert before == (ledger.counts, ledger.failures)


def test_what_was_never_heard_of_is_pending():
    ledger = Ledger()
    assert ledger.state(10_000_000) == State.PENDING
    assert not ledger.is_final(10_000_000)


def test_ids_may_come_in_any_order():
    ledger = Ledger()
    for mini_batch in (1000, 0, 999, 64, 63):
        ledger.apply(dispatched(mini_batch))
    assert {0, 63, 64, 999, 1000} == set(ledger.holders)
    assert ledger.state(1001) == State.PENDING


@pytest.mark.parametrize(
    ("rows", "succeeded", "missing", "surplus"),
    [(3, 3, 0, 0), (0, 0, 3, 0), (1, 1, 2, 0), (7, 3, 0, 4)],
)
def test_counts_of_a_committed_one(rows, succeeded, missing, surplus):
    ledger = ledger_in(State.COMMITTING)
    ledger.apply(committed(rows=rows))
    counts = ledger.counts
    assert (counts.mini_batches_done, counts.mini_batches_failed) == (1, 0)
    assert (succeeded, missing) == (counts.items_succeeded, counts.items_failed)
    assert (rows, surplus) == (counts.rows, counts.rows_surplus)
    assert missing == ledger.failures[FailureKind.MISSING_ROWS]
    assert ledger.finals == 1
    assert ledger.rows_end == 6


def test_counts_of_a_failed_one():
    ledger = ledger_in(State.FAILING)
    ledger.apply(failed(items=(4, 9)))
    assert (ledger.counts.mini_batches_done, ledger.counts.mini_batches_failed) == (0, 1)
    assert (ledger.counts.items_succeeded, ledger.counts.items_failed) == (0, 5)
    assert {k: n for k, n in ledger.failures.items() if n} == {FailureKind.RUN_TIMEOUT: 5}


def test_nothing_counts_before_it_is_durable():
    for state in (State.COMMITTING, State.FAILING):
        ledger = ledger_in(state)
        assert Ledger().counts == ledger.counts
        assert ledger.finals == 0


def test_counts_of_unusable_items():
    ledger = Ledger()
    ledger.add_unusable([(b"/d/a", "a pipe"), (b"/d/b", "a socket")])
    assert ledger.first_unusable == (b"/d/a", "a pipe")
    assert (ledger.counts.items_unusable, ledger.counts.items_failed) == (2, 2)
    assert ledger.failures[FailureKind.LOAD_ERROR] == 2
    assert ledger.finals == 0


def test_failed_tries_are_remembered_until_it_is_settled():
    ledger = ledger_in(State.IN_FLIGHT)
    ledger.apply(try_failed())
    assert ledger.tries_failed == {0: 1}
    ledger.apply(dispatched(try_number=2))
    ledger.apply(try_failed(try_number=2))
    assert ledger.tries_failed == {0: 2}
    ledger.apply(dispatched(try_number=3))
    ledger.apply(committed())
    assert ledger.tries_failed == {}


def test_interruptions_are_remembered_until_it_is_settled():
    ledger = ledger_in(State.IN_FLIGHT)
    ledger.interrupt(0)
    assert ledger.interruptions == {0: 1}
    ledger.apply(dispatched())
    ledger.interrupt(0)
    assert ledger.interruptions == {0: 2}
    ledger.apply(dispatched())
    ledger.apply(failed())
    assert ledger.interruptions == {}


def test_giving_back_charges_nothing():
    ledger = ledger_in(State.IN_FLIGHT)
    ledger.give_back(0)
    assert (ledger.interruptions, ledger.tries_failed) == ({}, {})


def test_a_new_epoch_takes_back_what_was_out():
    ledger = Ledger()
    ledger.apply(opened(1))
    ledger.apply(dispatched())
    ledger.apply(committed_at_one := committed(0, offset=10, length=5))
    ledger.apply(dispatched(1))
    assert committed_at_one.offset + committed_at_one.length == ledger.rows_end
    ledger.apply(opened(2))
    assert (ledger.holders, ledger.interruptions) == ({}, {1: 1})
    assert (ledger.epoch, ledger.rows_end, ledger.ended) == (2, 0, None)
    assert (ledger.state(0), ledger.state(1)) == (State.COMMITTED, State.PENDING)


def test_a_new_epoch_blames_only_what_may_have_been_running():
    ledger = Ledger()
    ledger.apply(opened(1))
    ledger.apply(Dispatched(worker=0, incarnation=1, tries=((0, 1), (1, 1))))
    ledger.apply(Dispatched(worker=1, incarnation=1, tries=((2, 1),)))
    ledger.apply(Dispatched(worker=0, incarnation=1, tries=((3, 1),)))
    ledger.apply(opened(2))
    assert ledger.interruptions == {0: 1, 2: 1}
    assert [ledger.state(number) for number in range(4)] == [State.PENDING] * 4


def test_a_new_epoch_believes_the_last_hand_out():
    ledger = Ledger()
    ledger.apply(opened(1))
    ledger.apply(Dispatched(worker=0, incarnation=1, tries=((0, 1), (1, 1))))
    ledger.apply(Dispatched(worker=1, incarnation=1, tries=((2, 1),)))
    ledger.apply(Dispatched(worker=1, incarnation=1, tries=((0, 1),)))  # given back in between
    ledger.apply(opened(2))
    assert ledger.interruptions == {1: 1, 2: 1}


def test_a_new_launcher_blames_nobody():
    """Somebody killed everything, or the machine went down: the script is not to blame."""
    ledger = Ledger()
    ledger.apply(opened(1, launch="first"))
    ledger.apply(dispatched())
    ledger.apply(opened(2, launch="second"))
    assert (ledger.holders, ledger.interruptions) == ({}, {})
    assert ledger.state(0) == State.PENDING


def test_an_epoch_that_ended_by_decision_interrupted_nothing():
    ledger = ledger_in(State.IN_FLIGHT)
    ledger.apply(Ended(state="interrupted", exit_code=75, reason="drained", rows_end=0))
    ledger.apply(opened(2))
    assert (ledger.holders, ledger.interruptions) == ({}, {})
    assert ledger.state(0) == State.PENDING


def test_replay_equals_live():
    """A run with every kind of record, through the live calls and through its journal."""
    live = Ledger()
    journal = []

    def decide(record):
        live.apply(record)
        journal.append(record)

    decide(opened(1))
    for mini_batch in range(6):
        decide(dispatched(mini_batch))
    decide(try_failed(0))
    live.give_back(1)  # leaves no record
    live.interrupt(2)
    decide(dispatched(0, 2))
    decide(dispatched(1))
    decide(dispatched(2, worker=4))
    live.begin(3, State.COMMITTING)
    live.begin(4, State.FAILING)
    live.begin(0, State.COMMITTING)
    decide(Header(offset=0, length=4, crc=0))
    decide(committed(3, items=(9, 12), rows=5, offset=4, length=10))
    decide(failed(4, items=(12, 15)))
    decide(Listed(mini_batches=6, items=18, unusable=0, manifest_bytes=99))
    decide(committed(0, items=(0, 3), rows=1, offset=14, length=2))

    replayed = Ledger()
    for record in journal:
        replayed.apply(record)
    assert live.counts == replayed.counts
    assert live.failures == replayed.failures
    assert live.holders == replayed.holders
    assert live.tries_failed == replayed.tries_failed
    assert (live.listed, live.header) == (replayed.listed, replayed.header)
    assert (live.rows_end, live.epoch) == (replayed.rows_end, replayed.epoch)
    assert [live.state(n) for n in range(8)] == [replayed.state(n) for n in range(8)]
