"""The listing thread: from inputs to mini-batches, streamed, spooled, resumable.

Owns one thread, the queue it fills, and how items are cut into mini-batches and numbered.
Touches: the input file system (through `inputs.listing`) and earlier manifests, read only; our own
         manifest through the `Writer` that it is given.
Never:   hands out a mini-batch before its line is written; renumbers one; waits for the main thread
         other than at its bound.

What a resume finds decides what happens:
    a complete manifest     it is read again, nothing is listed
    an incomplete one       its good lines are copied into our own (an old master may still write to
                            the other), then all is listed again and what the lines hold is left out
    none                    all is listed
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from mpirun_infer.core.events import ListingEnded
from mpirun_infer.errors import InferError, ResumeError, StorageError
from mpirun_infer.inputs import listing, manifest
from mpirun_infer.inputs.known import Known
from mpirun_infer.inputs.listing import Unusable
from mpirun_infer.inputs.manifest import ManifestReading
from mpirun_infer.model import MiniBatch

MINI_BATCHES_MAX = 2_000
ITEMS_MAX = 200_000
UNUSABLE_MAX = 10_000
_WRITE_BYTES = 1 << 16


class Earlier(msgspec.Struct, frozen=True):
    """The manifest that a resume begins with.

    Attributes:
        path: of the epoch that listed.
        complete_bytes: its length if the listing was complete, else None.
        needed: mini-batches that the journal speaks of: it must hold them.
    """

    path: str
    complete_bytes: int | None
    needed: int


class Writer(Protocol):
    """Our own manifest; `sync` and `stop` may be called from any thread."""

    path: str

    @property
    def end(self) -> int:
        """Bytes written."""

    def append(self, data: bytes) -> None:
        """Write all of it; waits for space, raises StorageError when that is impossible."""

    def sync(self) -> None:
        """Make durable what is written; costs nothing when nothing is new."""

    def stop(self) -> None:
        """End a wait for space."""

    def close(self) -> None:
        """Nothing more is written; `sync` does nothing from now on."""


class _StoppedError(Exception):
    """The lister was closed."""


class Lister:
    """Mini-batches in the order of their ids; `take` and its like are for one thread.

    The constructor copies and syncs what is kept of an earlier manifest, so that what a resume
    relies on is safe before the new epoch is opened; `start` begins to list.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[str, str]],
        mini_batch_size: int,
        new_manifest: Callable[[], Writer],
        *,
        earlier: Earlier | None = None,
        skip: Callable[[int], bool] | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """Prepare.

        Args:
            inputs: (name, path) of each, in order.
            mini_batch_size: items in a mini-batch.
            new_manifest: creates our own epoch's; not called when the earlier one is complete.
            earlier: what is resumed, or None.
            skip: tells of an id whether it is done, so that it is not queued.
            exclude: folders that are not listed: the run's own output.
        """
        self._inputs = tuple(inputs)
        self._size = mini_batch_size
        self._skip = skip or (lambda _id: False)
        self._exclude = tuple(exclude)
        self._writer: Writer | None = None
        self._next_id = 0
        self._next_item = 0
        self._unusable_count = 0
        self._kept: str | None = None
        self._kept_bytes = 0
        self._needed = earlier.needed if earlier else 0
        self._complete = earlier is not None and earlier.complete_bytes is not None
        if earlier is not None and earlier.complete_bytes is not None:
            self._kept, self._kept_bytes = earlier.path, earlier.complete_bytes
        else:
            self._writer = new_manifest()
            self._begin(self._writer, earlier.path if earlier else None)

        # Shared with the thread, under _changed.
        self._changed = threading.Condition()
        self._queue: deque[MiniBatch] = deque()
        self._queued_items = 0
        self._unusable: list[Unusable] = []
        self._totals: ListingEnded | None = None
        self._error: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="lister", daemon=True)

    def _begin(self, writer: Writer, earlier: str | None) -> None:
        """Copy what is good of the earlier manifest, and make it last."""
        held = 0
        try:
            if earlier is not None and os.path.exists(earlier):
                reading = manifest.read(earlier)
                for _ in reading:
                    pass
                _copy(earlier, reading.good_bytes - _end_line_bytes(reading), writer)
                held = reading.mini_batches
                self._kept, self._kept_bytes = writer.path, writer.end
            writer.sync()
            self._expect_needed(earlier or writer.path, held)
        except OSError as error:
            writer.close()
            raise StorageError(
                f"storage: {earlier}: {error.strerror or error}; run the same command again when "
                "the file system is well"
            ) from error
        except BaseException:
            writer.close()
            raise

    def _expect_needed(self, path: str, held: int) -> None:
        if held < self._needed:
            raise ResumeError(
                f"{path}: holds {held:,} mini-batches, the journal speaks of {self._needed:,}; "
                "restore the file from a copy, or start over: --fresh"
            )

    # ------------------------------------------------------------------ for the caller

    def start(self) -> None:
        """Begin to list."""
        self._thread.start()

    def take(self, limit: int) -> list[MiniBatch]:
        """Up to `limit` mini-batches, none when there are none yet; raises what ended the listing.

        The error comes when all that was listed before it has been taken.
        """
        error = self._error  # read first: what was queued before it must be taken before
        if not self._queue:
            if error is not None:
                raise error
            return []
        taken: list[MiniBatch] = []
        with self._changed:
            while self._queue and len(taken) < limit:
                mini_batch = self._queue.popleft()
                self._queued_items -= mini_batch.items
                taken.append(mini_batch)
            self._changed.notify()
        return taken

    def unusable(self) -> list[Unusable]:
        """Those found since the last call; on a resume the earlier ones come again."""
        if not self._unusable:
            return []
        with self._changed:
            unusable, self._unusable = self._unusable, []
            self._changed.notify()
        return unusable

    @property
    def finished(self) -> ListingEnded | None:
        """The totals, once all was listed and taken."""
        totals = self._totals  # read first: it is set when all is queued
        return None if self._queue or self._unusable else totals

    def sync(self) -> None:
        """Make our manifest durable as far as it is written; for the committer's thread."""
        if self._writer is not None:
            self._writer.sync()

    def close(self) -> None:
        """Stop listing; what is queued is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._writer is not None:
            self._writer.stop()
        # A listing may hang in a system call on a dead mount: the thread is a daemon.
        if self._thread.is_alive():
            self._thread.join(5.0)
        if self._writer is not None and not self._thread.is_alive():
            self._writer.close()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            totals = self._reread() if self._complete else self._list()
            with self._changed:
                self._totals = totals
        except _StoppedError:
            pass
        except InferError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001  whatever it is, the main thread must hear of it
            self._error = InferError(f"the listing failed: {type(error).__name__}: {error}")
            self._error.__cause__ = error

    def _reread(self) -> ListingEnded:
        reading = manifest.read_complete(self._kept or "", self._kept_bytes)
        self._queue_kept(reading)
        if reading.totals is None:
            raise InferError("a complete manifest has no end")
        self._expect_needed(reading.path, reading.mini_batches)
        return reading.totals

    def _queue_kept(self, reading: ManifestReading) -> None:
        for entry in reading:
            if isinstance(entry, Unusable):
                self._add_unusable(entry)
            elif not self._skip(entry.id):
                self._add(entry)

    def _list(self) -> ListingEnded:
        writer = self._expect_writer()
        known = Known(None, 0)
        if self._kept is not None and self._kept_bytes:
            reading = manifest.read(self._kept, end_bytes=self._kept_bytes)
            self._queue_kept(reading)
            self._next_id, self._next_item = reading.mini_batches, reading.items
            self._unusable_count = reading.unusable
            known = Known(self._kept, self._kept_bytes)
        for index, (name, path) in enumerate(self._inputs):
            self._list_input(index, name, path, known)
        writer.append(manifest.encode_end(self._next_id, self._next_item, self._unusable_count))
        return ListingEnded(self._next_id, self._next_item, self._unusable_count, writer.end)

    def _list_input(self, index: int, name: str, path: str, known: Known) -> None:
        pending: list[bytes] = []
        size = self._size
        for chunk in listing.list_chunks(name, path, exclude=self._exclude):
            if isinstance(chunk, tuple):
                if not known.has_unusable(index, chunk[0]):
                    self._spool_unusable(Unusable(index, *chunk))
                continue
            pending += known.new_of(index, chunk)
            whole = len(pending) - len(pending) % size
            if whole:
                self._spool(index, pending[:whole])
                pending = pending[whole:]
        if pending:
            self._spool(index, pending)

    def _spool(self, index: int, paths: list[bytes]) -> None:
        """Cut, write the lines, then queue: in parts, for the first must not wait for the last."""
        cut: list[MiniBatch] = []
        lines: list[bytes] = []
        waiting = 0
        for start in range(0, len(paths), self._size):
            mini_batch = MiniBatch(
                id=self._next_id,
                input_index=index,
                first_item=self._next_item,
                paths=tuple(paths[start : start + self._size]),
            )
            self._next_id += 1
            self._next_item += mini_batch.items
            cut.append(mini_batch)
            line = manifest.encode(mini_batch)
            lines.append(line)
            waiting += len(line)
            if waiting >= _WRITE_BYTES:
                self._flush(cut, lines)
                cut, lines, waiting = [], [], 0
        self._flush(cut, lines)

    def _flush(self, cut: list[MiniBatch], lines: list[bytes]) -> None:
        self._expect_writer().append(b"".join(lines))
        for mini_batch in cut:
            self._add(mini_batch)

    def _spool_unusable(self, item: Unusable) -> None:
        self._unusable_count += 1
        self._expect_writer().append(manifest.encode(item))
        self._add_unusable(item)

    def _add(self, mini_batch: MiniBatch) -> None:
        with self._changed:
            while not self._closing and (
                len(self._queue) >= MINI_BATCHES_MAX or self._queued_items >= ITEMS_MAX
            ):
                self._changed.wait()
            if self._closing:
                raise _StoppedError
            self._queue.append(mini_batch)
            self._queued_items += mini_batch.items

    def _add_unusable(self, item: Unusable) -> None:
        with self._changed:
            while not self._closing and len(self._unusable) >= UNUSABLE_MAX:
                self._changed.wait()
            if self._closing:
                raise _StoppedError
            self._unusable.append(item)

    def _expect_writer(self) -> Writer:
        if self._writer is None:
            raise InferError("a complete manifest is not written to")
        return self._writer


def _copy(source: str, count: int, writer: Writer) -> None:
    with open(source, "rb") as file:
        while count:
            data = file.read(min(count, 1 << 20))
            if not data:
                raise ResumeError(f"{source}: became shorter while it was read")
            writer.append(data)
            count -= len(data)


def _end_line_bytes(reading: ManifestReading) -> int:
    """Of the end line, which an incomplete listing must not inherit."""
    if reading.totals is None:
        return 0
    return len(manifest.encode_end(reading.mini_batches, reading.items, reading.unusable))
