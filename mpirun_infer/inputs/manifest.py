"""The manifest: which mini-batch holds which items, so that a resume asks the same questions.

Owns the bytes of a manifest file, one line for each mini-batch and each unusable item:

    <crc32> <id> <input> <first item> <path> <path> ...
    <crc32> ! <input> <path> <reason>
    <crc32> . <mini-batches> <items> <unusable>                     the end: the listing is complete

Paths are percent-encoded; the sum is CRC-32 (hex) of all that follows it and one blank.
Touches: manifest files, read only (`store.manifest_file` writes them).
Never:   lists.
"""

import contextlib
import re
import zlib
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

from mpirun_infer.core.events import ListingEnded
from mpirun_infer.errors import ResumeError
from mpirun_infer.inputs.listing import Unusable
from mpirun_infer.model import MiniBatch

_SAFE = "/!$&'()*+,:;=@[]^{}|<>?\"`\\#"
_PLAIN = re.compile(rb"[A-Za-z0-9_.~/!$&'()*+,:;=@\[\]^{}|<>?\"`\\#-]*\Z").match


def _quote(path: bytes) -> bytes:
    if _PLAIN(path):
        return path
    return quote_from_bytes(path, _SAFE).encode("ascii")


def encode(entry: MiniBatch | Unusable) -> bytes:
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
        self.totals: ListingEnded | None = None
        self._end_bytes = end_bytes

    def __iter__(self) -> Iterator[MiniBatch | Unusable]:
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
                if isinstance(entry, ListingEnded):
                    self.totals = entry
                    return
                yield entry

    def _parse(self, body: bytes) -> MiniBatch | Unusable | ListingEnded:
        fields = body.split(b" ")
        if fields[0] == b"!":
            unusable = Unusable(
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
            return ListingEnded(*counts, manifest_bytes=self.good_bytes + len(body) + 10)
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
    def __iter__(self) -> Iterator[MiniBatch | Unusable]:
        with contextlib.suppress(FileNotFoundError):
            yield from super().__iter__()
        if self.totals is None or self.good_bytes != self._end_bytes:
            raise ResumeError(
                f"{self.path}: damaged at byte {self.good_bytes:,}: the list of mini-batches was "
                f"complete with {self._end_bytes:,} bytes; restore the file from a copy, or start "
                "over: --fresh"
            )
