"""Group commit: rows first, then the records that name them, each synced before it counts.

Owns the two files of our epoch that are written (rows segment, journal segment) and the one thread
that does it.
Touches: the output file system, through `store.disk`.
Never:   writes a file of another epoch; retries a failed sync; says "durable" of what is not.

    submit() -> queue -> group: rows written | rows synced | manifest synced | records written
                                | records synced -> poll()

Before each group it looks whether a later epoch has begun. No space: the file is cut back to its
committed end and the write is tried again until `storage_wait_s` is over. Any other failure is the
end.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from mpirun_infer.core.events import Buffer
from mpirun_infer.core.records import Committed, Dispatched, Header, Opened, Record, Segment
from mpirun_infer.errors import InferError, StorageError
from mpirun_infer.store import journal
from mpirun_infer.store.disk import Disk, length_of
from mpirun_infer.store.lock import BEAT_S, Lock
from mpirun_infer.store.own_file import Notice, OwnFile, SpaceWait, broken
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.store.sums import check_sums


class CommitLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a group closes, and how much may wait."""

    group_bytes: int = 8 << 20
    group_s: float = 0.05
    advisory_s: float = 1.0
    queue_bytes_max: int = 256 << 20
    queue_records_max: int = 200_000
    space_look_s: float = 1.0


class _Batch(msgspec.Struct):
    records: Sequence[Record]
    rows: Sequence[Buffer]
    row_bytes: int


class Committer:
    """Makes records and rows durable in the order of `submit`.

    `submit`, `poll`, `flush` and `close` are for one thread, and never wait for the disk (`close`
    does). The caller stops taking rows in while `has_room` is false: that bounds the queue.
    """

    def __init__(  # noqa: PLR0913  what it works on, and how
        self,
        folder: RunFolder,
        lock: Lock,
        opened: Opened,
        *,
        durability: str = "strict",
        storage_wait_s: float = 600.0,
        sync_manifest: Callable[[], None] | None = None,
        notice: Notice | None = None,
        disk: Disk | None = None,
        limits: CommitLimits | None = None,
    ) -> None:
        """Create this epoch's files, make `opened` durable in them, start the thread.

        `sync_manifest` is called before records are written (its StorageError ends all), `notice`
        with level and text for people.
        """
        if opened.epoch != lock.epoch:
            raise InferError(f"epoch {opened.epoch} opened under the lock of epoch {lock.epoch}")
        self._folder = folder
        self._lock = lock
        self._strict = durability == "strict"
        self._sync_manifest = sync_manifest
        self._space = SpaceWait(
            folder.output,
            storage_wait_s=storage_wait_s,
            notice=notice,
            pause=self._pause_for_space,
        )
        self._disk = disk or Disk()
        self._limits = limits or CommitLimits()

        self._rows: OwnFile | None = None
        self._journal: OwnFile | None = None
        self._next_seq = 1  # durable, as is _rows_end
        self._rows_end = 0
        self._beat_at = time.monotonic()

        # Shared with the thread, under _changed.
        self._changed = threading.Condition()
        self._queue: deque[_Batch] = deque()
        self._due_at: float | None = None
        self._waiting_bytes = 0
        self._waiting_records = 0
        self._held_bytes = 0
        self._held_records = 0
        self._durable: list[Record] = []
        self._error: InferError | None = None
        self._closing = False
        self._abandoned = False
        self._submitted_end = 0
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        try:
            self._create(opened)
        except BaseException:
            self._close_files()
            raise
        self._thread.start()

    def _create(self, opened: Opened) -> None:
        path = self._folder.segment(opened.epoch)
        try:
            self._rows = self._own_file(path)
            path = self._folder.journal_segment(opened.epoch)
            self._journal = self._own_file(path)
            if self._strict:
                self._disk.fsync_folder(self._folder.output)
                self._disk.fsync_folder(self._folder.journal_dir)
        except FileExistsError as error:
            raise StorageError(
                f"{path}: is there already, though epoch {opened.epoch} has only begun; another "
                "master may have taken over: run the same command again"
            ) from error
        except OSError as error:
            raise broken(path, error) from error
        self._write_records((opened,))
        self._expect_ours()

    def _own_file(self, path: str) -> OwnFile:
        return OwnFile(path, self._disk, strict=self._strict, space=self._space)

    # ------------------------------------------------------------------ for the caller

    @property
    def queued_bytes(self) -> int:
        """Row bytes that are not durable yet."""
        return self._waiting_bytes + self._held_bytes

    @property
    def has_room(self) -> bool:
        """Whether more rows should be taken in."""
        return (
            self.queued_bytes < self._limits.queue_bytes_max
            and self._waiting_records + self._held_records < self._limits.queue_records_max
        )

    @property
    def segment(self) -> Segment:
        """What of this epoch is durable."""
        with self._changed:
            return Segment(self._lock.epoch, self._next_seq, self._rows_end)

    def submit(self, records: Sequence[Record], rows: Sequence[Buffer] = ()) -> None:
        """Queue records and the rows they name, whose bytes follow each other in `rows`."""
        row_bytes = sum(length_of(buffer) for buffer in rows)
        end = self._submitted_end
        advisory = True
        for record in records:
            if isinstance(record, Committed | Header):
                if record.offset != end:
                    raise InferError(f"rows at {record.offset:,}, but {end:,} is the end of file")
                end += record.length
            advisory = advisory and isinstance(record, Dispatched)
        if end - self._submitted_end != row_bytes:
            raise InferError(
                f"{row_bytes:,} bytes of rows, but records that name {end - self._submitted_end:,}"
            )
        if not records:
            return
        self._submitted_end = end
        limits = self._limits
        due_at = time.monotonic() + (limits.advisory_s if advisory else limits.group_s)
        with self._changed:
            self._queue.append(_Batch(records, rows, row_bytes))
            self._waiting_bytes += row_bytes
            self._waiting_records += len(records)
            sooner = self._due_at is None or due_at < self._due_at
            if sooner:
                self._due_at = due_at
            if sooner or self._waiting_bytes >= limits.group_bytes:
                self._changed.notify()

    def flush(self) -> None:
        """Write what is queued now: someone waits for it."""
        with self._changed:
            if self._queue:
                self._due_at = 0.0
                self._changed.notify()

    def poll(self) -> list[Record]:
        """Records that became durable since the last call, in order.

        Raises StorageError (or InferError, if the fault is ours) once all those were told.
        """
        if not self._durable and self._error is None:
            return []
        with self._changed:
            durable, self._durable = self._durable, []
        if not durable and self._error is not None:
            raise self._error
        return durable

    def close(self, *, abandon: bool = False) -> None:
        """Write what is queued (unless `abandon`), stop the thread, close the files.

        Raises nothing: `poll` tells what became durable and what went wrong.
        """
        with self._changed:
            self._closing = True
            self._abandoned = abandon
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._close_files()

    def _close_files(self) -> None:
        for file in (self._rows, self._journal):
            if file is not None:
                file.close()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while group := self._next_group():
                self._commit(group)
                with self._changed:
                    self._held_bytes = self._held_records = 0
                    self._durable.extend(record for batch in group for record in batch.records)
        except InferError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001  whatever it is, the main thread must hear of it
            self._error = InferError(f"the committer failed: {type(error).__name__}: {error}")
            self._error.__cause__ = error

    def _next_group(self) -> list[_Batch]:
        """Wait until a group is due; empty: the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._closing and (self._abandoned or not self._queue):
                    return []
                full = self._waiting_bytes >= self._limits.group_bytes
                if self._queue and (
                    full or self._closing or (self._due_at is not None and self._due_at <= now)
                ):
                    return self._take()
                due_at = self._due_at if self._due_at is not None else now + BEAT_S
                if now >= self._beat_at:
                    self._changed.release()
                    try:
                        self._beat()
                    finally:
                        self._changed.acquire()
                    continue
                self._changed.wait(min(due_at, self._beat_at) - now)

    def _take(self) -> list[_Batch]:
        """All that waits, though not much more than a few groups in one."""
        group: list[_Batch] = []
        while self._queue and self._held_bytes < 4 * self._limits.group_bytes:
            batch = self._queue.popleft()
            group.append(batch)
            self._held_bytes += batch.row_bytes
            self._held_records += len(batch.records)
        self._waiting_bytes -= self._held_bytes
        self._waiting_records -= self._held_records
        self._due_at = 0.0 if self._queue else None
        return group

    def _beat(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._lock.beat()
            self._beat_at = time.monotonic() + BEAT_S

    def _commit(self, group: list[_Batch]) -> None:
        self._beat()
        self._expect_ours()
        rows = [row for batch in group for row in batch.rows if len(row)]
        records = [record for batch in group for record in batch.records]
        if rows and self._rows is not None:
            check_sums(records, rows)
            self._rows.append(rows)
        if self._sync_manifest is not None and self._strict:
            self._sync_manifest()
        self._write_records(records)
        with self._changed:
            self._rows_end += sum(batch.row_bytes for batch in group)

    def _write_records(self, records: Sequence[Record]) -> None:
        """The group's lines; in strict mode the first one says that all before it were synced."""
        seq = self._next_seq
        synced = seq - 1 if self._strict and seq > 1 else None
        lines = [journal.encode(seq, records[0], synced=synced)]
        lines += [
            journal.encode(number, record) for number, record in enumerate(records[1:], seq + 1)
        ]
        if self._journal is None:
            raise InferError("the committer has no journal")
        self._journal.append([b"".join(lines)])
        with self._changed:
            self._next_seq += len(records)

    def _pause_for_space(self) -> bool:
        """Between two tries; StorageError when another master rules."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned, self._limits.space_look_s)
        self._beat()
        self._expect_ours()
        return not self._abandoned

    def _expect_ours(self) -> None:
        lost = self._lock.why_lost(self._folder)
        if lost:
            raise StorageError(
                f"{self._folder.output}: {lost}; this master stops and changes nothing more"
            )
