"""The final rename, and all that keeps a woken old master from making it.

Owns the names that rows have in the course of their life.
Touches: the output file system, through `store.disk`.
Never:   opens a segment of another epoch for writing; gives the final name to a file that another
         process may still write to.

How a successor (epoch S) fences an old master (epoch Z < S) that may wake at any instant. S first
creates its lock file, then calls `retire`, then reads Z's journal.

  * The final name is given by renaming `rows/final.<Z>`, a name that only epoch Z makes. Z makes
    it (a hard link of its own segment, checked to be the very file it wrote; or a copy), then looks
    whether it is superseded, then renames.
  * `retire` takes away Z's segment first (so that Z can link it no more), then `rows/final.<Z>`.
    If Z looked before S took the lock, `rows/final.<Z>` was there before `retire` removed it: Z's
    rename finds nothing. Or Z was faster, and its journal, which S reads later, says complete.
  * The file under the final name is Z's own segment only if Z wrote all of it; S never publishes a
    file of Z's, it copies the ranges that count, for Z may still have it open.
  * Names are resolved from the open lock folder, so a run moved aside by --fresh stays what it was.
"""

import contextlib
import errno
import os
from collections.abc import Container, Sequence

import msgspec

from mpirun_infer.core.records import Segment
from mpirun_infer.errors import ResumeError, StorageError
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.lock import Lock
from mpirun_infer.store.recover import HeaderPlace
from mpirun_infer.store.run_folder import RunFolder

_COPY_BYTES = 64 << 20
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)


class Range(msgspec.Struct, frozen=True):
    """Bytes [offset, offset + length) of an epoch's rows."""

    epoch: int
    offset: int
    length: int


def layout(segments: Sequence[Segment], header: HeaderPlace | None) -> list[Range]:
    """What the final file consists of, in order: the header, then each epoch's rows without it."""
    ranges: list[Range] = []

    def add(epoch: int, offset: int, length: int) -> None:
        if not length:
            return
        last = ranges[-1] if ranges else None
        if last and last.epoch == epoch and last.offset + last.length == offset:
            ranges[-1] = Range(epoch, last.offset, last.length + length)
        else:
            ranges.append(Range(epoch, offset, length))

    if header is not None:
        add(header.epoch, header.header.offset, header.header.length)
    for segment in segments:
        if header is not None and header.epoch == segment.epoch:
            start = header.header.offset
            end = start + header.header.length
            add(segment.epoch, 0, start)
            add(segment.epoch, end, segment.rows_end - end)
        else:
            add(segment.epoch, 0, segment.rows_end)
    return ranges


def retire(folder: RunFolder, epochs: Container[int], *, disk: Disk | None = None) -> None:
    """Put the segments of earlier epochs where they can no longer be published by their makers.

    May be repeated, and may be done by two at once.
    """
    disk = disk or Disk()
    try:
        for epoch in folder.epochs_with_files():
            if epoch not in epochs:
                continue
            _retire(folder, epoch, disk)
            _unlink(disk, folder.assembled(epoch))
        disk.fsync_folder(folder.rows_dir)
        disk.fsync_folder(folder.output)
    except OSError as error:
        raise _broken(error, folder.rows_dir) from error


def _retire(folder: RunFolder, epoch: int, disk: Disk) -> None:
    source, target = folder.segment(epoch), folder.retired_segment(epoch)
    try:
        # Not rename: it would replace a segment that is there already.
        disk.link(source, target)
    except FileNotFoundError:
        return
    except FileExistsError:
        # Retired before. Under epoch 1's name a failed run keeps a copy of all rows for people.
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if not os.path.lexists(target):
            with contextlib.suppress(FileNotFoundError):
                disk.rename(source, target)
            return
    _unlink(disk, source)


def publish(
    folder: RunFolder,
    lock: Lock,
    segments: Sequence[Segment],
    header: HeaderPlace | None = None,
    *,
    disk: Disk | None = None,
) -> None:
    """Give all rows the final name; the journal must say "complete", and no writer be open.

    Idempotent: done again after a crash it ends in the same state.
    """
    disk = disk or Disk()
    size = sum(segment.rows_end for segment in segments)
    try:
        if os.path.lexists(folder.final):
            _expect_published(folder, size)
        else:
            _assemble(folder, lock, layout(segments, header), size, disk)
            _rename(folder, lock, folder.final, disk)
        _tidy(folder, lock, disk)
    except OSError as error:
        raise _broken(error, folder.final) from error


def keep_partial(
    folder: RunFolder,
    lock: Lock,
    segments: Sequence[Segment],
    header: HeaderPlace | None = None,
    *,
    disk: Disk | None = None,
) -> None:
    """Gather the rows of a failed run in `<name>.partial`; the segments stay for a resume.

    Nothing is done when they are all there already. No writer may be open.
    """
    if lock.epoch == 1:
        return
    disk = disk or Disk()
    size = sum(segment.rows_end for segment in segments)
    try:
        _assemble(folder, lock, layout(segments, header), size, disk)
        _retire(folder, lock.epoch, disk)
        _rename(folder, lock, folder.partial, disk)
    except OSError as error:
        raise _broken(error, folder.partial) from error


def discard(folder: RunFolder, lock: Lock, *, disk: Disk | None = None) -> None:
    """Remove the empty segments of a complete run that writes no rows (`summary_only`)."""
    try:
        _tidy(folder, lock, disk or Disk())
    except OSError as error:
        raise _broken(error, folder.rows_dir) from error


# --------------------------------------------------------------------------- steps


def _assemble(
    folder: RunFolder, lock: Lock, ranges: Sequence[Range], size: int, disk: Disk
) -> None:
    """Make `rows/final.<epoch>`, whole and durable, under a name that only we use."""
    own = any(part.epoch == lock.epoch for part in ranges)
    if own and not os.path.lexists(folder.segment(lock.epoch)):
        raise _superseded(folder, lock)
    target = folder.assembled(lock.epoch)
    _unlink(disk, target)
    if not _link_own(folder, lock, ranges, target, disk):
        _copy(folder, ranges, target, size, disk)
    disk.fsync_folder(folder.rows_dir)


def _link_own(
    folder: RunFolder, lock: Lock, ranges: Sequence[Range], target: str, disk: Disk
) -> bool:
    """Spare the copy when all rows are in our own segment, in their final order."""
    if any(part.epoch != lock.epoch or part.offset for part in ranges) or len(ranges) > 1:
        return False
    source = folder.segment(lock.epoch)
    length = ranges[0].length if ranges else 0
    try:
        fd = os.open(source, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(fd)
        if found.st_size < length:
            raise _short(source, found.st_size, length)
        try:
            disk.link(source, target)
        except FileNotFoundError:
            raise _superseded(folder, lock) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        linked = os.lstat(target)
        if (linked.st_dev, linked.st_ino) != (found.st_dev, found.st_ino) or lock.superseded():
            _unlink(disk, target)
            raise _superseded(folder, lock)
        if found.st_size > length:
            disk.truncate(fd, length)
        os.fchmod(fd, _mode())
        disk.fdatasync(fd)
    finally:
        os.close(fd)
    return True


def _copy(folder: RunFolder, ranges: Sequence[Range], target: str, size: int, disk: Disk) -> None:
    out = disk.create(target)
    try:
        at = 0
        for part in ranges:
            source = folder.rows_file(part.epoch)
            if source is None:
                raise _short(folder.segment(part.epoch), 0, part.offset + part.length)
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _copy_range(fd, part, out, at, source, disk)
            finally:
                os.close(fd)
            at += part.length
        if at != size or os.fstat(out).st_size != size:
            raise _short(target, at, size)
        os.fchmod(out, _mode())
        disk.fdatasync(out)
    finally:
        os.close(out)


def _copy_range(fd: int, part: Range, out: int, at: int, source: str, disk: Disk) -> None:
    done = 0
    in_kernel = True
    while done < part.length:
        count = min(part.length - done, _COPY_BYTES)
        copied = 0
        if in_kernel:
            try:
                copied = disk.copy_range(fd, out, count, part.offset + done, at + done)
            except OSError as error:
                if error.errno not in _NO_COPY_RANGE:
                    raise
                in_kernel = False
        if not copied:
            # Some file systems say 0 where they mean "not here"; a read knows.
            data = os.pread(fd, min(count, 8 << 20), part.offset + done)
            if not data:
                raise _short(source, part.offset + done, part.offset + part.length)
            copied = disk.pwritev(out, [data], at + done)
        done += copied


def _rename(folder: RunFolder, lock: Lock, path: str, disk: Disk) -> None:
    """The last look, and the rename right after it."""
    if lock.superseded():
        raise _superseded(folder, lock)
    source = folder.from_lock_dir(folder.assembled(lock.epoch))
    target = folder.from_lock_dir(path)
    try:
        disk.rename(source, target, lock.folder_fd)
    except FileNotFoundError:
        raise _superseded(folder, lock) from None
    disk.fsync_folder(folder.output)
    disk.fsync_folder(folder.rows_dir)


def _tidy(folder: RunFolder, lock: Lock, disk: Disk) -> None:
    """Take away the segments: all that counts has its final name."""
    for path in folder.leftovers(lock.epoch):
        if lock.superseded():
            raise _superseded(folder, lock)
        _unlink(disk, path)
    disk.fsync_folder(folder.output)
    disk.fsync_folder(folder.rows_dir)


def _expect_published(folder: RunFolder, size: int) -> None:
    found = os.lstat(folder.final)
    if found.st_size != size:
        raise ResumeError(
            f"{folder.final}: is there already, with {found.st_size:,} bytes instead of {size:,}; "
            "move it away and run the same command again"
        )


def _unlink(disk: Disk, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(path)


def _mode() -> int:
    """What a new file of the user's would have; the segments were private until now."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return 0o666 & ~int(line.split()[1], 8)
    except OSError:
        pass
    return 0o600


def _short(path: str, found: int, wanted: int) -> ResumeError:
    return ResumeError(
        f"{path}: has {found:,} bytes of rows, {wanted:,} were committed; restore it from a copy, "
        "or start over: --fresh"
    )


def _superseded(folder: RunFolder, lock: Lock) -> StorageError:
    why = lock.why_lost(folder)
    if not why and not os.path.lexists(folder.segment(lock.epoch)):
        why = f"somebody removed {folder.segment(lock.epoch)}"
    why = why or "another master may have taken over"
    return StorageError(
        f"{folder.output}: {why} while epoch {lock.epoch} published its rows; this master stops "
        "and changes nothing more"
    )


def _broken(error: OSError, path: str) -> StorageError:
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else path
    return StorageError(
        f"storage: {name}: {error.strerror or error}; all rows are kept: run the same command "
        "again when the file system is well (or has space)"
    )
