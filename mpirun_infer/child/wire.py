"""The bytes between a runner and its rank: frames, and the state page.

Owns the frame format, its limits and the layout of the page.
Touches: the descriptor that `send` is given.
Never:   imports anything of ours; knows what a frame means. Runs under Python >= 3.8.

A frame is a fixed head (magic, length of the JSON, length of the body), a JSON object in ASCII and
a raw body. The page is 32 bytes of memory shared by a runner and its rank: it survives SIGKILL, so
that the rank knows what a dead runner was doing.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections import deque
from typing import Any

MAGIC = b"MIF1"
HEAD = struct.Struct("<4sIQ")
HEADER_BYTES_MAX = 64 << 20

PHASE_NAMES = ("idle", "import", "init", "load", "run", "format", "shutdown")
IDLE, IMPORT, INIT, LOAD, RUN, FORMAT, SHUTDOWN = range(7)
NO_MINI_BATCH = -1

DUMP_SIGNAL = signal.SIGRTMIN + 6
"""The runner's faulthandler dumps all stacks on it."""

PAGE_BYTES = 4096
"""Of the shared memory that holds the page."""

# Native order and alignment: every field is stored at once, not byte by byte.
PAGE = struct.Struct("@Qqqii")
_SEQ = struct.Struct("@Q")
_FIELDS = struct.Struct("@qqii")
_PAGE_READS_MAX = 5
_JOIN_BELOW_BYTES = 64 << 10
"""A body shorter than this is copied behind its header: one buffer is cheaper than two."""

# Bound here: a script may put its own functions in their place.
_from_json = json.loads
_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class WireError(Exception):
    """Raised when what came is no frame: the connection is of no use any more."""


def encode(header: dict[str, Any], body: Any = b"") -> bytes:
    """One frame as bytes; meant for small bodies."""
    text = _to_json(header).encode("ascii")
    return b"".join((HEAD.pack(MAGIC, len(text), len(body)), text, body))


def send(fd, header, body=b"", _writev=os.writev):
    """Write one frame to a blocking descriptor, whole; OSError when the other side is gone."""
    if len(body) < _JOIN_BELOW_BYTES:
        parts = [memoryview(encode(header, body))]
    else:
        text = _to_json(header).encode("ascii")
        head = HEAD.pack(MAGIC, len(text), len(body)) + text
        parts = [memoryview(head), memoryview(body).cast("B")]
    while parts:
        written = _writev(fd, parts)
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][written:]


class FrameReader:
    """Makes frames of the bytes that come, in pieces of any size.

    `feed` takes bytes (and keeps none of the caller's memory); `pop` gives (header, body) or None,
    and raises WireError where the good frames end.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._frames: deque[tuple[dict[str, Any], Any]] = deque()
        self._start = bytearray()  # the head and JSON of a frame that is not here as a whole
        self._header: dict[str, Any] = {}
        self._body: Any = None  # the body that is being filled, of its final size
        self._filled = 0
        self._error: WireError | None = None

    def feed(self, data: Any) -> None:
        """Take what came."""
        view = memoryview(data)
        try:
            while view and self._error is None:
                view = self._fill_body(view) if self._body is not None else self._begin(view)
        except WireError as error:
            self._error = error

    def pop(self) -> tuple[dict[str, Any], Any] | None:
        """The next whole frame, or None."""
        if self._frames:
            return self._frames.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _fill_body(self, view):
        body, filled = self._body, self._filled
        count = min(len(body) - filled, len(view))
        body[filled : filled + count] = view[:count]
        self._filled += count
        if self._filled == len(body):
            self._frames.append((self._header, memoryview(body)))
            self._body = None
        return view[count:]

    def _begin(self, view):
        """Take the head and JSON of a frame, and its body too when all of it is here."""
        start = self._start
        if start:
            return self._begin_in_pieces(view)
        if len(view) >= HEAD.size:
            header_bytes, body_bytes = self._lengths(view)
            whole = HEAD.size + header_bytes
            if len(view) >= whole:
                return self._got_header(bytes(view[HEAD.size : whole]), body_bytes, view[whole:])
        return self._begin_in_pieces(view)

    def _begin_in_pieces(self, view):
        start = self._start
        wanted = HEAD.size
        if len(start) >= HEAD.size:
            wanted += self._lengths(start)[0]
        count = min(wanted - len(start), len(view))
        start += view[:count]
        view = view[count:]
        if len(start) < wanted or len(start) < HEAD.size:
            return view
        header_bytes, body_bytes = self._lengths(start)
        if len(start) < HEAD.size + header_bytes:
            return view
        text = bytes(start[HEAD.size :])
        self._start = bytearray()
        return self._got_header(text, body_bytes, view)

    def _lengths(self, head):
        magic, header_bytes, body_bytes = HEAD.unpack_from(head)
        if magic != MAGIC:
            raise WireError("a frame that begins with %r" % (magic,))
        if header_bytes > HEADER_BYTES_MAX:
            raise WireError("a frame with a header of %d bytes" % header_bytes)
        if body_bytes > self._body_bytes_max:
            raise WireError("a frame with a body of %d bytes" % body_bytes)
        return header_bytes, body_bytes

    def _got_header(self, text, body_bytes, view):
        try:
            header = _from_json(text)
        except (ValueError, RecursionError) as error:
            raise WireError("a frame whose header is not JSON (%s)" % str(error)[:80]) from None
        if not isinstance(header, dict):
            raise WireError("a frame whose header is no JSON object")
        if body_bytes <= len(view):
            self._frames.append((header, bytes(view[:body_bytes])))
            return view[body_bytes:]
        self._header, self._body, self._filled = header, bytearray(body_bytes), 0
        return view


def write_page(page, mini_batch, try_number, phase, _now_ns=time.monotonic_ns):
    """Say what is going on from now: odd sequence number, fields, even sequence number."""
    seq = (_SEQ.unpack_from(page)[0] | 1) + 2
    _SEQ.pack_into(page, 0, seq)
    _FIELDS.pack_into(page, _SEQ.size, mini_batch, _now_ns(), try_number, phase)
    _SEQ.pack_into(page, 0, seq + 1)


def read_page(page: Any) -> tuple[int, int, int, int] | None:
    """(mini_batch, try_number, phase, since_ns), or None when it is being written (or was torn)."""
    for _ in range(_PAGE_READS_MAX):
        first = bytes(page[: PAGE.size])
        seq, mini_batch, since_ns, try_number, phase = PAGE.unpack(first)
        if seq % 2 == 0 and first == bytes(page[: PAGE.size]):
            return mini_batch, try_number, phase, since_ns
    return None
