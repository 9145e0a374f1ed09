"""What MPI keeps on this host while it runs, in folders that somebody removes in the end.

Owns these folders: session files in the temporary folder, shared memory in /dev/shm.
Touches: those two places; removes what launchers that are dead have left there.
Never:   touches a folder of another user or of a live launcher.

A killed mpiexec cleans nothing up. Its launcher does; when that was killed, too, the next one does.
"""

import contextlib
import os
import shutil
import socket
import stat
import tempfile

from mpirun_infer.model import SHARED_MEMORY_VARIABLE

PREFIX = "mpirun-infer"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Open MPI itself puts it


class Scratch:
    """A context: the folders are there inside it."""

    def __init__(self) -> None:
        self._folders: list[str] = []

    def __enter__(self) -> dict[str, str]:
        """Variables for mpiexec."""
        sessions = self._make(tempfile.gettempdir())
        shared = self._make(SHARED_MEMORY)
        environment = {}
        if sessions:
            environment["PRTE_MCA_prte_local_tmpdir_base"] = sessions
        if shared:
            environment[SHARED_MEMORY_VARIABLE] = shared
        return environment

    def __exit__(self, *exception: object) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()

    def _make(self, parent: str) -> str | None:
        """A folder of ours, or None where there can be none: MPI then does as it likes."""
        _sweep(parent)
        folder = os.path.join(parent, f"{_own()}.{os.getpid()}")
        try:
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier process with our number
            os.mkdir(folder, 0o700)
        except OSError:
            return None
        self._folders.append(folder)
        return folder


def _own() -> str:
    return f"{PREFIX}.{socket.gethostname()}.{os.geteuid()}"


def _sweep(parent: str) -> None:
    """Remove what our dead launchers left on this host."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            prefix, _, number = name.rpartition(".")
            if prefix != _own() or not number.isdecimal() or is_alive(int(number)):
                continue
            path = os.path.join(parent, name)
            facts = os.lstat(path)
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
