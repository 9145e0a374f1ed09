"""One runner process: its descriptors, its frames, its output, its state page.

Owns the rank's ends of the four descriptors that a runner is born with.
Touches: one socket, two pipes, one memfd; the process itself only through the spawner.
Never:   decides when a runner is late or what its death means (`supervise.supervisor`).
"""

import mmap
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from mpirun_infer.child import wire
from mpirun_infer.supervise.poller import READ, WRITE, Poller
from mpirun_infer.supervise.spawner import Spawner

SOCKET_BYTES = 1 << 20
READ_BYTES = 256 << 10
OUTPUT_READS_MAX = 4
"""Pipe reads a wake-up: a runner that prints without end must not hold up the rank."""

Frame = tuple[dict[str, object], bytes | memoryview]


class PageView:
    """What the state page said when it was read."""

    def __init__(self, mini_batch: int, try_number: int, phase: int, since_ns: int) -> None:
        self.mini_batch = mini_batch
        self.try_number = try_number
        self.phase = wire.PHASE_NAMES[phase] if 0 <= phase < len(wire.PHASE_NAMES) else "idle"
        self.since_s = since_ns / 1e9


class RunnerProcess:
    """Descriptors of one runner from its spawn to its end.

    `on_frames` is called when frames came or the connection ended (`frames()` tells), `on_output`
    with ("stdout" or "stderr", bytes).
    """

    def __init__(
        self,
        poller: Poller,
        *,
        on_frames: Callable[[], None],
        on_output: Callable[[str, bytes], None],
        rows_bytes_max: int,
    ) -> None:
        self.connected = True
        self.damage = ""
        self._poller = poller
        self._on_output = on_output
        self._reader = wire.FrameReader(rows_bytes_max)
        self._buffer = bytearray(READ_BYTES)
        self._unsent: deque[memoryview] = deque()
        self._socket, self._their_socket = socket.socketpair()
        for end in (self._socket, self._their_socket):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        self._socket.setblocking(False)  # noqa: FBT003
        self._page_fd = os.memfd_create("mpirun_infer_page", os.MFD_CLOEXEC)
        os.ftruncate(self._page_fd, wire.PAGE_BYTES)
        self._page = mmap.mmap(self._page_fd, wire.PAGE_BYTES)
        self._pipes: dict[str, int] = {}
        self._their_pipes: list[int] = []
        for name in ("stdout", "stderr"):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            self._pipes[name] = ours
            self._their_pipes.append(theirs)
            poller.register(ours, READ, partial(self.read_output, name))
        poller.register(self._socket.fileno(), READ, on_frames)

    def spawn(
        self,
        spawner: Spawner,
        token: int,
        argv: Sequence[str],
        *,
        env: dict[str, str],
        cwd: str,
        cores: Sequence[int],
    ) -> None:
        """Ask the zygote for the process; its ends of the descriptors are closed here."""
        fds = [self._their_socket.fileno(), self._page_fd, *self._their_pipes]
        try:
            spawner.spawn(token, argv, env=env, cwd=cwd, cores=cores, fds=fds)
        finally:
            self._their_socket.close()
            for fd in self._their_pipes:
                os.close(fd)
            self._their_pipes.clear()

    # ------------------------------------------------------------------ frames

    def send(self, header: dict[str, object], body: bytes = b"") -> None:
        """Queue a frame; the poller pushes it on."""
        self._unsent.append(memoryview(wire.encode(header, body)))
        self._push()

    def _push(self) -> None:
        while self._unsent and self.connected:
            try:
                sent = self._socket.send(self._unsent[0])
            except BlockingIOError:
                break
            except OSError:
                self._unsent.clear()  # the end of the connection is told by reading
                break
            rest = self._unsent[0][sent:]
            if len(rest):
                self._unsent[0] = rest
            else:
                self._unsent.popleft()
        if self.connected:
            self._poller.modify(self._socket.fileno(), READ | (WRITE if self._unsent else 0))

    def frames(self) -> list[Frame]:
        """Whole frames that have come; `connected` turns False at the end of the connection."""
        if self._unsent:
            self._push()
        found: list[Frame] = []
        try:
            while self.connected:
                count = self._socket.recv_into(self._buffer)
                if count == 0:
                    self._disconnect()
                    break
                self._reader.feed(memoryview(self._buffer)[:count])
                while (frame := self._reader.pop()) is not None:
                    found.append(frame)
                if count < READ_BYTES:
                    break
        except BlockingIOError:
            pass
        except wire.WireError as error:
            self.break_off(str(error))
        except OSError:
            self._disconnect()
        return found

    def break_off(self, why: str) -> None:
        """Believe nothing more that comes: it is damaged."""
        self.damage = why
        self._disconnect()

    def _disconnect(self) -> None:
        if self.connected:
            self.connected = False
            self._poller.unregister(self._socket.fileno())

    # ------------------------------------------------------------------ output and page

    def read_output(self, name: str, *, to_the_end: bool = False) -> None:
        """Hand what the runner printed to `on_output`."""
        reads = 0
        while name in self._pipes and (to_the_end or reads < OUTPUT_READS_MAX):
            reads += 1
            try:
                data = os.read(self._pipes[name], READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._close_pipe(name)
                return
            self._on_output(name, data)

    def drain_output(self) -> None:
        """After the death of the tree: take what is left in the pipes."""
        for name in tuple(self._pipes):
            self.read_output(name, to_the_end=True)

    def page(self) -> PageView | None:
        """The state page, or None when it was being written just now."""
        seen = wire.read_page(self._page)
        return None if seen is None else PageView(*seen)

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Give every descriptor back."""
        self._disconnect()
        self._socket.close()
        self._their_socket.close()
        for name in tuple(self._pipes):
            self._close_pipe(name)
        for fd in self._their_pipes:
            os.close(fd)
        self._their_pipes.clear()
        self._page.close()
        os.close(self._page_fd)

    def _close_pipe(self, name: str) -> None:
        fd = self._pipes.pop(name)
        self._poller.unregister(fd)
        os.close(fd)
