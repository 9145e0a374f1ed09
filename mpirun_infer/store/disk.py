"""The calls that change the output file system, one method each.

Owns the list of such calls: a test (or a fault hook) replaces this object and sees, refuses or
tears every write, sync, truncate, link, rename and unlink that decides what a run has done.
Touches: the output file system.
Never:   retries; decides what an error means; writes logs (`store.log_sink` does, for itself).
"""

import os
from collections.abc import Sequence

from mpirun_infer.core.events import Buffer


def length_of(buffer: Buffer) -> int:
    """In bytes, whatever the items of a memoryview are."""
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


class Disk:
    """The real one."""

    def create(self, path: str) -> int:
        """A new file, ours alone, open for reading and writing; FileExistsError otherwise."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """May write less than asked, like the call it is named after."""
        return os.pwritev(fd, buffers, offset)

    def copy_range(self, source: int, target: int, count: int, source_at: int, at: int) -> int:
        """`copy_file_range`: may copy less than asked; 0 at the end of the source."""
        return os.copy_file_range(source, target, count, source_at, at)

    def fdatasync(self, fd: int) -> None:
        """A failure must never be followed by a second try on the same data."""
        os.fdatasync(fd)

    def fsync_folder(self, path: str) -> None:
        """Makes created, renamed and removed names durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cuts a file of our own epoch back."""
        os.ftruncate(fd, length)

    def link(self, source: str, target: str) -> None:
        """FileExistsError when the target is there: it never replaces anything."""
        os.link(source, target, follow_symlinks=False)

    def rename(self, source: str, target: str, folder_fd: int | None = None) -> None:
        """With `folder_fd` both names are relative to that folder, wherever it is by now."""
        os.rename(source, target, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)

    def unlink(self, path: str) -> None:
        """Removes a name; what has it open keeps the file."""
        os.unlink(path)
