"""One epoll for everything a worker rank waits for besides MPI.

Owns the registration of descriptors and their callbacks.
Touches: epoll.
Never:   knows what a descriptor is for.
"""

import select
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EVENTS_MAX = 256


class Poller:
    """Descriptors and what to call when they can be read, written or have ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def register(self, fd: int, mask: int, callback: Callable[[], None]) -> None:
        """Watch a descriptor; level-triggered."""
        self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def modify(self, fd: int, mask: int) -> None:
        """Watch for something else."""
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; call it before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something happens or the time is over; whether something happened."""
        ready = self._epoll.poll(timeout_s, EVENTS_MAX)
        for fd, _ in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:  # an earlier callback may have unregistered it
                callback()
        return bool(ready)

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()
