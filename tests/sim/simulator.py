"""A whole job in one process: the real master loop and core, simulated ranks, disk and clock.

`Job` is what a seed makes of the dice: sizes, thresholds, habits of the runners, faults. `play`
launches epoch after epoch, as launchers and operators do, until the run is complete or has failed,
and checks at the end of each epoch what must always be true. A store keeps rows and records:
`MemoryStore` here; the tests of the real one bring their own.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace

from sim_rank import NEVER, Habits, SimRank

from mpirun_infer.core.events import ListingEnded
from mpirun_infer.core.ledger import Ledger, State
from mpirun_infer.core.overview import overview
from mpirun_infer.core.records import Committed, Dispatched, Ended, Failed, Header, Opened, Segment
from mpirun_infer.core.scheduler import Scheduler
from mpirun_infer.core.terms import Terms
from mpirun_infer.core.threshold import Thresholds, exceeded, nothing_succeeded
from mpirun_infer.model import FailureKind, MiniBatch, RunnerLimits, RunnerPlan
from mpirun_infer.roles.master import TICK_S, Master
from mpirun_infer.transport.memory import MemoryNetwork

EPOCH_S_MAX = 900.0
"""Virtual seconds; an epoch that takes longer hangs."""

CALM_FROM_EPOCH = 7
"""From this epoch on nothing is broken any more: the run must come to its end."""

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


@dataclass(frozen=True)
class Job:
    ranks: int
    slots: int
    mini_batches: tuple
    unusable: int
    max_try: int
    crash_limit: int
    thresholds: Thresholds
    habits: Habits
    append_row: bool
    latency_s: float
    listing_s: float
    death: float  # chances per rank and epoch
    pause: float
    drain: float  # chances per epoch
    crash: float
    full: float  # chance that the disk queue is full, per look

    @classmethod
    def of_seed(cls, seed):
        dice = random.Random(seed)

        def maybe(chance, value):
            return value if dice.random() < chance else 0.0

        mini_batches, first = [], 0
        for number in range(dice.choice((1, 3, 10, 25, 60))):
            items = dice.choice((1, 1, 2, 5))
            paths = tuple(b"/d/%d\xff" % item for item in range(first, first + items))
            mini_batches.append(MiniBatch(id=number, input_index=0, first_item=first, paths=paths))
            first += items
        poison = dice.sample(range(len(mini_batches)), min(len(mini_batches), dice.randint(0, 3)))
        limits = {}
        if dice.random() < 0.3:
            limits["error_threshold"] = dice.randint(0, 6)
        if dice.random() < 0.2:
            limits["mini_batch_error_threshold"] = dice.randint(0, 3)
        if dice.random() < 0.2:
            limits["allowed_failed_percent"] = dice.choice((0, 5, 12.5, 50))
        return cls(
            ranks=dice.randint(1, 5),
            slots=dice.choice((1, 1, 2, 3)),
            mini_batches=tuple(mini_batches),
            unusable=dice.choice((0, 0, 0, 2)),
            max_try=dice.choice((1, 2, 3)),
            crash_limit=dice.choice((1, 2, 3)),
            thresholds=Thresholds(**limits),
            habits=Habits(
                exception=maybe(0.5, 0.15),
                crash=maybe(0.4, 0.1),
                hang=maybe(0.3, 0.05),
                short=maybe(0.3, 0.3),
                many=maybe(0.2, 0.3),
                poison=frozenset(poison) if dice.random() < 0.4 else frozenset(),
                init_fails=maybe(0.2, 0.15),
                twice=maybe(0.4, 0.4),
                stale=maybe(0.7, 0.7),
                runs_s=dice.choice(((0.0001, 0.0004), (0.03, 0.1), (0.2, 2.0), (0.1, 6.0))),
                header=dice.choice((b"", b"a b\n")),
                odd_header=maybe(0.3, 0.3),
            ),
            append_row=dice.random() < 0.9,
            latency_s=dice.choice((0.0005, 0.01, 0.3)),
            listing_s=dice.choice((0.0, 0.01, 0.5)),
            death=maybe(0.3, 0.25),
            pause=maybe(0.5, 0.5),
            drain=maybe(0.3, 0.5),
            crash=maybe(0.5, 0.7),
            full=maybe(0.3, 0.2),
        )

    def calm(self):
        habits = replace(self.habits, hang=0.0, init_fails=0.0)
        return replace(
            self, habits=habits, death=0.0, pause=0.0, drain=0.0, crash=0.0, listing_s=0.0
        )

    def terms(self, epoch):
        return Terms(
            worker_ranks=self.ranks,
            slots_per_rank=self.slots,
            plan=PLAN,
            thresholds=self.thresholds,
            run_max_try=self.max_try,
            append_row=self.append_row,
            first_process=1000 * epoch,
            crash_limit=self.crash_limit,
            progress_timeout_s=200.0,
            drain_s=5.0,
        )


# --------------------------------------------------------------------------- what the master uses


class SimListing:
    """Gives what is not settled, bit by bit; like the real one it starts over in each epoch."""

    def __init__(self, job, ledger, clock, random):
        self._waiting = [one for one in job.mini_batches if not ledger.is_final(one.id)]
        self._job = job
        self._clock = clock
        self._random = random
        self._next_at = clock()
        self._unusable = [(b"/d/pipe%d" % n, "not a regular file") for n in range(job.unusable)]

    def take(self, count_max):
        if self._clock() < self._next_at or not self._waiting:
            return []
        self._next_at = self._clock() + self._job.listing_s
        count = min(count_max, self._random.randint(1, 20))
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def unusable(self):
        found, self._unusable = self._unusable, []
        return found

    def ended(self):
        if self._waiting or self._unusable or self._clock() < self._next_at:
            return None
        items = sum(one.items for one in self._job.mini_batches)
        return ListingEnded(len(self._job.mini_batches), items, self._job.unusable, 99)


class SilentVoice:
    def alive(self, now):
        pass


class SimJournalist:
    def __init__(self, clock, drain_at):
        self.tries = []
        self._clock = clock
        self._drain_at = drain_at

    def say(self, level, text):
        assert text
        assert level in ("info", "warning", "error")

    def tried(self, tried):
        self.tries.append(tried)

    def keep_failure(self, text):
        assert "failed" in text

    def status(self, scheduler, now):
        overview(scheduler, now=now, epoch=1, output="/out", wall="now")

    def drain_asked(self):
        return self._clock() >= self._drain_at


class MemoryCommits:
    """Durable after a while, in order; `full` now and then."""

    def __init__(self, job, clock, random):
        self.records = []
        self.rows = bytearray()
        self.told = 0
        self._job = job
        self._clock = clock
        self._random = random
        self._due = []

    @property
    def has_room(self):
        return self._random.random() >= self._job.full

    def submit(self, records, rows=()):
        for record in records:
            assert not (self.records and isinstance(self.records[-1], Ended)), record
            if isinstance(record, Committed | Header):
                assert record.offset == len(self.rows)
                assert record.length == sum(map(len, rows))
                self.rows += b"".join(rows)
            self.records.append(record)
            self._due.append(self._clock() + self._random.choice((0.01, 0.05, 1.5)))

    def flush(self):
        self._due = [min(due, self._clock() + 0.01) for due in self._due]

    def poll(self):
        count = self.told
        while count < len(self.records) and self._due[count] <= self._clock():
            count += 1
        durable = self.records[self.told : count]
        self.told = count
        return durable

    def next_time(self):
        return self._due[self.told] if self.told < len(self.records) else NEVER


class MemoryStore:
    """Epochs of a run as lists: [(records that count, rows)]."""

    def __init__(self):
        self.epochs = []
        self._commits = None

    def begin(self, apply):
        """The past, for the next epoch."""
        self.replay(apply)

    def replay(self, apply):
        for record in self.records():
            apply(record)

    def records(self):
        return [record for records, _ in self.epochs for record in records]

    def open(self, job, clock, random):
        segments = tuple(
            Segment(number, len(records) + 1, len(rows))
            for number, (records, rows) in enumerate(self.epochs, 1)
        )
        self._commits = MemoryCommits(job, clock, random)
        self._opened = opened(len(self.epochs) + 1, segments)
        return self._opened, self._commits

    def close(self, cut):
        """Keep the first `cut` records: those told to be durable, perhaps more."""
        kept = self._commits.records[:cut]
        end = max(
            (one.offset + one.length for one in kept if isinstance(one, Committed | Header)),
            default=0,
        )
        self.epochs.append(([self._opened, *kept], bytes(self._commits.rows[:end])))

    def crash(self, random):
        self.close(random.randint(self._commits.told, len(self._commits.records)))

    def end(self, scheduler):  # noqa: ARG002  other stores want it
        self.close(len(self._commits.records))

    def final_rows(self):
        """The file that people see: the header, once and at the top, then all rows."""
        header, rows = b"", b""
        for records, segment in self.epochs:
            for record in records:
                if isinstance(record, Header):
                    assert header == b""
                    header = segment[record.offset : record.offset + record.length]
                elif isinstance(record, Committed):
                    rows += segment[record.offset : record.offset + record.length]
        return header + rows


def opened(epoch, segments):
    return Opened(
        version=1,
        run_id="r",
        epoch=epoch,
        fingerprint={},
        accepted=segments,
        started_at="2026-01-01T00:00:00Z",
        host="n0",
        pid=1,
        launch="l",
    )


# --------------------------------------------------------------------------- the play


def play(seed, store, job=None):
    """Until complete, or failed for good; returns (verdict state, epochs)."""
    dice = random.Random(seed + 1_000_000_007)
    job = job or Job.of_seed(seed)
    executions = []
    for epoch in range(1, CALM_FROM_EPOCH + 6):
        if epoch >= CALM_FROM_EPOCH:
            job = job.calm()
        scheduler = play_epoch(job, store, epoch, dice, executions)
        if scheduler is None:
            continue  # the master crashed
        verdict = scheduler.ending.verdict
        check_epoch(job, store, scheduler)
        match verdict.state, verdict.exit_code:
            case "complete", 0:
                check_complete(job, store, scheduler, executions)
                return (verdict.state, epoch)
            case "failed", 3:
                if nothing_succeeded(scheduler.ledger, append_row=job.append_row):
                    return (verdict.state, epoch)
                if dice.random() < 0.5:
                    return (verdict.state, epoch)
                job = replace(job, thresholds=Thresholds())  # somebody raises them and goes on
            case "failed", 4:
                job = job.calm()
            case "interrupted", 75:
                pass
            case _:
                raise AssertionError(verdict)
    raise AssertionError("the run does not come to an end")


def play_epoch(job, store, epoch, dice, executions):
    """One launch; the scheduler when it left by decision, None when the master crashed."""
    network = MemoryNetwork(job.ranks + 1, lambda: dice.expovariate(1 / job.latency_s))

    def clock():
        return network.now

    ledger = Ledger()
    store.begin(ledger.apply)
    record, commits = store.open(job, clock, dice)
    ledger.apply(record)
    scheduler = Scheduler(job.terms(epoch), ledger, 0.0)
    listing = SimListing(job, ledger, clock, dice)
    drain_at = dice.uniform(0, 30) if dice.random() < job.drain else NEVER
    journalist = SimJournalist(clock, drain_at)
    master = Master(network.transport(0), scheduler, commits, listing, journalist, SilentVoice())
    ranks = [
        SimRank(network.transport(rank), dice, job.habits, executions)
        for rank in range(1, job.ranks + 1)
    ]
    deaths = {}
    for rank in ranks:
        if dice.random() < job.death:
            deaths[rank.rank] = dice.uniform(0, 40)
        if dice.random() < job.pause:
            start = dice.uniform(0, 12)
            rank.pause(start, start + dice.choice((5, 16, 25, 50)))
    turns = dice.randint(1, 400) if dice.random() < job.crash else NEVER

    while master.left is None:
        turns -= 1
        if turns <= 0:
            store.crash(dice)
            return None
        master.turn(network.now)
        for rank in ranks:
            if network.now >= deaths.get(rank.rank, NEVER):
                del deaths[rank.rank]
                rank.gone = True
                network.kill(rank.rank)
            rank.turn(network.now)
        network.now = next_time(network, ranks, commits)
        assert network.now < EPOCH_S_MAX, "it hangs"
    store.end(scheduler)
    check_tries(job, journalist.tries, executions)
    return scheduler


def next_time(network, ranks, commits):
    """The next instant at which something happens; the master looks at least once a tick."""
    times = [network.now + TICK_S, commits.next_time()]
    times += [rank.next_time(network.now) for rank in ranks]
    arrival = network.next_arrival()
    if arrival is not None:
        times.append(arrival)
    return max(network.now + 1e-4, min(times))


# --------------------------------------------------------------------------- what must be true


def check_tries(job, tries, executions):
    """What was taken in happened, and was taken in once; nothing failed before its last try."""
    finals = Counter(tried.mini_batch.id for tried in tries if tried.final)
    assert set(finals.values()) <= {1}
    taken = Counter((tried.result or tried.failure).process for tried in tries)
    lost = taken.pop(None, 0)  # failures by the crash limit
    assert lost == sum("crash_limit" in tried.failure.error for tried in tries if tried.failure)
    assert set(taken.values()) <= {1}
    for tried in tries:
        serial = (tried.result or tried.failure).process
        if serial:
            run = executions[serial - 1]
            told = (tried.mini_batch.id, tried.try_number, tried.worker)
            assert told == (run.mini_batch, run.try_number, run.worker)
            assert tried.final or tried.try_number < job.max_try
        if tried.failure is not None and tried.final and serial:
            assert tried.try_number == job.max_try


def check_epoch(job, store, scheduler):
    """After an end by decision: nothing is left over, and the journal tells the same."""
    live = scheduler.ledger
    assert live.holders == {}
    assert scheduler.outbox.awaited == 0
    assert not any(worker.handed for worker in scheduler.crew.workers.values())
    states = [live.state(one.id) for one in job.mini_batches]
    assert not {State.IN_FLIGHT, State.COMMITTING, State.FAILING} & set(states)

    told = Ledger()
    store.replay(told.apply)
    told.add_unusable([(b"", "")] * live.counts.items_unusable)
    assert told.counts == live.counts
    assert told.failures == live.failures
    assert told.tries_failed == live.tries_failed
    assert told.holders == {}
    assert [told.state(one.id) for one in job.mini_batches] == states
    assert (told.listed, told.header, told.ended) == (live.listed, live.header, live.ended)

    records = store.records()
    finals = Counter(one.mini_batch for one in records if isinstance(one, Committed | Failed))
    assert set(finals.values()) <= {1}
    assert set(finals) == {one.id for one in job.mini_batches if live.is_final(one.id)}
    for record in records:
        if isinstance(record, Dispatched):
            assert all(number <= job.max_try for _, number in record.tries)

    verdict = scheduler.ending.verdict
    total = None if scheduler.listing is None else scheduler.listing.mini_batches
    over = exceeded(job.thresholds, live, total)
    nothing = nothing_succeeded(live, append_row=job.append_row)
    if verdict.state == "complete":
        assert (over, nothing) == (None, None)
    if verdict.exit_code == 3:
        assert over or nothing


def check_complete(job, store, scheduler, executions):
    """Every row exactly once, in whole mini-batches, and the counts are those of the rows."""
    records = store.records()
    committed = {one.mini_batch: one for one in records if isinstance(one, Committed)}
    failed = {one.mini_batch: one for one in records if isinstance(one, Failed)}
    assert sorted((*committed, *failed)) == [one.id for one in job.mini_batches]

    data = store.final_rows()
    headers = [one for one in records if isinstance(one, Header)]
    assert len(headers) == (1 if job.habits.header and committed else 0)
    header = b""
    if headers:
        header, data = data[: headers[0].length], data[headers[0].length :]
        assert header in (job.habits.header, b"odd\n")
    lines = [tuple(map(int, line.split())) for line in data.splitlines()]
    at = 0
    seen = set()
    while at < len(lines):
        mini_batch, row, count, serial = lines[at]
        assert mini_batch not in seen
        seen.add(mini_batch)
        assert row == 0
        whole = [(mini_batch, k, count, serial) for k in range(count)]
        assert lines[at : at + count] == whole
        assert committed[mini_batch].rows == count
        run = executions[serial - 1]
        assert (run.mini_batch, run.header, run.failure) == (mini_batch, header, None)
        assert committed[mini_batch].try_number == run.try_number
        at += count
    assert seen == {number for number, one in committed.items() if one.rows}

    counts = scheduler.ledger.counts
    assert counts.rows == len(lines)
    items = {one.id: one.items for one in job.mini_batches}
    succeeded = sum(min(one.rows, items[number]) for number, one in committed.items())
    missing = sum(max(0, items[number] - one.rows) for number, one in committed.items())
    assert counts.items_succeeded == succeeded
    assert counts.items_failed == sum(items.values()) - succeeded + job.unusable
    assert counts.mini_batches_failed == len(failed)
    assert scheduler.ledger.failures[FailureKind.MISSING_ROWS] == missing
