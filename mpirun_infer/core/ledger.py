"""The state of every mini-batch, and every count that is shown or held against a threshold.

Owns the mini-batch state machine. `apply(record)` is the one reducer: the live run calls it with
what it decides and with what has become durable, a resume calls it with what the journal holds.
Touches: nothing.
Never:   decides who gets what (`core.scheduler`) or when to stop (`core.threshold`).

State table (rows: state; columns: what happens; empty: a bug or a damaged journal)

    state       Dispatched   result ok    result bad   given back  Committed  Failed   TryFailed
    PENDING     IN_FLIGHT    stale        stale        stale
    IN_FLIGHT   IN_FLIGHT*   COMMITTING   FAILING or   PENDING     COMMITTED* FAILED*  PENDING
                                          TryFailed
    COMMITTING               stale        stale        stale       COMMITTED
    FAILING                  stale        stale        stale                  FAILED
    COMMITTED                stale        stale        stale
    FAILED                   stale        stale        stale

    * only at replay: what was given back leaves no record, and what happens between a result and
      its durability leaves none either.

Counts change when a record is applied, so a threshold is held against durable facts alone.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import assert_never

import msgspec

from mpirun_infer.core.records import (
    Committed,
    Dispatched,
    Ended,
    Failed,
    Header,
    Listed,
    Opened,
    Record,
    TryFailed,
)
from mpirun_infer.errors import InferError
from mpirun_infer.model import FailureKind


class State(IntEnum):
    """Of one mini-batch; a byte each."""

    PENDING = 0
    IN_FLIGHT = 1
    COMMITTING = 2
    FAILING = 3
    COMMITTED = 4
    FAILED = 5


class LedgerError(InferError):
    """Raised when a record does not fit the state it meets: our bug, or a damaged journal."""


class Holder(msgspec.Struct, frozen=True):
    """Who has a mini-batch that is in flight; a result counts only if it names exactly this."""

    worker: int
    incarnation: int
    try_number: int


class Counts(msgspec.Struct):
    """Durable facts; items and rows are numbers of each."""

    mini_batches_done: int = 0
    mini_batches_failed: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    items_unusable: int = 0
    rows: int = 0
    rows_surplus: int = 0


class Ledger:
    """States and counts; see the table above."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.failures: dict[FailureKind, int] = dict.fromkeys(FailureKind, 0)
        self.holders: dict[int, Holder] = {}
        self.tries_failed: dict[int, int] = {}
        self.interruptions: dict[int, int] = {}
        self.first_failed: Failed | None = None
        self.first_unusable: tuple[bytes, str] | None = None
        self.listed: Listed | None = None
        self.ended: Ended | None = None
        self.header: Header | None = None
        self.epoch = 0
        self.rows_end = 0
        self._launch = ""
        self._states = bytearray()

    # ------------------------------------------------------------------ what is known

    def state(self, mini_batch: int) -> State:
        """PENDING for whatever was never heard of."""
        if mini_batch >= len(self._states):
            return State.PENDING
        return State(self._states[mini_batch])

    def is_final(self, mini_batch: int) -> bool:
        """Whether nothing more will happen to it."""
        return mini_batch < len(self._states) and self._states[mini_batch] >= State.COMMITTED

    @property
    def finals(self) -> int:
        """Mini-batches that are committed or have failed for good."""
        return self.counts.mini_batches_done + self.counts.mini_batches_failed

    def holds(self, mini_batch: int, holder: Holder) -> bool:
        """Whether exactly this (mini-batch, try, incarnation) is outstanding; else it is stale."""
        return self.holders.get(mini_batch) == holder

    # ------------------------------------------------------------------ live only

    def begin(self, mini_batch: int, state: State) -> None:
        """A result came: COMMITTING or FAILING until its record is durable."""
        self._expect(mini_batch, (State.IN_FLIGHT,), state.name)
        del self.holders[mini_batch]
        self._states[mini_batch] = state

    def give_back(self, mini_batch: int) -> None:
        """It was not run: PENDING again, nothing charged."""
        self._expect(mini_batch, (State.IN_FLIGHT,), "given back")
        del self.holders[mini_batch]
        self._states[mini_batch] = State.PENDING

    def interrupt(self, mini_batch: int) -> None:
        """Its worker was lost while it ran: PENDING again, and counted."""
        self.give_back(mini_batch)
        self.interruptions[mini_batch] = self.interruptions.get(mini_batch, 0) + 1

    def add_unusable(self, things: Sequence[tuple[bytes, str]]) -> None:
        """Listed things that are no regular files; the manifest holds them, so no record does."""
        if things and self.first_unusable is None:
            self.first_unusable = things[0]
        items = len(things)
        self.counts.items_unusable += items
        self.counts.items_failed += items
        self.failures[FailureKind.LOAD_ERROR] += items

    # ------------------------------------------------------------------ live and replay

    def apply(self, record: Record) -> None:
        """Take in one record; raises LedgerError when it does not fit."""
        match record:
            case Dispatched():
                self._dispatched(record)
            case Committed():
                self._committed(record)
            case TryFailed():
                self._expect(record.mini_batch, (State.IN_FLIGHT,), "TryFailed")
                self.holders.pop(record.mini_batch, None)
                self.tries_failed[record.mini_batch] = record.try_number
                self._states[record.mini_batch] = State.PENDING
            case Failed():
                self._failed(record)
            case Opened():
                self._opened(record)
            case Listed():
                self.listed = record
            case Header():
                self.header = record
                self.rows_end = record.offset + record.length
            case Ended():
                self._end(record)
            case _:
                assert_never(record)

    def _dispatched(self, record: Dispatched) -> None:
        for mini_batch, try_number in record.tries:
            self._expect(mini_batch, (State.PENDING, State.IN_FLIGHT), "Dispatched")
            self._states[mini_batch] = State.IN_FLIGHT
            self.holders.pop(mini_batch, None)  # `holders` is in the order of the hand-outs
            self.holders[mini_batch] = Holder(record.worker, record.incarnation, try_number)

    def _committed(self, record: Committed) -> None:
        self._expect(record.mini_batch, (State.IN_FLIGHT, State.COMMITTING), "Committed")
        self._settle(record.mini_batch, State.COMMITTED)
        items = record.items[1] - record.items[0]
        succeeded = min(record.rows, items)
        counts = self.counts
        counts.mini_batches_done += 1
        counts.items_succeeded += succeeded
        counts.items_failed += items - succeeded
        counts.rows += record.rows
        counts.rows_surplus += record.rows - succeeded
        self.failures[FailureKind.MISSING_ROWS] += items - succeeded
        self.rows_end = max(self.rows_end, record.offset + record.length)

    def _failed(self, record: Failed) -> None:
        self._expect(record.mini_batch, (State.IN_FLIGHT, State.FAILING), "Failed")
        self._settle(record.mini_batch, State.FAILED)
        if self.first_failed is None:
            self.first_failed = record
        items = record.items[1] - record.items[0]
        self.counts.mini_batches_failed += 1
        self.counts.items_failed += items
        self.failures[record.kind] += items

    def _opened(self, record: Opened) -> None:
        """A new epoch: what was out is out no more.

        When the same launcher starts it, ranks died under its eyes, and the first one at each
        worker, which ran, may have been the reason; the others waited and are charged nothing. A
        new launcher means that somebody or something ended everything: nobody is to blame.
        """
        ended_from_outside = record.launch != self._launch
        self._launch = record.launch
        running: set[tuple[int, int]] = set()
        for mini_batch, holder in tuple(self.holders.items()):
            place = (holder.worker, holder.incarnation)
            if place in running or ended_from_outside:
                self.give_back(mini_batch)
            else:
                running.add(place)
                self.interrupt(mini_batch)
        self.epoch = record.epoch
        self.rows_end = 0
        self.ended = None

    def _end(self, record: Ended) -> None:
        """A decision: nothing was out then, though what was given back left no record."""
        for mini_batch in tuple(self.holders):
            self.give_back(mini_batch)
        self.ended = record

    def _settle(self, mini_batch: int, state: State) -> None:
        self.holders.pop(mini_batch, None)
        self.tries_failed.pop(mini_batch, None)
        self.interruptions.pop(mini_batch, None)
        self._states[mini_batch] = state

    def _expect(self, mini_batch: int, states: tuple[State, ...], what: str) -> None:
        missing = mini_batch + 1 - len(self._states)
        if missing > 0:
            self._states.extend(bytes(max(missing, len(self._states) // 2, 64)))
        if self._states[mini_batch] not in states:
            raise LedgerError(
                f"mini-batch {mini_batch} is {State(self._states[mini_batch]).name}, "
                f"which {what} does not fit"
            )
