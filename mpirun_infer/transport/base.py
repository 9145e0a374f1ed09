"""What the roles know of a transport: addressed, ordered, non-blocking messages.

Owns the `Transport` protocol, the two things that come out of one, and the polite wait.
Touches: nothing.
Never:   knows what a message means.

A message is a header (small, always there) and a body (perhaps empty, perhaps gigabytes). Messages
from one peer arrive in the order in which they were sent.
"""

from typing import Protocol

import msgspec

from mpirun_infer.core.events import Buffer


class Received(msgspec.Struct, frozen=True):
    """A whole message."""

    peer: int
    header: Buffer
    body: Buffer


class PeerLost(msgspec.Struct, frozen=True):
    """The transport itself noticed that a peer is gone."""

    peer: int
    why: str


Arrival = Received | PeerLost


class Transport(Protocol):
    """One rank's view of the others; used by the thread that made it, and by no other."""

    rank: int
    size: int

    def send(self, peer: int, header: bytes, body: Buffer = b"") -> None:
        """Queue a message; never blocks. `body` must not change until it is gone."""

    def poll(self) -> list[Arrival]:
        """What has arrived whole; pushes sends on."""

    def unsent_bytes(self) -> int:
        """Bytes queued or on their way: the measure for back-pressure."""

    def flush(self, timeout_s: float) -> bool:
        """Wait for all sends; False when the time was too short."""

    def close(self) -> None:
        """Leave; nothing may be sent or polled any more."""


class Backoff:
    """How long to wait before the next poll: some tens of microseconds of polling, then sleeping.

    `next_s()` gives 0 for the first `spins` calls after `reset()`, then doubles from 20 us up to
    `max_s`, so that an idle rank costs about one wake-up per `max_s`.
    """

    def __init__(self, *, spins: int = 20, max_s: float = 0.002) -> None:
        self.max_s = max_s
        self._spins = spins
        self._calls = 0
        self._sleep_s = 0.0

    def reset(self) -> None:
        """Something happened."""
        self._calls = 0
        self._sleep_s = 0.0

    def next_s(self) -> float:
        """Seconds to wait now."""
        self._calls += 1
        if self._calls <= self._spins:
            return 0.0
        self._sleep_s = min(self.max_s, max(20e-6, 2 * self._sleep_s))
        return self._sleep_s
