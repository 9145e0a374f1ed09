"""Every decision of the master: who gets what, who is there, what ends the run.

Owns the hand-out. `handle(event, now)` returns what is to be done, in order.
Touches: nothing; the clock is an argument (monotonic seconds), ids and rows pass through.
Never:   does I/O; keeps a second copy of a mini-batch's state (that is `core.ledger`).

Parts: `core.ledger` (states, counts), `core.crew` (ranks, workers), `core.intake` (outcomes to
records), `core.ending` (phases, verdict), `core.threshold` (when failures are too many).
"""

from collections import deque
from typing import assert_never

from mpirun_infer.core.crew import Crew, Handed, Rank, Worker, pack_size
from mpirun_infer.core.ending import Ending, Phase, Verdict
from mpirun_infer.core.events import (
    Buffer,
    Command,
    DrainAsked,
    Durable,
    Event,
    ItemsUnusable,
    KeepFailure,
    ListingEnded,
    MiniBatchesListed,
    RankLost,
    RankSaid,
    Tick,
)
from mpirun_infer.core.intake import Intake
from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.messages import (
    Beat,
    Dispatch,
    Hello,
    Ready,
    Release,
    Released,
    Result,
    Retired,
    Returned,
    Welcome,
    pack_plan,
)
from mpirun_infer.core.outbox import Outbox
from mpirun_infer.core.progress import counted
from mpirun_infer.core.records import Committed, Dispatched, Ended, Failed, Header, Listed
from mpirun_infer.core.seats import assign_seats, placement_lines
from mpirun_infer.core.terms import Terms
from mpirun_infer.core.threshold import exceeded, nothing_succeeded
from mpirun_infer.core.watchdog import Watchdog
from mpirun_infer.errors import ExitCode
from mpirun_infer.model import MiniBatch, Seat

LOOKAHEAD_PER_WORKER = 64
"""Listed mini-batches kept ready: two full packs for every worker."""


class Scheduler:
    """The master's mind; see the module's docstring."""

    def __init__(self, terms: Terms, ledger: Ledger, now: float) -> None:
        self.terms = terms
        self.ledger = ledger
        self.crew = Crew()
        self.outbox = Outbox()
        self.intake = Intake(ledger, self.crew, self.outbox, terms.run_max_try)
        self.ending = Ending(terms, ledger, self.crew, self.outbox)
        self.listing: ListingEnded | None = None
        self.started_at = now
        self.finals_at_start = ledger.finals
        self.items_at_start = ledger.counts.items_succeeded + ledger.counts.items_failed
        self.first_dispatch_at: float | None = None
        self.last_commit_at: float | None = None
        self.watchdog = Watchdog(terms, self.crew, now)
        self._plan = pack_plan(terms.plan)
        self._seats: dict[int, list[Seat]] = {}
        self._first_of_node: dict[str, int] = {}
        self._queue: deque[MiniBatch] = deque()

    # ------------------------------------------------------------------ the door

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in what happened; return what is to be done, in order."""
        match event:
            case RankSaid():
                self._rank_said(event, now)
            case RankLost():
                self._rank_lost(event, now)
            case MiniBatchesListed():
                self._queue.extend(event.mini_batches)
                self._feed(now)
            case ItemsUnusable():
                self.intake.unusable(event.items)
                self._check_thresholds(now)
            case ListingEnded():
                self._listing_ended(event, now)
            case Durable():
                self._durable(event, now)
            case DrainAsked():
                self._stop("interrupted", ExitCode.INCOMPLETE, event.why, now)
            case Tick():
                self._tick(now)
            case _:
                assert_never(event)
        self._advance(now)
        return self.outbox.take()

    @property
    def wanted(self) -> int:
        """How many more listed mini-batches it can use now."""
        if self.ending.phase is not Phase.RUNNING:
            return 0
        return max(0, LOOKAHEAD_PER_WORKER * self.terms.workers_total - len(self._queue))

    # ------------------------------------------------------------------ ranks

    def _rank_said(self, event: RankSaid, now: float) -> None:
        message, rank = event.message, event.rank
        if isinstance(message, Hello):
            self._hello(rank, message, now)
            return
        state = self.crew.ranks.get(rank)
        if state is None:
            return
        state.heard_at = now
        if isinstance(message, Released):
            state.released = True
        elif state.lost:
            self._welcome_back(rank, state)
        elif isinstance(message, Beat):
            state.running = message.running
        else:
            self._worker_said(rank, message, event.body, now)

    def _worker_said(
        self, rank: int, message: Ready | Result | Returned | Retired, body: Buffer, now: float
    ) -> None:
        worker = self.crew.workers.get(message.worker)
        if worker is None or (worker.rank, worker.incarnation) != (rank, message.incarnation):
            return  # stale: from a life that was declared lost
        match message:
            case Result():
                self._result(worker, message, body, now)
            case Ready():
                worker.ready = True
                worker.ready_at = now
            case Returned():
                self._returned(worker, message)
            case Retired():
                self._retired(worker, message, now)
            case _:
                assert_never(message)
        if not isinstance(message, Returned):
            self.watchdog.progress(now)
        self.crew.note(worker)
        self._feed(now)

    def _hello(self, rank: int, message: Hello, now: float) -> None:
        self.crew.ranks[rank] = Rank(facts=message.facts, heard_at=now)
        if self.ending.phase is not Phase.RUNNING:
            self.outbox.send(rank, Release(at_once=True))
        elif len(self.crew.ranks) == self.terms.worker_ranks:
            # Everyone is here: only now can the cores of a node be shared out.
            facts = {number: state.facts for number, state in self.crew.ranks.items()}
            self._seats = assign_seats(facts, self.terms.slots_per_rank)
            self._first_of_node = {facts[one].node: one for one in sorted(facts, reverse=True)}
            for line in placement_lines(self._seats):
                self.outbox.say("info", line)
            for seated in sorted(self._seats):
                self.crew.ranks[seated].heard_at = now  # it had nothing to say until now
                self._welcome(seated)

    def _welcome(self, rank: int) -> None:
        slots = self.terms.slots_per_rank
        self.crew.seat(rank, range((rank - 1) * slots, rank * slots))
        self.outbox.send(
            rank,
            Welcome(
                incarnation=self.crew.ranks[rank].incarnation,
                seats=tuple(self._seats[rank]),
                plan=self._plan,
                first_process=self.terms.first_process,
                workers_total=self.terms.workers_total,
                beat_s=self.terms.beat_s,
                first_on_node=self._first_of_node[self.crew.ranks[rank].facts.node] == rank,
            ),
        )

    def _welcome_back(self, rank: int, state: Rank) -> None:
        """It was declared lost and speaks again: it starts anew, its old work is dropped."""
        if self.ending.phase is Phase.RUNNING:
            self.outbox.say("warning", f"rank {rank} on {state.facts.node} is back")
            self._welcome(rank)
        else:
            state.lost = False
            self.outbox.send(rank, Release(at_once=True))

    def _rank_lost(self, event: RankLost, now: float) -> None:
        state = self.crew.ranks.get(event.rank)
        if state is None or state.lost or state.released:
            return
        state.lost = True
        self.outbox.say("warning", f"rank {event.rank} on {state.facts.node} is lost: {event.why}")
        told = {mini_batch for _, mini_batch, _, _ in state.running}
        for worker in self.crew.of_rank(event.rank):
            ids = [handed.mini_batch.id for handed in worker.handed]
            running = told.intersection(ids) or set(ids[:1])
            for handed in reversed(worker.handed):
                if handed.mini_batch.id in running:
                    self._interrupted(worker, handed, now)
                else:
                    self._give_back(handed)
            worker.handed.clear()
            worker.ready = False
            self.crew.note(worker)
        self._check_usable(now)
        self._feed(now)

    def _interrupted(self, worker: Worker, handed: Handed, now: float) -> None:
        """It ran on a rank that was lost: again, unless that has happened too often."""
        identity = handed.mini_batch.id
        times = self.ledger.interruptions.get(identity, 0) + 1
        if times < self.terms.crash_limit:
            self.ledger.interrupt(identity)
            self._queue.appendleft(handed.mini_batch)
        else:
            self.intake.lost_too_often(worker, handed, times, now)

    def _give_back(self, handed: Handed) -> None:
        self.ledger.give_back(handed.mini_batch.id)
        self._queue.appendleft(handed.mini_batch)

    # ------------------------------------------------------------------ workers

    def _result(self, worker: Worker, message: Result, body: Buffer, now: float) -> None:
        view = memoryview(body)
        start = 0
        again = []
        for outcome in message.outcomes:
            length = outcome.result.body_bytes if outcome.result is not None else 0
            retry = self.intake.outcome(worker, outcome, view[start : start + length], now)
            if retry is not None:
                again.append(retry)
            start += length
        worker.firm = False
        self._queue.extendleft(reversed(again))

    def _returned(self, worker: Worker, message: Returned) -> None:
        for identity in reversed(message.mini_batches):
            handed = worker.take(identity)
            if handed is not None:
                self._give_back(handed)
        worker.revoking = False
        worker.firm = message.ready and not message.mini_batches
        worker.ready = message.ready

    def _retired(self, worker: Worker, message: Retired, now: float) -> None:
        worker.retired = True
        worker.ready = False
        while worker.handed:
            self._give_back(worker.handed.pop())
        self.outbox.add(KeepFailure(f"worker {worker.number}: {message.reason}"))
        if message.usage_error:
            self._stop("failed", ExitCode.USAGE, message.reason, now)
            return
        self.outbox.say("warning", f"worker {worker.number} takes no more work: {message.reason}")
        self._check_usable(now, f"{message.reason}\n{message.detail}".rstrip())

    def _check_usable(self, now: float, why_retired: str = "") -> None:
        usable = self.crew.usable()
        if usable == 0 and why_retired:
            self._stop("failed", ExitCode.NO_WORKER, f"no worker is left: {why_retired}", now)
        elif usable < max(1, self.terms.min_workers):
            reason = f"only {usable} workers are left, min_workers is {self.terms.min_workers}"
            self._stop("interrupted", ExitCode.INCOMPLETE, reason, now)

    # ------------------------------------------------------------------ hand-out

    def _feed(self, now: float) -> None:
        """Give mini-batches to whoever has room; the idle first."""
        if self.ending.phase is not Phase.RUNNING:
            return
        while self._queue:
            worker = self.crew.next_to_feed()
            if worker is None:
                return
            self._hand_out(worker, now)
        if self.listing is not None and self.crew.someone_starves():
            holder = self.crew.next_to_revoke()
            if holder is not None:
                self.ending.revoke(holder)

    def _hand_out(self, worker: Worker, now: float) -> None:
        size = pack_size(worker.run_s)
        if self.listing is not None:  # at the end, small packs keep everyone busy
            size = min(size, max(1, len(self._queue) // (2 * len(self.crew.workers))))
        tries = []
        for _ in range(min(size, len(self._queue))):
            mini_batch = self._queue.popleft()
            try_number = self.ledger.tries_failed.get(mini_batch.id, 0) + 1
            handed = Handed(mini_batch, try_number, now)
            times = self.ledger.interruptions.get(mini_batch.id, 0)
            if times >= self.terms.crash_limit:  # in earlier epochs
                self._note_dispatched(worker, ((mini_batch.id, try_number),))
                self.intake.lost_too_often(worker, handed, times, now)
                continue
            worker.handed.append(handed)
            tries.append((mini_batch, try_number))
        if not tries:
            return
        self._note_dispatched(worker, tuple((mini_batch.id, n) for mini_batch, n in tries))
        if self.first_dispatch_at is None:
            self.first_dispatch_at = now
            self.watchdog.progress(now)
        self.crew.note(worker)
        self.outbox.send(
            worker.rank,
            Dispatch(worker=worker.number, incarnation=worker.incarnation, tries=tuple(tries)),
        )

    def _note_dispatched(self, worker: Worker, tries: tuple[tuple[int, int], ...]) -> None:
        record = Dispatched(worker=worker.number, incarnation=worker.incarnation, tries=tries)
        self.ledger.apply(record)
        self.outbox.note(record)

    # ------------------------------------------------------------------ listing and disk

    def _listing_ended(self, event: ListingEnded, now: float) -> None:
        self.listing = event
        open_ended = self.ending.phase in (Phase.RUNNING, Phase.STOPPING)  # `Ended` is the last one
        if self.ledger.listed is None and open_ended:
            self.outbox.submit(
                Listed(
                    mini_batches=event.mini_batches,
                    items=event.items,
                    unusable=event.unusable,
                    manifest_bytes=event.manifest_bytes,
                )
            )
        self._check_thresholds(now)
        self._feed(now)

    def _durable(self, event: Durable, now: float) -> None:
        settled = False
        for record in event.records:
            if isinstance(record, Committed | Failed | Header | Listed | Ended):
                self.ledger.apply(record)  # the others were applied when they were decided
                self.outbox.awaited -= 1
                settled = settled or isinstance(record, Committed | Failed)
        if settled:
            self.last_commit_at = now
            self._check_thresholds(now)

    def _check_thresholds(self, now: float) -> None:
        total = self.listing.mini_batches if self.listing is not None else None
        reason = exceeded(self.terms.thresholds, self.ledger, total)
        if reason is not None:
            self._stop("failed", ExitCode.FAILED, reason, now)

    def _stop(self, state: str, exit_code: ExitCode, reason: str, now: float) -> None:
        surplus = self.ledger.counts.rows_surplus
        if surplus and self.ending.phase is Phase.RUNNING:
            self.outbox.say(
                "warning",
                f"run() returned {counted(surplus, 'row')} more than it got items: all are kept, "
                "but missing ones cannot be noticed then (strict_rows: true makes a wrong count a "
                "failure)",
            )
        self.ending.stop(Verdict(state, exit_code, reason), now)

    def _advance(self, now: float) -> None:
        if self.ending.phase is Phase.RUNNING and self.listing is not None:
            if self.ledger.finals == self.listing.mini_batches:
                nothing = nothing_succeeded(self.ledger, append_row=self.terms.append_row)
                if nothing is None:
                    self._stop("complete", ExitCode.OK, "", now)
                else:
                    self._stop("failed", ExitCode.FAILED, nothing, now)
            elif not self.ledger.holders and not self._queue and self.outbox.awaited:
                self.outbox.flush()
        self.ending.advance(now, self.intake.rows_end)

    def _tick(self, now: float) -> None:
        for rank, why in self.watchdog.silent_ranks(now):
            self._rank_lost(RankLost(rank, why), now)
        stall = self.watchdog.stall(
            now,
            started=self.first_dispatch_at is not None,
            listing=self.listing is None,
            waiting=bool(self.ledger.holders),
        )
        if stall is not None:
            self._stop("interrupted", ExitCode.INCOMPLETE, stall, now)
