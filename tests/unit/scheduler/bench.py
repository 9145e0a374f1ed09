"""A scheduler on a bench: events in, commands out as short lines, nothing left unread.

    sent        welcome r1.1 w0 | dispatch w0.1 5/1 6/1 | revoke w0.1 | release r1 [at once]
    submitted   committed 5/1 rows=1 at 0+2 | failed 5/3 RUN_EXCEPTION | try_failed 5/1 LOAD_ERROR |
                header 0+4 | listed 3 | ended complete 0 | flush

`w0.1` is worker 0 in incarnation 1, `5/1` the first try of mini-batch 5. A `Dispatched` record is
held against the message that follows it and not shown.
"""

from zlib import crc32

from mpirun_infer.core.events import (
    DrainAsked,
    Durable,
    Flush,
    ItemsUnusable,
    KeepFailure,
    Left,
    ListingEnded,
    MiniBatchesListed,
    RankLost,
    RankSaid,
    Say,
    Send,
    Submit,
    Tick,
    Tried,
)
from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.messages import (
    Beat,
    Dispatch,
    Hello,
    Outcome,
    Ready,
    Release,
    Released,
    Result,
    Retired,
    Returned,
    Revoke,
    Welcome,
)
from mpirun_infer.core.records import (
    Committed,
    Dispatched,
    Ended,
    Failed,
    Header,
    Listed,
    TryFailed,
)
from mpirun_infer.core.scheduler import Scheduler
from mpirun_infer.core.terms import Terms
from mpirun_infer.core.threshold import Thresholds
from mpirun_infer.model import (
    Failure,
    FailureKind,
    MiniBatch,
    NodeFacts,
    RunnerLimits,
    RunnerPlan,
    TryResult,
)

PLAN = RunnerPlan(
    python="/usr/bin/python3",
    script="/s/score.py",
    source_directory=None,
    module="score",
    sys_path=("/s",),
    argv=("/s/score.py",),
    environment={},
    environment_stripped=(),
    start_folder="/s",
    output_folder="/out",
    run_id="r.1",
    script_hash="",
    row_options={},
    logging_level="INFO",
    limits=RunnerLimits(
        init_timeout_s=600,
        run_timeout_s=60,
        overhead_timeout_s=600,
        init_tries_max=3,
        rows_bytes_max=1000,
    ),
)
SLOW_S = 1.0
"""Of a `run()` unless a test says otherwise: nothing is packed."""


def mini_batch(number, items=1):
    paths = tuple(b"/d/%d.%d.png" % (number, item) for item in range(items))
    return MiniBatch(id=number, input_index=0, first_item=number * items, paths=paths)


def facts(rank, **changes):
    values = {
        "node": f"n{rank}",
        "cores": (0, 1, 2, 3),
        "explicitly_bound": False,
        "gpus": (),
        "python": "3.12.1",
        "pid": 100 + rank,
    }
    return NodeFacts(**(values | changes))


class Bench:
    """See the module's docstring."""

    def __init__(self, *, ranks=1, slots=1, ledger=None, max_try=3, append_row=True, **terms):
        limits = {
            name: terms.pop(name) for name in tuple(terms) if name in Thresholds.__struct_fields__
        }
        self.terms = Terms(
            worker_ranks=ranks,
            slots_per_rank=slots,
            plan=PLAN,
            thresholds=Thresholds(**limits),
            run_max_try=max_try,
            append_row=append_row,
            **terms,
        )
        self.now = 100.0
        self.ledger = ledger or Ledger()
        self.scheduler = Scheduler(self.terms, self.ledger, self.now)
        self.said = []
        self.kept = []
        self.tries = []
        self.left = None
        self.welcomes = {}
        self.rows = bytearray()
        self.queued = []
        self._sent = []
        self._submitted = []
        self._announced = None

    # ------------------------------------------------------------------ events

    def tell(self, event):
        for command in self.scheduler.handle(event, self.now):
            self._keep(command)

    def say(self, rank, message, body=b""):
        self.tell(RankSaid(rank, message, body))

    def hello(self, *ranks, **changes):
        for rank in ranks:
            self.say(rank, Hello(facts=facts(rank, **changes)))

    def ready(self, *workers, incarnation=1):
        for worker in workers:
            self.say(self.rank_of(worker), Ready(worker=worker, incarnation=incarnation, init_s=1))

    def joined(self):
        """Everyone is there and ready; what was sent for it is read."""
        self.hello(*range(1, self.terms.worker_ranks + 1))
        self.ready(*range(self.terms.workers_total))
        self.sent()
        self.said.clear()
        return self

    def list_(self, *numbers, items=1):
        self.tell(MiniBatchesListed(tuple(mini_batch(number, items) for number in numbers)))

    def listed(self, mini_batches, items=None, unusable=0):
        items = mini_batches if items is None else items
        self.tell(ListingEnded(mini_batches, items, unusable, manifest_bytes=99))

    def unusable(self, *paths):
        self.tell(ItemsUnusable(tuple((path, "not a regular file") for path in paths)))

    def result(self, worker, *outcomes, incarnation=1, rank=None, body=b""):
        rank = self.rank_of(worker) if rank is None else rank
        self.say(rank, Result(worker=worker, incarnation=incarnation, outcomes=outcomes), body)

    def ok(self, worker, number, try_number=1, *, rows=1, run_s=SLOW_S, header=b"", **where):
        body = b"%d\n" % number * rows
        self.result(worker, ok(number, try_number, rows, run_s, header), body=body, **where)

    def fails(self, worker, number, try_number=1, kind=FailureKind.RUN_EXCEPTION, **where):
        self.result(worker, bad(number, try_number, kind), **where)

    def returned(self, worker, *numbers, ready=True, incarnation=1):
        message = Returned(
            worker=worker, incarnation=incarnation, mini_batches=numbers, ready=ready
        )
        self.say(self.rank_of(worker), message)

    def retired(self, worker, reason="init() failed", detail="", *, usage_error=False):
        self.say(
            self.rank_of(worker),
            Retired(
                worker=worker, incarnation=1, reason=reason, detail=detail, usage_error=usage_error
            ),
        )

    def beat(self, rank, *running):
        self.say(rank, Beat(running=running))

    def released(self, *ranks):
        for rank in ranks:
            self.say(rank, Released(processes=1))

    def lost(self, rank, why="gone"):
        self.tell(RankLost(rank, why))

    def drain(self, why="asked"):
        self.tell(DrainAsked(why))

    def tick(self, seconds=0.0):
        self.now += seconds
        self.tell(Tick())

    def durable(self, count=None):
        """The oldest `count` records (all without it) have reached the disk."""
        count = len(self.queued) if count is None else count
        records, self.queued = tuple(self.queued[:count]), self.queued[count:]
        self.tell(Durable(records))

    # ------------------------------------------------------------------ what came of it

    def sent(self):
        lines, self._sent = self._sent, []
        return lines

    def submitted(self):
        lines, self._submitted = self._submitted, []
        return lines

    def assert_drained(self):
        assert (self._sent, self._submitted) == ([], [])

    def rank_of(self, worker):
        return worker // self.terms.slots_per_rank + 1

    def _keep(self, command):
        assert self.left is None, "a command after Left"
        match command:
            case Send():
                if isinstance(command.message, Dispatch):
                    announced, self._announced = self._announced, None
                    tries = tuple((m.id, number) for m, number in command.message.tries)
                    assert announced == Dispatched(
                        worker=command.message.worker,
                        incarnation=command.message.incarnation,
                        tries=tries,
                    )
                    assert self.rank_of(command.message.worker) == command.rank
                if isinstance(command.message, Welcome):
                    self.welcomes[command.rank] = command.message
                self._sent.append(message_line(command.rank, command.message))
            case Submit():
                self._submit(command)
            case Flush():
                self._submitted.append("flush")
            case Tried():
                self.tries.append(command)
            case Say():
                self.said.append((command.level, command.text))
            case KeepFailure():
                self.kept.append(command.text)
            case Left():
                self.left = (command.exit_code, command.reason)

    def _submit(self, command):
        self.queued.extend(command.records)
        size = 0
        for record in command.records:
            if isinstance(record, Dispatched):
                assert self._announced is None
                self._announced = record
                continue
            if isinstance(record, Committed | Header):
                assert len(self.rows) + size == record.offset
                size += record.length
            if isinstance(record, Failed) and self._announced is not None:
                # Condemned: it is noted as handed out, and fails without being sent.
                assert ((record.mini_batch, record.try_number),) == self._announced.tries
                self._announced = None
            self._submitted.append(record_line(record))
        rows = b"".join(command.rows)
        assert size == len(rows)
        self.rows += rows


def ok(number, try_number=1, rows=1, run_s=SLOW_S, header=b""):
    body = b"%d\n" % number * rows
    result = TryResult(
        rows=rows, body_bytes=len(body), header=header, crc=crc32(body), run_s=run_s, process=3
    )
    return Outcome(mini_batch=number, try_number=try_number, result=result)


def bad(number, try_number=1, kind=FailureKind.RUN_EXCEPTION):
    failure = Failure(kind=kind, error="ValueError: no", where="score.py:3", log="logs/e.txt")
    return Outcome(mini_batch=number, try_number=try_number, failure=failure)


def message_line(rank, message):
    match message:
        case Welcome():
            workers = " ".join(f"w{seat.worker}" for seat in message.seats)
            return f"welcome r{rank}.{message.incarnation} {workers}"
        case Dispatch():
            tries = " ".join(f"{one.id}/{number}" for one, number in message.tries)
            return f"dispatch w{message.worker}.{message.incarnation} {tries}"
        case Revoke():
            return f"revoke w{message.worker}.{message.incarnation}"
        case Release():
            return f"release r{rank}" + (" at once" if message.at_once else "")


def record_line(record):
    match record:
        case Committed():
            where = f"at {record.offset}+{record.length}"
            return f"committed {record.mini_batch}/{record.try_number} rows={record.rows} {where}"
        case Failed():
            return f"failed {record.mini_batch}/{record.try_number} {record.kind}"
        case TryFailed():
            return f"try_failed {record.mini_batch}/{record.try_number} {record.kind}"
        case Header():
            return f"header {record.offset}+{record.length}"
        case Listed():
            return f"listed {record.mini_batches}"
        case Ended():
            return f"ended {record.state} {record.exit_code}"
