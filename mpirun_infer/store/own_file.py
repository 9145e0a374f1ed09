"""A file of our own epoch that only grows: written at its end, synced once.

Owns short writes, the way back after a write that found no space, how long to wait for it, and the
words for a broken disk.
Touches: the output file system, through `store.disk`.
Never:   retries a failed sync; sleeps (it asks its caller to).
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence

from mpirun_infer.core.events import Buffer
from mpirun_infer.errors import StorageError
from mpirun_infer.store.disk import Disk, length_of

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_BUFFERS_MAX = 1000  # IOV_MAX is 1024

Notice = Callable[[str, str], None]
"""Tells people: level and text."""


class SpaceWait:
    """Waiting for space, told to people once, until `storage_wait_s` is over.

    `pause` waits a little between two tries; when it says False, or raises, that was the last one.
    """

    def __init__(
        self,
        folder: str,
        *,
        storage_wait_s: float,
        notice: Notice | None,
        pause: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._storage_wait_s = storage_wait_s
        self._notice = notice or (lambda _level, _text: None)
        self._pause = pause
        self._told = False

    def wait(self, began: float, error: OSError, wanted: int) -> None:
        """Until the next try; StorageError when there is none. `began`: the first try's time."""
        waited_s = time.monotonic() - began
        text = no_space_text(self._folder, error, wanted)
        if waited_s < self._storage_wait_s:
            if not self._told:
                self._told = True
                self._notice("warning", f"{text}; waiting for up to {self._storage_wait_s:.0f} s")
            if self._pause():
                return
        raise StorageError(
            f"{text} after {waited_s:.0f} s; free some, run the same command again"
        ) from error

    def found(self) -> None:
        """A write went through."""
        if self._told:
            self._told = False
            self._notice("info", "storage: there is space again, going on")


class OwnFile:
    """Made by its constructor; FileExistsError when it is there already."""

    def __init__(self, path: str, disk: Disk, *, strict: bool, space: SpaceWait) -> None:
        self.path = path
        self.end = 0
        self._disk = disk
        self._strict = strict
        self._space = space
        self._fd = disk.create(path)
        self._counts_names = os.fstat(self._fd).st_nlink > 0  # some file systems always say 0

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Write all of it, then sync if that is wanted; StorageError when that is impossible."""
        self.write(buffers)
        if self._strict:
            self.sync()

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all of it; StorageError when that is impossible."""
        wanted = sum(length_of(buffer) for buffer in buffers)
        began: float | None = None
        while True:
            try:
                self._expect_whole()
                self._write(buffers)
                break
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise broken(self.path, error) from error
                began = time.monotonic() if began is None else began
                self._cut_back()
                self._space.wait(began, error, wanted)
        self.end += wanted
        self._space.found()

    def _expect_whole(self) -> None:
        """A write behind the end of a file that somebody has cut would fill it up with NUL."""
        found = os.fstat(self._fd)
        if found.st_size < self.end:
            raise StorageError(
                f"storage: {self.path}: has {found.st_size:,} bytes, {self.end:,} were written: "
                "somebody changed the file while the run went on; restore it from a copy, or start "
                "over: --fresh"
            )
        if self._counts_names and not found.st_nlink:
            raise StorageError(
                f"storage: {self.path}: somebody removed the file while the run went on; restore "
                "it from a copy, or start over: --fresh"
            )

    def _write(self, buffers: Sequence[Buffer]) -> None:
        offset = self.end
        for start in range(0, len(buffers), _BUFFERS_MAX):
            rest = [memoryview(buffer) for buffer in buffers[start : start + _BUFFERS_MAX]]
            while rest:
                written = self._disk.pwritev(self._fd, rest, offset)
                if written <= 0:
                    raise OSError(errno.EIO, "a write wrote nothing")
                offset += written
                while rest and written >= rest[0].nbytes:
                    written -= rest.pop(0).nbytes
                if written:
                    rest[0] = rest[0].cast("B")[written:]

    def _cut_back(self) -> None:
        try:
            self._disk.truncate(self._fd, self.end)
        except OSError as error:
            raise broken(self.path, error) from error

    def sync(self) -> None:
        """Make durable what is written; after a StorageError never again."""
        try:
            self._disk.fdatasync(self._fd)
        except OSError as error:
            # The kernel may have dropped the pages: a second try would succeed and prove nothing.
            raise broken(self.path, error) from error

    def close(self) -> None:
        """Everything that counts was synced: an error here has nothing left to tell."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


def broken(path: str, error: OSError) -> StorageError:
    """For what no waiting cures."""
    return StorageError(
        f"storage: {path}: {error.strerror or error}; what was committed is kept: run the same "
        "command again when the file system is well"
    )


def no_space_text(folder: str, error: OSError, wanted: int = 0) -> str:
    """`storage: no space left on /scratch (0 bytes free, 8 MB wanted)`."""
    place = folder
    while not os.path.ismount(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    what = "quota is used up" if error.errno == errno.EDQUOT else "no space left"
    try:
        facts = os.statvfs(folder)
        free = _size(facts.f_bavail * facts.f_frsize)
    except OSError:
        free = "unknown"
    more = f", {_size(wanted)} wanted" if wanted else ""
    return f"storage: {what} on {place} ({free} free{more})"


def no_room(folder: str, error: OSError) -> StorageError:
    """For a run that finds no space before it has begun."""
    return StorageError(f"{no_space_text(folder, error)}; free some, run the same command again")


def _size(count: int) -> str:
    """`0 bytes`, `8 MB`."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.0f} {unit}"
    return f"{count} bytes"
