"""Ranks in one process: the transport of the simulator.

Owns an in-memory network with virtual latency and seeded faults; tests hold it against the same
conformance suite as `transport.mpi`.
Touches: nothing; the time and the randomness are arguments.
Never:   is used by a real run.

What it keeps of the real thing: order between two ranks, whole messages, large ones later than
small ones of *other* peers, messages to a dead rank that vanish. What it adds: latency, ranks that
die or are cut off at a chosen time, the loss of what a dead rank had not yet sent.
"""

import heapq
from collections.abc import Callable

from mpirun_infer.core.events import Buffer
from mpirun_infer.transport.base import Arrival, Received


class MemoryNetwork:
    """All ranks' mailboxes; `now` is set by the simulation."""

    def __init__(self, size: int, latency_s: Callable[[], float]) -> None:
        self.size = size
        self.now = 0.0
        self.dead: set[int] = set()
        self._latency_s = latency_s
        self._count = 0
        self._mail: list[list[tuple[float, int, Received]]] = [[] for _ in range(size)]
        self._last_arrival: dict[tuple[int, int], float] = {}

    def transport(self, rank: int) -> "MemoryTransport":
        """The view of one rank; a new one after `revive`."""
        return MemoryTransport(self, rank)

    def kill(self, rank: int) -> None:
        """The rank is gone: nothing reaches it, and what it had under way is lost."""
        self.dead.add(rank)
        self._mail[rank].clear()
        for peer, mail in enumerate(self._mail):
            self._mail[peer] = [entry for entry in mail if entry[2].peer != rank]
            heapq.heapify(self._mail[peer])

    def post(self, sender: int, peer: int, header: bytes, body: Buffer) -> None:
        """Put a message on its way; per pair the order is kept."""
        if sender in self.dead or peer in self.dead:
            return
        pair = (sender, peer)
        arrival = max(self.now + self._latency_s(), self._last_arrival.get(pair, 0.0))
        self._last_arrival[pair] = arrival
        self._count += 1
        message = Received(sender, bytes(header), bytes(body))
        heapq.heappush(self._mail[peer], (arrival, self._count, message))

    def collect(self, rank: int) -> list[Arrival]:
        """What has arrived at a rank by now."""
        mail = self._mail[rank]
        arrived: list[Arrival] = []
        while mail and mail[0][0] <= self.now:
            arrived.append(heapq.heappop(mail)[2])
        return arrived

    def next_arrival(self) -> float | None:
        """When a mailbox that was read up to now gets its next message, or None."""
        times = [mail[0][0] for mail in self._mail if mail and mail[0][0] > self.now]
        return min(times) if times else None


class MemoryTransport:
    """`transport.base.Transport` over a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, rank: int) -> None:
        self.rank = rank
        self.size = network.size
        self._network = network

    def send(self, peer: int, header: bytes, body: Buffer = b"") -> None:
        """See `Transport.send`."""
        self._network.post(self.rank, peer, header, body)

    def poll(self) -> list[Arrival]:
        """See `Transport.poll`."""
        return self._network.collect(self.rank)

    def unsent_bytes(self) -> int:
        """Always 0: the network takes everything at once."""
        return 0

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing is ever unsent
        """Always True."""
        return True

    def close(self) -> None:
        """Nothing to leave."""
