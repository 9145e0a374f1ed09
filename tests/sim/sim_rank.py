"""A worker rank of the simulation: real messages, pretended runners, faults by seed."""

from collections import deque
from dataclasses import dataclass, field
from zlib import crc32

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
    decode_from_master,
    encode,
)
from mpirun_infer.model import Failure, FailureKind, NodeFacts, TryResult

NEVER = float("inf")


@dataclass
class Habits:
    """What the runners of a job do; chances per run unless another is named."""

    exception: float = 0.0
    crash: float = 0.0
    hang: float = 0.0
    short: float = 0.0
    many: float = 0.0
    poison: frozenset = frozenset()
    init_fails: float = 0.0  # per start
    twice: float = 0.0  # a result is sent once more
    stale: float = 0.0  # an old result is sent again after a new welcome
    runs_s: tuple = (0.05, 0.5)
    hang_s: float = 8.0
    header: bytes = b""
    odd_header: float = 0.0


@dataclass(frozen=True)
class Execution:
    """One `run()` that came to an end; its number is one more than its place in the list."""

    mini_batch: int
    try_number: int
    worker: int
    header: bytes = b""
    failure: FailureKind | None = None


@dataclass
class Slot:
    number: int
    ready: bool = False
    ready_at: float = NEVER
    waiting: deque = field(default_factory=deque)
    running: tuple | None = None  # (mini-batch, try)
    done_at: float = NEVER
    run_s: float = 0.0


class SimRank:
    """One rank from Hello to Released; `turn` is called when `next_time` has come."""

    def __init__(self, transport, random, habits, executions):
        self.rank = transport.rank
        self.gone = False
        self._transport = transport
        self._random = random
        self._habits = habits
        self._executions = executions
        self._hello_at = random.uniform(0, 3)
        self._pauses = deque()
        self._welcome = None
        self._slots = {}
        self._next_beat = NEVER
        self._leave_at = NEVER
        self._old_results = []

    def pause(self, start, end):
        """Nothing is heard of it in between; later it goes on as if nothing had been."""
        self._pauses.append((start, end))

    def next_time(self, now):
        if self.gone:
            return NEVER
        while self._pauses and self._pauses[0][1] <= now:
            self._pauses.popleft()
        if self._pauses and self._pauses[0][0] <= now:
            return self._pauses[0][1]
        times = [self._hello_at, self._next_beat, self._leave_at]
        for slot in self._slots.values():
            times += (slot.ready_at, slot.done_at)
        return min(times)

    def turn(self, now):
        if self.gone or (self._pauses and self._pauses[0][0] <= now < self._pauses[0][1]):
            return
        if now >= self._hello_at:
            self._hello_at = NEVER
            self._send(Hello(facts=self._facts()))
        for arrival in self._transport.poll():
            self._hear(decode_from_master(arrival.header), now)
        for slot in self._slots.values():
            self._work(slot, now)
        if now >= self._next_beat:
            self._next_beat = now + self._welcome.beat_s
            self._send(Beat(running=tuple(self._doing())))
        if now >= self._leave_at:
            self.gone = True
            self._send(Released(processes=1))

    def _facts(self):
        return NodeFacts(
            node=f"n{self.rank % 2}",
            cores=(0, 1, 2, 3),
            explicitly_bound=False,
            gpus=(),
            python="3.12.1",
            pid=self.rank,
        )

    def _doing(self):
        for slot in self._slots.values():
            if slot.running is not None:
                yield (slot.number, slot.running[0].id, "run", 0.1)

    # ------------------------------------------------------------------ the master speaks

    def _hear(self, message, now):
        match message:
            case Welcome():
                self._join(message, now)
            case Release():
                self._slots.clear()
                self._leave_at = min(self._leave_at, now + self._random.uniform(0, 3))
            case Dispatch() if self._is_mine(message):
                slot = self._slots[message.worker]
                slot.waiting.extend(message.tries)
                if not slot.ready:
                    self._give_back(slot)
            case Revoke() if self._is_mine(message):
                slot = self._slots[message.worker]
                if self._random.random() < 0.3:  # the runner has them already
                    kept, slot.waiting = slot.waiting, deque()
                    self._give_back(slot)
                    slot.waiting = kept
                else:
                    self._give_back(slot)

    def _is_mine(self, message):
        known = self._welcome is not None and self._welcome.incarnation == message.incarnation
        return known and message.worker in self._slots

    def _join(self, welcome, now):
        self._welcome = welcome
        self._next_beat = now + welcome.beat_s
        self._slots = {seat.worker: Slot(seat.worker) for seat in welcome.seats}
        for slot in self._slots.values():
            slot.ready_at = now + self._random.uniform(0, 2)
        for message, body in self._old_results:
            if self._random.random() < self._habits.stale:
                self._send(message, body)

    # ------------------------------------------------------------------ the runners work

    def _work(self, slot, now):
        outcomes = []
        if now >= slot.ready_at:
            self._start(slot)
        while slot.ready:
            if slot.running is None and slot.waiting:
                began = slot.done_at if slot.done_at != NEVER else now
                slot.running = slot.waiting.popleft()
                slot.run_s = self._random.uniform(*self._habits.runs_s)
                slot.done_at = began + slot.run_s
            if slot.running is None or now < slot.done_at:
                break
            self._finish(slot, outcomes, now)
        if slot.running is None:
            slot.done_at = NEVER
        self._answer(slot, outcomes)
        if not slot.ready and slot.waiting:
            self._give_back(slot)

    def _start(self, slot):
        slot.ready_at = NEVER
        head = {"worker": slot.number, "incarnation": self._welcome.incarnation}
        if self._random.random() < self._habits.init_fails:
            self._send(Retired(**head, reason="init() failed", detail="Trace", usage_error=False))
            return
        slot.ready = True
        self._send(Ready(**head, init_s=0.1))

    def _finish(self, slot, outcomes, now):
        """The running one ends, or hangs on."""
        (mini_batch, number), slot.running = slot.running, None
        habits, dice = self._habits, self._random.random()
        failure = None
        if mini_batch.id in habits.poison or (dice := dice - habits.exception) < 0:
            failure = FailureKind.RUN_EXCEPTION
        elif (dice := dice - habits.crash) < 0:
            failure = FailureKind.PROCESS_EXIT
        elif (dice := dice - habits.hang) < 0:
            failure = FailureKind.RUN_TIMEOUT
        if failure is None:
            outcomes.append(self._rows(slot, mini_batch, number, dice))
            return
        serial = self._note(Execution(mini_batch.id, number, slot.number, failure=failure))
        what = Failure(kind=failure, error=failure.value, process=serial)
        outcomes.append((Outcome(mini_batch=mini_batch.id, try_number=number, failure=what), b""))
        if failure is not FailureKind.RUN_EXCEPTION:  # a fresh runner is needed
            slot.ready = False
            wait_s = habits.hang_s if failure is FailureKind.RUN_TIMEOUT else 0.1
            slot.ready_at = now + wait_s + self._random.uniform(0, 1)

    def _rows(self, slot, mini_batch, number, dice):
        """`mini-batch row rows execution`: no two runs make the same rows."""
        habits = self._habits
        count = mini_batch.items
        if (dice := dice - habits.short) < 0:
            count = self._random.randrange(count)
        elif dice - habits.many < 0:
            count += self._random.randint(1, 3)
        header = habits.header
        if header and self._random.random() < habits.odd_header:
            header = b"odd\n"
        serial = self._note(Execution(mini_batch.id, number, slot.number, header))
        body = b"".join(b"%d %d %d %d\n" % (mini_batch.id, k, count, serial) for k in range(count))
        result = TryResult(
            rows=count,
            body_bytes=len(body),
            header=header,
            crc=crc32(body),
            run_s=slot.run_s,
            process=serial,
        )
        return (Outcome(mini_batch=mini_batch.id, try_number=number, result=result), body)

    def _note(self, execution):
        self._executions.append(execution)
        return len(self._executions)

    def _answer(self, slot, outcomes):
        if not outcomes:
            return
        message = Result(
            worker=slot.number,
            incarnation=self._welcome.incarnation,
            outcomes=tuple(outcome for outcome, _ in outcomes),
        )
        body = b"".join(rows for _, rows in outcomes)
        self._send(message, body)
        self._old_results.append((message, body))
        while self._random.random() < self._habits.twice:
            self._send(*self._random.choice(self._old_results))

    def _give_back(self, slot):
        ids = tuple(mini_batch.id for mini_batch, _ in slot.waiting)
        slot.waiting.clear()
        self._send(
            Returned(
                worker=slot.number,
                incarnation=self._welcome.incarnation,
                mini_batches=ids,
                ready=slot.ready,
            )
        )

    def _send(self, message, body=b""):
        self._transport.send(0, encode(message), body)
