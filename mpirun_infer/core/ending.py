"""How a run ends: its phases and its one verdict.

Owns: when nothing more is handed out, what is waited for, and the `Ended` record.
Touches: nothing; the time is an argument.
Never:   hands out work.

RUNNING -> STOPPING (what is out comes back, or is dropped) -> ENDING (the `Ended` record is on its
way to the disk, the ranks are leaving) -> ENDED. The first verdict stands; a failure alone
overrules a drain that is still waiting.
"""

from enum import Enum, auto

import msgspec

from mpirun_infer.core.crew import Crew, Worker
from mpirun_infer.core.events import Left
from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.messages import Release, Revoke
from mpirun_infer.core.outbox import Outbox
from mpirun_infer.core.records import Ended
from mpirun_infer.core.terms import Terms
from mpirun_infer.errors import ExitCode

REASON_CHARS_MAX = 4000


class Phase(Enum):
    """Of the run."""

    RUNNING = auto()
    STOPPING = auto()
    ENDING = auto()
    ENDED = auto()


class Verdict(msgspec.Struct, frozen=True):
    """How the run ends; `state` is complete, failed or interrupted."""

    state: str
    exit_code: ExitCode
    reason: str


class Ending:
    """The phases; `advance` is called after every event."""

    def __init__(self, terms: Terms, ledger: Ledger, crew: Crew, outbox: Outbox) -> None:
        self.phase = Phase.RUNNING
        self.verdict: Verdict | None = None
        self._terms = terms
        self._ledger = ledger
        self._crew = crew
        self._outbox = outbox
        self._deadline = 0.0

    def stop(self, verdict: Verdict, now: float) -> None:
        """No more hand-outs."""
        if self.phase in (Phase.ENDING, Phase.ENDED):
            return
        if self.verdict is not None and (
            self.verdict.state != "interrupted" or verdict.state != "failed"
        ):
            return
        self.verdict = verdict
        self.phase = Phase.STOPPING
        self._deadline = now + self._terms.drain_s
        match verdict.state:
            case "failed":
                self._drop_all()
            case "interrupted":
                for worker in self._crew.workers.values():
                    if len(worker.handed) > 1:
                        self.revoke(worker)
            case _:
                self.release(at_once=False)

    def revoke(self, worker: Worker) -> None:
        """Ask for what the worker has not started."""
        if worker.revoking:
            return
        worker.revoking = True
        self._crew.note(worker)
        message = Revoke(worker=worker.number, incarnation=worker.incarnation)
        self._outbox.send(worker.rank, message)

    def release(self, *, at_once: bool) -> None:
        """Let every rank go."""
        for rank, state in self._crew.ranks.items():
            if not state.lost and not state.released:
                self._outbox.send(rank, Release(at_once=at_once))

    def advance(self, now: float, rows_end: int) -> None:
        """Go on to the next phase when nothing holds the run in this one."""
        if self.verdict is None:
            return
        if self.phase is Phase.STOPPING:
            if self._ledger.holders and now >= self._deadline:
                self._drop_all()
            if not self._ledger.holders:
                self._end(self.verdict, now, rows_end)
        elif self.phase is Phase.ENDING and self._ledger.ended is not None:
            everyone = len(self._crew.ranks) == self._terms.worker_ranks
            if (everyone and self._crew.everyone_left()) or now >= self._deadline:
                self.phase = Phase.ENDED
                self._outbox.add(Left(int(self.verdict.exit_code), self.verdict.reason))

    def _drop_all(self) -> None:
        """What is out is not waited for; its results would be stale."""
        for worker in self._crew.workers.values():
            for handed in worker.handed:
                self._ledger.give_back(handed.mini_batch.id)
            worker.handed.clear()
            self._crew.note(worker)
        self.release(at_once=True)

    def _end(self, verdict: Verdict, now: float, rows_end: int) -> None:
        """Everything is decided: the last record follows what is still being committed."""
        if verdict.state == "interrupted":
            self.release(at_once=False)
        self.phase = Phase.ENDING
        self._deadline = now + self._terms.leave_s
        self._outbox.submit(
            Ended(
                state=verdict.state,
                exit_code=int(verdict.exit_code),
                reason=verdict.reason[:REASON_CHARS_MAX],
                rows_end=rows_end,
            )
        )
        self._outbox.flush()
