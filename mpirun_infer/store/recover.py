"""What an earlier epoch left behind, told to a reducer record by record.

Owns the rule of what counts: the newest epoch with a durable `Opened` record names what it accepts
of each epoch before it; its own records count up to the end of the good part of its journal. All
else (records and rows that a woken old master wrote later) does not exist.
Touches: reads journal and rows segments; at a takeover syncs them, which changes nothing in them.
Never:   writes to a file of an earlier epoch.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable

import msgspec

from mpirun_infer.core.records import (
    Committed,
    Dispatched,
    Ended,
    Failed,
    Header,
    Listed,
    Opened,
    Record,
    Segment,
    TryFailed,
)
from mpirun_infer.errors import InferError, ResumeError, StorageError
from mpirun_infer.store import journal
from mpirun_infer.store.run_folder import RunFolder

TAIL_BYTES = 16 << 20
_TAIL_RECORDS = 4096
_PROGRESS_EVERY = 10_000


class HeaderPlace(msgspec.Struct, frozen=True):
    """Where the one line of column names stands."""

    epoch: int
    header: Header


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal holds.

    Attributes:
        segments: what counts of each epoch, in order; the `accepted` of the next `Opened`.
        opened: of the newest epoch that counts; None: there was no run.
        last_ended: the last record of that epoch, if it ended by decision.
        listed: the listing is complete, and in which epoch's manifest.
        manifest_epoch: whose manifest holds the mini-batches; 0: nobody's.
        mini_batches_known: 1 + the highest mini-batch that a record names.
        header: where the column names stand.
    """

    segments: tuple[Segment, ...] = ()
    opened: Opened | None = None
    last_ended: Ended | None = None
    listed: Listed | None = None
    manifest_epoch: int = 0
    mini_batches_known: int = 0
    header: HeaderPlace | None = None

    @property
    def run_id(self) -> str:
        """Empty when there was no run."""
        return self.opened.run_id if self.opened else ""

    @property
    def complete(self) -> bool:
        """The run was decided to be complete; its file may still have to be published."""
        return self.last_ended is not None and self.last_ended.state == "complete"

    @property
    def rows_bytes(self) -> int:
        """Of all segments together."""
        return sum(segment.rows_end for segment in self.segments)


class _Summary:
    """What `Recovered` needs to know, gathered while the records go by."""

    def __init__(self) -> None:
        self.epoch = 0
        self.rows_end = 0
        self.mini_batches_known = 0
        self.listed: Listed | None = None
        self.listed_epoch = 0
        self.header: HeaderPlace | None = None
        self.last: Record | None = None
        self.tail: deque[Committed | Header] = deque(maxlen=_TAIL_RECORDS)

    def begin(self, epoch: int) -> None:
        self.epoch = epoch
        self.rows_end = 0
        self.last = None
        self.tail.clear()

    def add(self, record: Record) -> None:
        self.last = record
        kind = type(record)
        if kind is Dispatched and isinstance(record, Dispatched):
            for mini_batch, _ in record.tries:
                if mini_batch >= self.mini_batches_known:
                    self.mini_batches_known = mini_batch + 1
        elif isinstance(record, Committed | Header):
            self.rows_end = max(self.rows_end, record.offset + record.length)
            self.tail.append(record)
            if isinstance(record, Header):
                self.header = HeaderPlace(self.epoch, record)
            elif record.mini_batch >= self.mini_batches_known:
                self.mini_batches_known = record.mini_batch + 1
        elif isinstance(record, Failed | TryFailed):
            self.mini_batches_known = max(self.mini_batches_known, record.mini_batch + 1)
        elif isinstance(record, Listed) and self.listed is None:
            self.listed = record
            self.listed_epoch = self.epoch


def replay(
    folder: RunFolder,
    apply: Callable[[Record], None],
    *,
    takeover: bool = False,
    on_progress: Callable[[], None] | None = None,
) -> Recovered:
    """Give `apply` every record that counts, in order, and say where things stand.

    `takeover` is for the next master (after `publish.retire`): what is about to be accepted is made
    durable, read back from the disk where possible, and the last rows are compared with their sums.
    `on_progress` is called now and then. Raises ResumeError when something is damaged or missing.
    """
    opened = _newest_opened(folder)
    if opened is None:
        _expect_no_final(folder)
        return Recovered()
    summary = _Summary()
    progress = on_progress or (lambda: None)
    _check_chain(folder, opened)
    for segment in opened.accepted:
        _replay_accepted(folder, segment, apply, summary, progress)
    path = folder.journal_segment(opened.epoch)
    if takeover:
        _settle(path)
    own = _replay_epoch(path, opened.epoch, None, apply, summary, progress)
    if takeover:
        # Its maker may still be writing: what was read after the first sync must last, too.
        _settle(path)
    segments = (*opened.accepted, Segment(opened.epoch, own.next_seq, summary.rows_end))
    recovered = Recovered(
        segments=segments,
        opened=opened,
        last_ended=summary.last if isinstance(summary.last, Ended) else None,
        listed=summary.listed,
        manifest_epoch=summary.listed_epoch or opened.epoch,
        mini_batches_known=summary.mini_batches_known,
        header=summary.header,
    )
    _check_rows(folder, recovered, summary, takeover=takeover)
    return recovered


def _newest_opened(folder: RunFolder) -> Opened | None:
    for epoch in reversed(folder.journal_epochs()):
        path = folder.journal_segment(epoch)
        for _, record in journal.read(path):
            if not isinstance(record, Opened) or record.epoch != epoch:
                raise ResumeError(
                    f"{path}: does not begin with the record that opens epoch {epoch}; restore the "
                    "file from a copy, or start over: --fresh"
                )
            return record
    return None


def _check_chain(folder: RunFolder, opened: Opened) -> None:
    epochs = [segment.epoch for segment in opened.accepted]
    if epochs != sorted(set(epochs)) or (epochs and epochs[-1] >= opened.epoch):
        raise ResumeError(
            f"{folder.journal_segment(opened.epoch)}: accepts epochs {epochs}, which is no order; "
            "start over: --fresh"
        )


def _replay_accepted(
    folder: RunFolder,
    segment: Segment,
    apply: Callable[[Record], None],
    summary: _Summary,
    progress: Callable[[], None],
) -> None:
    path = folder.journal_segment(segment.epoch)
    if not os.path.exists(path):
        raise ResumeError(
            f"{path}: is missing, a later epoch builds on its first {segment.next_seq - 1:,} "
            "records; restore it from a copy, or start over: --fresh"
        )
    reading = _replay_epoch(path, segment.epoch, segment.next_seq, apply, summary, progress)
    if reading.next_seq != segment.next_seq:
        raise ResumeError(
            f"{path}: ends after {reading.next_seq - 1:,} good records (byte "
            f"{reading.good_bytes:,}), a later epoch builds on {segment.next_seq - 1:,}; restore "
            "it from a copy, or start over: --fresh"
        )
    if summary.rows_end != segment.rows_end:
        raise ResumeError(
            f"{path}: names {summary.rows_end:,} bytes of rows, a later epoch builds on "
            f"{segment.rows_end:,}; restore it from a copy, or start over: --fresh"
        )


def _replay_epoch(
    path: str,
    epoch: int,
    stop_seq: int | None,
    apply: Callable[[Record], None],
    summary: _Summary,
    progress: Callable[[], None],
) -> journal.Reading:
    summary.begin(epoch)
    reading = journal.read(path, stop_seq=stop_seq)
    add = summary.add
    for seq, record in reading:
        if not seq % _PROGRESS_EVERY:
            progress()
        add(record)
        try:
            apply(record)
        except ResumeError:
            raise
        except InferError as error:
            raise ResumeError(
                f"{path}: record {seq:,} does not fit what came before it: {error}; restore the "
                "file from a copy, or start over: --fresh"
            ) from error
    return reading


# --------------------------------------------------------------------------- what is on the disk


def _settle(path: str) -> None:
    """Make what we are about to accept durable, and forget cached pages that may never be.

    After a failed sync the kernel may hold pages that it believes to be clean and that the disk
    does not have: they are dropped, so that what we read is what the disk holds.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(
            f"storage: {path}: {error.strerror}; run the same command again when the file system "
            "is well"
        ) from error


def _check_rows(
    folder: RunFolder, recovered: Recovered, summary: _Summary, *, takeover: bool
) -> None:
    published = os.path.lexists(folder.final)
    if published and recovered.complete:
        found = os.path.getsize(folder.final)
        if found != recovered.rows_bytes:
            raise ResumeError(
                f"{folder.final}: has {found:,} bytes, {recovered.rows_bytes:,} were written; it "
                "was changed since the run was complete; --fresh starts over"
            )
        return
    _expect_no_final(folder)
    for segment in recovered.segments:
        _check_length(folder, segment)
    own = recovered.segments[-1]
    path = folder.rows_file(own.epoch)
    if takeover and path is not None and own.rows_end:
        _settle(path)
        _check_tail(path, summary)


def _expect_no_final(folder: RunFolder) -> None:
    if os.path.lexists(folder.final):
        raise ResumeError(
            f"{folder.final}: is there, but the journal does not say that the run is complete; "
            "move the file away and run the same command again, or start over: --fresh"
        )


def _check_length(folder: RunFolder, segment: Segment) -> None:
    if not segment.rows_end:
        return
    path = folder.rows_file(segment.epoch)
    if path is None:
        raise ResumeError(
            f"{folder.segment(segment.epoch)}: is missing, {segment.rows_end:,} bytes of committed "
            "rows stood in it; restore it from a copy, or start over: --fresh"
        )
    found = os.path.getsize(path)
    if found < segment.rows_end:
        raise ResumeError(
            f"{path}: has {found:,} bytes, {segment.rows_end:,} bytes of rows were committed; "
            "restore it from a copy, or start over: --fresh"
        )


def _check_tail(path: str, summary: _Summary) -> None:
    """Compare the last rows of the newest epoch with their checksums."""
    checked = 0
    with open(path, "rb") as file:
        for record in reversed(summary.tail):
            if checked + record.length > TAIL_BYTES:
                return
            checked += record.length
            if not record.length:
                continue
            file.seek(record.offset)
            crc = zlib.crc32(file.read(record.length))
            if crc != record.crc:
                what = (
                    f"mini-batch {record.mini_batch}"
                    if isinstance(record, Committed)
                    else "the header"
                )
                raise ResumeError(
                    f"{path}: the rows of {what} (bytes {record.offset:,} to "
                    f"{record.offset + record.length:,}) are not those that were committed; "
                    "restore the file from a copy, or start over: --fresh"
                )
