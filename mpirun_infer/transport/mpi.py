"""Messages over MPI.

Owns MPI: initialisation, the receives, the sends, Finalize. The only importer of mpi4py.
Touches: mpi4py.
Never:   looks into a message; uses collectives after the start, RMA, spawn or files; forks.

Theory of operation
-------------------
Every message begins with an envelope of at most `ENVELOPE_BYTES` on one tag: two lengths, then
header and body when both fit. A few receives for envelopes are always posted, from any source; MPI
matches them in the order in which they were posted, so the oldest is looked at first and one test
is all that an idle poll costs. What does not fit follows on a second tag in chunks, received by
name, and only while the receiver has credit for it: that is the back-pressure. A peer's later
envelopes wait behind its large message, so its order is kept.
"""

import struct
import time
from collections import deque

import mpi4py

from mpirun_infer.core.events import Buffer
from mpirun_infer.transport.base import Arrival, Backoff, Received

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
from mpi4py import MPI  # noqa: E402 - importing it would initialise MPI without the lines above

ENVELOPE_BYTES = 16 * 1024
CHUNK_BYTES = 1 << 30
RECEIVES_POSTED = 64
CREDIT_BYTES = 256 << 20
"""Large messages that may be on their way to one rank at a time (one is always allowed)."""

SENDS_TESTED_MAX = 32
_TAG_ENVELOPE = 11
_TAG_BODY = 12
_LENGTHS = struct.Struct("<IQ")


class _Large:
    """A message whose parts follow its envelope."""

    def __init__(self, peer: int, header_bytes: int, body_bytes: int) -> None:
        self.peer = peer
        self.header = bytearray(header_bytes)
        self.body = bytearray(body_bytes)
        self.requests: list[MPI.Request] = []

    @property
    def total(self) -> int:
        return len(self.header) + len(self.body)


class MpiTransport:
    """`transport.base.Transport` over a duplicate of MPI_COMM_WORLD."""

    def __init__(self) -> None:
        """Call MPI_Init (thread level: funneled) and post the receives; collective."""
        MPI.Init_thread(MPI.THREAD_FUNNELED)
        self._comm = MPI.COMM_WORLD.Dup()
        self._comm.Set_errhandler(MPI.ERRORS_RETURN)
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()
        self._buffers = [bytearray(ENVELOPE_BYTES) for _ in range(RECEIVES_POSTED)]
        self._receives = [self._post(buffer) for buffer in self._buffers]
        self._head = 0
        self._status = MPI.Status()
        self._sends: deque[tuple[MPI.Request, Buffer]] = deque()
        self._unsent_bytes = 0
        self._receiving: list[_Large] = []
        self._waiting: deque[_Large] = deque()
        self._behind: dict[int, deque[_Large | Received]] = {}

    # ------------------------------------------------------------------ sending

    def send(self, peer: int, header: bytes, body: Buffer = b"") -> None:
        """See `Transport.send`."""
        lengths = _LENGTHS.pack(len(header), len(body))
        if _LENGTHS.size + len(header) + len(body) <= ENVELOPE_BYTES:
            self._isend(b"".join((lengths, header, body)), peer, _TAG_ENVELOPE)
            return
        self._isend(lengths, peer, _TAG_ENVELOPE)
        for part in (header, body):
            view = memoryview(part)
            for start in range(0, len(view), CHUNK_BYTES):
                self._isend(view[start : start + CHUNK_BYTES], peer, _TAG_BODY)

    def _isend(self, data: Buffer, peer: int, tag: int) -> None:
        request = self._comm.Isend([data, MPI.BYTE], dest=peer, tag=tag)
        if not request.Test():
            self._sends.append((request, data))
            self._unsent_bytes += len(data)

    def unsent_bytes(self) -> int:
        """See `Transport.unsent_bytes`."""
        return self._unsent_bytes

    def flush(self, timeout_s: float) -> bool:
        """See `Transport.flush`."""
        deadline = time.monotonic() + timeout_s
        backoff = Backoff()
        while self._sends:
            self._push_sends()
            if time.monotonic() > deadline:
                return False
            time.sleep(backoff.next_s())
        return True

    def _push_sends(self) -> None:
        for _ in range(min(len(self._sends), SENDS_TESTED_MAX)):
            request, data = self._sends.popleft()
            if request.Test():
                self._unsent_bytes -= len(data)
            else:
                self._sends.append((request, data))

    # ------------------------------------------------------------------ receiving

    def poll(self) -> list[Arrival]:
        """See `Transport.poll`; at most `RECEIVES_POSTED` envelopes a call."""
        arrived: list[Arrival] = []
        if self._sends:
            self._push_sends()
        for _ in range(RECEIVES_POSTED):
            if not self._receives[self._head].Test(self._status):
                break
            self._opened(self._status.Get_source(), self._buffers[self._head], arrived)
            self._receives[self._head] = self._post(self._buffers[self._head])
            self._head = (self._head + 1) % RECEIVES_POSTED
        if self._receiving or self._waiting:
            self._move_large(arrived)
        return arrived

    def _post(self, buffer: bytearray) -> MPI.Request:
        return self._comm.Irecv([buffer, MPI.BYTE], source=MPI.ANY_SOURCE, tag=_TAG_ENVELOPE)

    def _opened(self, peer: int, buffer: bytearray, arrived: list[Arrival]) -> None:
        """An envelope is here: the message is whole, or its parts must be received first."""
        header_bytes, body_bytes = _LENGTHS.unpack_from(buffer)
        middle = _LENGTHS.size + header_bytes
        end = middle + body_bytes
        message: Received | _Large
        if end <= ENVELOPE_BYTES:
            content = bytes(memoryview(buffer)[_LENGTHS.size : end])
            view = memoryview(content)
            message = Received(peer, view[:header_bytes], view[header_bytes:])
        else:
            message = _Large(peer, header_bytes, body_bytes)
        behind = self._behind.get(peer)
        if behind is not None:
            behind.append(message)
        elif isinstance(message, Received):
            arrived.append(message)
        else:
            self._behind[peer] = deque()
            self._waiting.append(message)

    def _move_large(self, arrived: list[Arrival]) -> None:
        """Receive large messages as far as the credit goes; deliver those that are whole."""
        under_way = sum(large.total for large in self._receiving)
        while self._waiting and (
            not self._receiving or under_way + self._waiting[0].total <= CREDIT_BYTES
        ):
            large = self._waiting.popleft()
            under_way += large.total
            for part in (large.header, large.body):
                view = memoryview(part)
                for start in range(0, len(view), CHUNK_BYTES):
                    chunk = view[start : start + CHUNK_BYTES]
                    large.requests.append(
                        self._comm.Irecv([chunk, MPI.BYTE], source=large.peer, tag=_TAG_BODY)
                    )
            self._receiving.append(large)
        for large in list(self._receiving):
            while large.requests and large.requests[0].Test():
                del large.requests[0]
            if not large.requests:
                self._receiving.remove(large)
                arrived.append(Received(large.peer, large.header, large.body))
                self._unblock(large.peer, arrived)

    def _unblock(self, peer: int, arrived: list[Arrival]) -> None:
        """Deliver what waited behind the peer's large message, up to its next large one."""
        behind = self._behind[peer]
        while behind:
            message = behind.popleft()
            if isinstance(message, _Large):
                self._waiting.append(message)
                return
            arrived.append(message)
        del self._behind[peer]

    # ------------------------------------------------------------------ leaving

    def close(self) -> None:
        """Take back the receives and call MPI_Finalize, which waits for the other ranks."""
        for request in self._receives:
            request.Cancel()
            request.Wait()
        MPI.Finalize()
