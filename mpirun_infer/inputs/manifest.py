"""The manifest: which mini-batch holds which items, so that a resume asks the same questions.

Owns the bytes of a manifest file, one line for each mini-batch and each unusable item:

    <crc32> <id> <input> <first item> <path> <path> ...
    <crc32> ! <input> <path> <reason>
    <crc32> . <mini-batches> <items> <unusable>                     the end: the listing is complete

Paths are percent-encoded; the sum is CRC-32 (hex) of all that follows it and one blank.
Touches: the manifest file of its own epoch (writing), those of earlier epochs (reading).
Never:   lists.
"""

import contextlib
import errno
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from mpirun_infer.errors import ResumeError, StorageError
from mpirun_infer.model import MiniBatch

_SAFE = "/!$&'()*+,:;=@[]^{}|<>?\"`\\#"
_PLAIN = re.compile(rb"[A-Za-z0-9_.~/!$&'()*+,:;=@\[\]^{}|<>?\"`\\#-]*\Z").match
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class UnusableItem(msgspec.Struct, frozen=True):
    """A listed thing that is no regular file: it counts as a failed item."""

    input_index: int
    path: bytes
    reason: str


class Totals(msgspec.Struct, frozen=True):
    """Of a complete listing."""

    mini_batches: int
    items: int
    unusable: int
    manifest_bytes: int


def _quote(path: bytes) -> bytes:
    if _PLAIN(path):
        return path
    return quote_from_bytes(path, _SAFE).encode("ascii")


def encode(entry: MiniBatch | UnusableItem) -> bytes:
    """Its line."""
    if isinstance(entry, MiniBatch):
        paths = b" ".join(map(_quote, entry.paths))
        body = b"%d %d %d %b" % (entry.id, entry.input_index, entry.first_item, paths)
    else:
        reason = _quote(entry.reason.encode("utf-8", "surrogateescape"))
        body = b"! %d %b %b" % (entry.input_index, _quote(entry.path), reason)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def encode_end(mini_batches: int, items: int, unusable: int) -> bytes:
    """The last line."""
    body = b". %d %d %d" % (mini_batches, items, unusable)
    return b"%08x %b\n" % (zlib.crc32(body), body)


class ManifestReading:
    """One pass over a manifest: iterate it, then ask where it ended.

    Attributes:
        good_bytes: length of the good part read so far.
        mini_batches, items, unusable: in the good part.
        totals: set once the end line was read: the listing is complete.
    """

    def __init__(self, path: str, *, end_bytes: int | None = None) -> None:
        """With `end_bytes` nothing beyond is looked at."""
        self.path = path
        self.good_bytes = 0
        self.mini_batches = 0
        self.items = 0
        self.unusable = 0
        self.totals: Totals | None = None
        self._end_bytes = end_bytes

    def __iter__(self) -> Iterator[MiniBatch | UnusableItem]:
        """Ends at the first line that is torn, bad, or does not follow from the one before."""
        with open(self.path, "rb", buffering=1 << 20) as file:
            for line in file:
                if self._end_bytes is not None and self.good_bytes >= self._end_bytes:
                    return
                body = line[9:-1]
                if line[:9] != b"%08x " % zlib.crc32(body) or line[-1:] != b"\n":
                    return
                try:
                    entry = self._parse(body)
                except (ValueError, IndexError):
                    return
                self.good_bytes += len(line)
                if isinstance(entry, Totals):
                    self.totals = entry
                    return
                yield entry

    def _parse(self, body: bytes) -> MiniBatch | UnusableItem | Totals:
        fields = body.split(b" ")
        if fields[0] == b"!":
            unusable = UnusableItem(
                int(fields[1]),
                unquote_to_bytes(fields[2]),
                unquote_to_bytes(fields[3]).decode("utf-8", "surrogateescape"),
            )
            self.unusable += 1
            return unusable
        if fields[0] == b".":
            counts = (self.mini_batches, self.items, self.unusable)
            if tuple(map(int, fields[1:])) != counts:
                raise ValueError
            return Totals(*counts, self.good_bytes + len(body) + 10)
        if int(fields[0]) != self.mini_batches or int(fields[2]) != self.items:
            raise ValueError
        paths = tuple(unquote_to_bytes(f) if b"%" in f else f for f in fields[3:])
        entry = MiniBatch(
            id=self.mini_batches,
            input_index=int(fields[1]),
            first_item=self.items,
            paths=paths,
        )
        self.mini_batches += 1
        self.items += len(paths)
        return entry


def read(path: str, *, end_bytes: int | None = None) -> ManifestReading:
    """The entries of a manifest in order; see `ManifestReading`."""
    return ManifestReading(path, end_bytes=end_bytes)


def read_complete(path: str, manifest_bytes: int) -> ManifestReading:
    """A manifest that was complete; the reading raises ResumeError if it is so no more."""
    return _CompleteReading(path, end_bytes=manifest_bytes)


class _CompleteReading(ManifestReading):
    def __iter__(self) -> Iterator[MiniBatch | UnusableItem]:
        with contextlib.suppress(FileNotFoundError):
            yield from super().__iter__()
        if self.totals is None or self.good_bytes != self._end_bytes:
            raise ResumeError(
                f"{self.path}: damaged at byte {self.good_bytes:,}: the list of mini-batches was "
                f"complete with {self._end_bytes:,} bytes; restore the file from a copy, or start "
                "over: --fresh"
            )


class ManifestWriter:
    """Writes the manifest of our own epoch; `sync` may be called from another thread."""

    def __init__(self, path: str, *, storage_wait_s: float = 600.0) -> None:
        """Create the file; it must not be there yet."""
        self.path = path
        self.bytes_written = 0
        self._storage_wait_s = storage_wait_s
        self._synced = 0
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """Append; waits for space, raises StorageError when there is none for too long."""
        deadline = time.monotonic() + self._storage_wait_s
        while True:
            try:
                self._write_once(data)
            except OSError as error:
                if error.errno not in _NO_SPACE or time.monotonic() >= deadline:
                    raise self._broken(error) from error
                os.ftruncate(self._fd, self.bytes_written)
                if self._stop.wait(1.0):
                    raise self._broken(error) from error
            else:
                self.bytes_written += len(data)
                return

    def _write_once(self, data: bytes) -> None:
        rest = memoryview(data)
        at = self.bytes_written
        while rest:
            written = os.pwrite(self._fd, rest, at)
            at += written
            rest = rest[written:]

    def sync(self) -> None:
        """Make durable what is written; costs nothing when nothing is new."""
        with self._guard:
            written = self.bytes_written
            if self._fd >= 0 and written > self._synced:
                os.fdatasync(self._fd)
                self._synced = written

    def stop(self) -> None:
        """End a wait for space."""
        self._stop.set()

    def close(self) -> None:
        """Close the file; `sync` does nothing from now on."""
        with self._guard:
            if self._fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(self._fd)
                self._fd = -1

    def _broken(self, error: OSError) -> StorageError:
        return StorageError(
            f"storage: {self.path}: {error.strerror or error}; run the same command again when "
            "the file system is well (or has space)"
        )


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
