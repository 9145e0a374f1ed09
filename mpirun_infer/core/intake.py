"""What comes back from the workers, turned into records.

Owns: where the next rows go in this epoch's segment, the one header, which outcome counts, and
what is said and reported about it.
Touches: nothing; the time is an argument.
Never:   hands out work or ends the run (`core.scheduler`, `core.ending`).
"""

from zlib import crc32

from mpirun_infer.core.crew import Crew, Handed, Worker
from mpirun_infer.core.events import KeepFailure, Tried
from mpirun_infer.core.ledger import Holder, Ledger, State
from mpirun_infer.core.messages import Outcome
from mpirun_infer.core.outbox import Outbox
from mpirun_infer.core.records import Committed, Failed, Header, TryFailed
from mpirun_infer.core.wording import as_text, failure_line, missing_line
from mpirun_infer.model import Failure, FailureKind, MiniBatch, TryResult

ERROR_CHARS_MAX = 1000


class Intake:
    """Outcomes in, records and reports out (through the outbox)."""

    def __init__(self, ledger: Ledger, crew: Crew, outbox: Outbox, run_max_try: int) -> None:
        self.rows_end = 0
        self._ledger = ledger
        self._crew = crew
        self._outbox = outbox
        self._run_max_try = run_max_try
        self._header: tuple[int, int] | None = None
        if ledger.header is not None:
            self._header = (ledger.header.length, ledger.header.crc)

    def outcome(
        self, worker: Worker, outcome: Outcome, rows: memoryview, now: float
    ) -> MiniBatch | None:
        """Take in one outcome; returns the mini-batch when it must be tried again."""
        holder = Holder(worker.number, worker.incarnation, outcome.try_number)
        if not self._ledger.holds(outcome.mini_batch, holder):
            return None  # stale: somebody else has it, or it is settled
        result, failure = outcome.result, outcome.failure
        handed = worker.take(outcome.mini_batch) if result or failure else None
        if handed is None:
            return None
        if failure is not None:
            return self.failed(worker, handed, failure, now)
        if result is not None:
            worker.note_run(result.run_s)
            return self._succeeded(worker, handed, result, rows, now)
        return None

    def failed(
        self, worker: Worker, handed: Handed, failure: Failure, now: float, *, last: bool = False
    ) -> MiniBatch | None:
        """A try failed; `last`: no other one is allowed. Returns the mini-batch to try again."""
        mini_batch = handed.mini_batch
        final = last or handed.try_number >= self._run_max_try
        if final:
            self._ledger.begin(mini_batch.id, State.FAILING)
            self._outbox.submit(
                Failed(
                    mini_batch=mini_batch.id,
                    try_number=handed.try_number,
                    worker=worker.number,
                    incarnation=worker.incarnation,
                    items=_span(mini_batch),
                    kind=failure.kind,
                    error=_with_place(failure)[:ERROR_CHARS_MAX],
                    item=as_text(mini_batch.paths[0]),
                    log=failure.log,
                )
            )
        else:
            record = TryFailed(
                mini_batch=mini_batch.id,
                try_number=handed.try_number,
                worker=worker.number,
                incarnation=worker.incarnation,
                kind=failure.kind,
            )
            self._ledger.apply(record)
            self._outbox.note(record)
        line = failure_line(mini_batch, handed.try_number, self._run_max_try, failure, final=final)
        self._outbox.say_failure(line, final=final)
        self._report(worker, handed, now, final=final, failure=failure)
        return None if final else mini_batch

    def lost_too_often(self, worker: Worker, handed: Handed, times: int, now: float) -> None:
        """Its rank was lost while it ran, `crash_limit` times: it gets no other try."""
        failure = Failure(
            kind=FailureKind.PROCESS_EXIT,
            error=f"its rank was lost while it ran, {times} times (crash_limit)",
            node=self._crew.ranks[worker.rank].facts.node,
        )
        self.failed(worker, handed, failure, now, last=True)

    def unusable(self, items: tuple[tuple[bytes, str], ...]) -> None:
        """Listed things that no `run()` will see: failed items."""
        self._ledger.add_unusable(items)
        for path, why in items:
            self._outbox.say_failure(f"item {as_text(path)} failed: {why}", final=True)

    def _succeeded(
        self, worker: Worker, handed: Handed, result: TryResult, rows: memoryview, now: float
    ) -> MiniBatch | None:
        mini_batch = handed.mini_batch
        header = (len(result.header), crc32(result.header)) if result.header else None
        if header is not None and self._header not in (None, header):
            columns = result.header.decode("utf-8", "replace").strip()[:200]
            failure = Failure(
                kind=FailureKind.BAD_RETURN,
                error="BAD_RETURN: its columns differ from those of the header that is already in "
                f"the file: {columns}",
                process=result.process,
                node=self._crew.ranks[worker.rank].facts.node,
            )
            return self.failed(worker, handed, failure, now)
        self._ledger.begin(mini_batch.id, State.COMMITTING)
        if header is not None and self._header is None:
            self._header = header
            record = Header(offset=self.rows_end, length=header[0], crc=header[1])
            self._outbox.submit(record, result.header)
            self.rows_end += header[0]
        self._outbox.submit(
            Committed(
                mini_batch=mini_batch.id,
                try_number=handed.try_number,
                worker=worker.number,
                incarnation=worker.incarnation,
                items=_span(mini_batch),
                offset=self.rows_end,
                length=len(rows),
                rows=result.rows,
                crc=result.crc,
                run_s=round(result.run_s, 6),
            ),
            rows,
        )
        self.rows_end += len(rows)
        if result.rows < mini_batch.items:
            self._outbox.add(KeepFailure(missing_line(mini_batch, result.rows)))
        self._report(worker, handed, now, final=True, result=result)
        return None

    def _report(
        self,
        worker: Worker,
        handed: Handed,
        now: float,
        *,
        final: bool,
        result: TryResult | None = None,
        failure: Failure | None = None,
    ) -> None:
        self._outbox.add(
            Tried(
                mini_batch=handed.mini_batch,
                try_number=handed.try_number,
                worker=worker.number,
                node=self._crew.ranks[worker.rank].facts.node,
                elapsed_s=now - handed.at,
                at=now,
                ready_at=worker.ready_at,
                final=final,
                result=result,
                failure=failure,
            )
        )


def _with_place(failure: Failure) -> str:
    return f"{failure.error}, {failure.where}" if failure.where else failure.error


def _span(mini_batch: MiniBatch) -> tuple[int, int]:
    return (mini_batch.first_item, mini_batch.first_item + mini_batch.items)
