"""The manifest of our own epoch, as a file: `inputs` says what stands in it.

Owns when it is synced: not at each write, but before a record that relies on it.
Touches: the output file system, through `store.disk`.
Never:   opens the manifest of another epoch; knows what a line means.
"""

import os
import threading

from mpirun_infer.errors import StorageError
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.own_file import Notice, OwnFile, SpaceWait, broken
from mpirun_infer.store.run_folder import RunFolder

SPACE_LOOK_S = 1.0


class ManifestFile:
    """`inputs.lister.Writer`: one thread appends; `sync` and `stop` are for any thread."""

    def __init__(
        self,
        folder: RunFolder,
        epoch: int,
        *,
        storage_wait_s: float = 600.0,
        notice: Notice | None = None,
        disk: Disk | None = None,
        space_look_s: float = SPACE_LOOK_S,
    ) -> None:
        """Create the file; it must not be there yet. `notice(level, text)` tells people."""
        self.path = folder.manifest(epoch)
        self._stopped = threading.Event()
        self._space_look_s = space_look_s
        space = SpaceWait(
            folder.output, storage_wait_s=storage_wait_s, notice=notice, pause=self._pause
        )
        disk = disk or Disk()
        try:
            self._file = OwnFile(self.path, disk, strict=False, space=space)
            disk.fsync_folder(os.path.dirname(self.path))
        except FileExistsError as error:
            raise StorageError(
                f"{self.path}: is there already, though epoch {epoch} has only begun; another "
                "master may have taken over: run the same command again"
            ) from error
        except OSError as error:
            raise broken(self.path, error) from error
        self._synced = 0
        self._closed = False
        self._guard = threading.Lock()  # between a sync and the end

    @property
    def end(self) -> int:
        """Bytes written."""
        return self._file.end

    def append(self, data: bytes) -> None:
        """Write all of it; waits for space, raises StorageError when that is impossible."""
        self._file.write([data])

    def sync(self) -> None:
        """Make durable what is written; costs nothing when nothing is new."""
        with self._guard:
            written = self._file.end
            if not self._closed and written > self._synced:
                self._file.sync()
                self._synced = written

    def stop(self) -> None:
        """End a wait for space."""
        self._stopped.set()

    def close(self) -> None:
        """Nothing more is written; `sync` does nothing from now on."""
        with self._guard:
            self._closed = True
            self._file.close()

    def _pause(self) -> bool:
        return not self._stopped.wait(self._space_look_s)
