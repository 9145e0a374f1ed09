"""The loop of rank 0: poll, ask the core, perform.

Owns the order of one turn and nothing else: every decision is the scheduler's.
Touches: the clock, and everything else through `transport`, `store`, `inputs` and the journalist.
Never:   runs user code; touches a file in this thread; waits for the disk.

One turn: messages of the ranks (unless too much waits for the disk: then the ranks wait, too), what
became durable, what was listed, the time. With nothing to do it sleeps, up to 5 ms.
"""

import time
from typing import Protocol, assert_never

from mpirun_infer.core.ending import Phase
from mpirun_infer.core.events import (
    Buffer,
    Command,
    DrainAsked,
    Durable,
    Event,
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
from mpirun_infer.core.messages import decode_from_worker, encode
from mpirun_infer.core.records import Record
from mpirun_infer.core.scheduler import Scheduler
from mpirun_infer.model import MiniBatch
from mpirun_infer.roles.voice import Voice
from mpirun_infer.transport.base import Backoff, PeerLost, Transport

TICK_S = 0.25
START_SLEEP_S = 0.001
"""While a worker starts: when it is ready, it waits for its first mini-batch."""

IDLE_SLEEP_S = 0.005
"""Reached by doubling, so a sleep is about as long as the silence before it: whoever answers after
a run of some milliseconds finds the master awake, and long runs cost no wake-ups."""


class Commits(Protocol):
    """What the loop needs of `store.commit.Committer`."""

    @property
    def has_room(self) -> bool:
        """Whether more rows should be taken in."""

    def submit(self, records: tuple[Record, ...], rows: tuple[Buffer, ...] = ()) -> None:
        """Queue records and their rows."""

    def flush(self) -> None:
        """Somebody waits for it."""

    def poll(self) -> list[Record]:
        """What became durable; raises when that cannot be any more."""


class Listing(Protocol):
    """What the loop needs of `inputs.lister.Lister`."""

    def take(self, count_max: int) -> list[MiniBatch]:
        """Mini-batches that are known by now; raises when the listing failed."""

    def unusable(self) -> list[tuple[bytes, str]]:
        """Things that are no regular files, since the last call: (path, why)."""

    def ended(self) -> ListingEnded | None:
        """The totals, once everything was taken."""


class Journalist(Protocol):
    """Who tells people: `roles.journalist`."""

    def say(self, level: str, text: str) -> None:
        """A line for people."""

    def tried(self, tried: Tried) -> None:
        """A try ended."""

    def keep_failure(self, text: str) -> None:
        """A failure in one line."""

    def status(self, scheduler: Scheduler, now: float) -> None:
        """Keep status.json young."""

    def drain_asked(self) -> bool:
        """Whether somebody asked for a drain."""


class Master:
    """Rank 0 from the first Hello to the last Released."""

    def __init__(
        self,
        transport: Transport,
        scheduler: Scheduler,
        commits: Commits,
        listing: Listing,
        journalist: Journalist,
        voice: Voice,
    ) -> None:
        self.scheduler = scheduler
        self.left: Left | None = None
        self._transport = transport
        self._commits = commits
        self._listing = listing
        self._journalist = journalist
        self._voice = voice
        self._listed = False
        self._next_tick = 0.0

    def run(self) -> Left:
        """Until everyone has left; raises when rows cannot be kept or inputs cannot be listed."""
        backoff = Backoff(max_s=IDLE_SLEEP_S)
        while self.left is None:
            if self.turn(time.monotonic()):
                backoff.reset()
                continue
            starts = self.scheduler.crew.someone_starts()
            backoff.max_s = START_SLEEP_S if starts else IDLE_SLEEP_S
            pause_s = backoff.next_s()
            if pause_s:
                time.sleep(pause_s)
        return self.left

    def turn(self, now: float) -> bool:
        """Do what there is to do; False when no rank said anything and nothing was listed."""
        moved = False
        room = self._commits.has_room
        if room:
            for arrival in self._transport.poll():
                moved = True
                if isinstance(arrival, PeerLost):
                    self._handle(RankLost(arrival.peer, arrival.why), now)
                    continue
                message = decode_from_worker(arrival.header)
                self._handle(RankSaid(arrival.peer, message, arrival.body), now)
        durable = self._commits.poll()
        if durable:  # nobody waits for the answer, so it is no reason to poll faster
            self._handle(Durable(tuple(durable)), now)
        moved = self._list(now) or moved
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            if room:  # otherwise nobody was listened to, so nobody can be called silent
                self._handle(Tick(), now)
            if self._journalist.drain_asked() and self.scheduler.ending.phase is Phase.RUNNING:
                self._handle(DrainAsked("drained on request; the same command goes on"), now)
            self._journalist.status(self.scheduler, now)
            self._voice.alive(now)
        return moved

    def _list(self, now: float) -> bool:
        if self._listed:
            return False
        wanted = self.scheduler.wanted
        mini_batches = self._listing.take(wanted) if wanted else []
        if mini_batches:
            self._handle(MiniBatchesListed(tuple(mini_batches)), now)
        unusable = self._listing.unusable()
        if unusable:
            self._handle(ItemsUnusable(tuple(unusable)), now)
        ended = self._listing.ended()
        if ended is not None:
            self._listed = True
            self._handle(ended, now)
        return bool(mini_batches or unusable)

    def _handle(self, event: Event, now: float) -> None:
        for command in self.scheduler.handle(event, now):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Send():
                self._transport.send(command.rank, encode(command.message))
            case Submit():
                self._commits.submit(command.records, command.rows)
            case Flush():
                self._commits.flush()
            case Tried():
                self._journalist.tried(command)
            case Say():
                self._journalist.say(command.level, command.text)
            case KeepFailure():
                self._journalist.keep_failure(command.text)
            case Left():
                self.left = command
            case _:
                assert_never(command)
