"""The ranks and workers of a run: who is there, who is idle, who holds what.

Owns the bookkeeping behind every hand-out, and the two policies that need nothing else: how many
mini-batches go into one message, and who is fed first.
Touches: nothing; the time is an argument.
Never:   decides about a mini-batch's fate (`core.ledger`, `core.scheduler`).
"""

from collections import deque
from itertools import islice

import msgspec

from mpirun_infer.model import MiniBatch, NodeFacts

PACK_BELOW_S = 0.001
"""A `run()` shorter than this is packed: one message then carries several mini-batches."""

PACK_SPAN_S = 0.002
"""About this much work goes into one pack."""

PACK_MAX = 32

AHEAD_BELOW_S = 0.2
"""Runs shorter than this are handed to the runner ahead of time (`supervise.work_queue`): they
cannot be taken back, and nobody needs to."""

REVOKE_SEARCH_MAX = 64


class Handed(msgspec.Struct, frozen=True):
    """One try at a worker."""

    mini_batch: MiniBatch
    try_number: int
    at: float


class Worker(msgspec.Struct, kw_only=True):
    """One slot of one rank, as the master sees it.

    `handed` is in the order of the hand-out; the first one is running, the others wait.
    `firm`: it had nothing to give back when it was asked; not asked again before its next result.
    `run_s` is a moving mean over its `run()` calls, None before the first.
    """

    number: int
    rank: int
    incarnation: int
    ready: bool = False
    retired: bool = False
    revoking: bool = False
    firm: bool = False
    handed: deque[Handed] = msgspec.field(default_factory=deque)
    run_s: float | None = None
    ready_at: float = 0.0

    def take(self, mini_batch: int) -> Handed | None:
        """Remove and return what was handed out under this id."""
        for index, handed in enumerate(self.handed):
            if handed.mini_batch.id == mini_batch:
                del self.handed[index]
                return handed
        return None

    def note_run(self, run_s: float) -> None:
        """Keep the moving mean."""
        self.run_s = run_s if self.run_s is None else 0.7 * self.run_s + 0.3 * run_s


class Rank(msgspec.Struct, kw_only=True):
    """A worker rank, as the master sees it."""

    facts: NodeFacts
    heard_at: float
    incarnation: int = 0
    lost: bool = False
    released: bool = False
    running: tuple[tuple[int, int, str, float], ...] = ()


def pack_size(run_s: float | None) -> int:
    """How many mini-batches one message should carry to a worker whose runs take `run_s`."""
    if run_s is None or run_s >= PACK_BELOW_S:
        return 1
    return min(PACK_MAX, max(2, round(PACK_SPAN_S / max(run_s, 1e-6))))


class Crew:
    """All ranks and workers; `note(worker)` must follow every change to a worker."""

    def __init__(self) -> None:
        self.ranks: dict[int, Rank] = {}
        self.workers: dict[int, Worker] = {}
        self._starving: dict[int, None] = {}
        self._hungry: dict[int, None] = {}
        self._prefetching: dict[int, None] = {}
        self._starting: set[int] = set()

    def seat(self, rank: int, numbers: range) -> list[Worker]:
        """(Re)create the workers of a rank under a new incarnation; they are not ready yet."""
        state = self.ranks[rank]
        state.incarnation += 1
        state.lost = False
        state.running = ()
        seated = []
        for number in numbers:
            worker = Worker(number=number, rank=rank, incarnation=state.incarnation)
            self.workers[number] = worker
            self.note(worker)
            seated.append(worker)
        return seated

    def note(self, worker: Worker) -> None:
        """Sort the worker into starving, hungry or neither."""
        number = worker.number
        self._starving.pop(number, None)
        self._hungry.pop(number, None)
        self._prefetching.pop(number, None)
        self._starting.discard(number)
        if not worker.ready and not worker.retired:
            self._starting.add(number)
        if not worker.ready or worker.retired or worker.revoking:
            return
        if not worker.handed:
            self._starving[number] = None
        elif len(worker.handed) <= pack_size(worker.run_s):
            self._hungry[number] = None
        if len(worker.handed) > 1 and not worker.firm:
            self._prefetching[number] = None

    def next_to_feed(self) -> Worker | None:
        """A worker with nothing to do, else one with nothing prefetched, else None."""
        for pool in (self._starving, self._hungry):
            for number in pool:
                return self.workers[number]
        return None

    def someone_starts(self) -> bool:
        """Whether a worker may become ready at any moment."""
        return bool(self._starting)

    def someone_starves(self) -> bool:
        """Whether a ready worker has nothing to do."""
        return bool(self._starving)

    def next_to_revoke(self) -> Worker | None:
        """A worker that holds more than it runs and stays busy long enough to bother."""
        for number in islice(self._prefetching, REVOKE_SEARCH_MAX):
            worker = self.workers[number]
            if worker.run_s is None or worker.run_s >= AHEAD_BELOW_S:
                return worker
        return None

    def of_rank(self, rank: int) -> list[Worker]:
        """The workers of one rank."""
        return [worker for worker in self.workers.values() if worker.rank == rank]

    def usable(self) -> int:
        """Workers that work or may still do so."""
        return sum(
            1
            for worker in self.workers.values()
            if not worker.retired and not self.ranks[worker.rank].lost
        )

    def everyone_left(self) -> bool:
        """Whether each rank has said that it leaves, or is lost."""
        return all(rank.released or rank.lost for rank in self.ranks.values())
