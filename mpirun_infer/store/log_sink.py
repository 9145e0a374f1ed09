"""Everything a rank writes for people goes through here, so that its main thread never waits.

Owns one daemon thread and a bounded queue of what is still to be written.
Touches: the output file system (logs, reports, status; never rows or records).
Never:   blocks its caller; raises for a failed write: it counts what was lost.
"""

import contextlib
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

ENTRIES_MAX = 20_000
BYTES_MAX = 64 << 20
CONTROL_LOOK_S = 0.5
_CAP_NOTE = b"\n[mpirun_infer: %d bytes reached, no more is kept]\n"


class LogLosses(msgspec.Struct, frozen=True):
    """What did not get written: because the queue was full, or because the write failed."""

    dropped: int = 0
    failed: int = 0
    last_error: str = ""


class LogSink:
    """Appends to files and replaces files, later, in order."""

    def __init__(
        self,
        *,
        root: str | None = None,
        fence: Callable[[], bool] | None = None,
        control_dir: str | None = None,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """A sink.

        With `root`, folders are made only below that one, and only while it is there. `fence` is
        asked before each round of writing: once it says True, what is there belongs to another
        master, and nothing more is written.
        """
        self._fence = fence
        self._root = root
        self._control_dir = control_dir
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._changed = threading.Condition()
        self._appends: deque[tuple[str, bytes, int | None]] = deque()
        self._replaces: dict[str, bytes] = {}
        self._waiting_bytes = 0
        self._dropped = 0
        self._failed = 0
        self._last_error = ""
        self._closing = False
        self._requests: frozenset[str] = frozenset()
        self._sizes: dict[str, int] = {}  # of files with a cap; the thread's own
        self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
        self._thread.start()

    def append(self, path: str, data: bytes, *, bytes_max: int | None = None) -> None:
        """Add to the end of a file, which is made with its folders at the first byte.

        Over `bytes_max` the file ends with a line that says so, and the rest is dropped.
        """
        if not data:
            return
        with self._changed:
            if (
                self._closing
                or len(self._appends) >= self._entries_max
                or self._waiting_bytes + len(data) > self._bytes_max
            ):
                self._dropped += 1
                return
            self._appends.append((path, data, bytes_max))
            self._waiting_bytes += len(data)
            self._changed.notify()

    def replace(self, path: str, data: bytes) -> None:
        """Put a whole new file in place; of several waiting for one path the newest is kept."""
        with self._changed:
            if self._closing:
                self._dropped += 1
                return
            self._replaces[path] = data
            self._changed.notify()

    def control_requests(self) -> frozenset[str]:
        """Names in the control folder, as of at most half a second ago (if the disk is well)."""
        return self._requests

    @property
    def losses(self) -> LogLosses:
        """What did not get written so far."""
        return LogLosses(self._dropped, self._failed, self._last_error)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what waits; False when the file system did not let us finish in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        look_at = time.monotonic()
        while True:
            with self._changed:
                if not (self._appends or self._replaces or self._closing):
                    self._changed.wait(
                        None if self._control_dir is None else max(0.0, look_at - time.monotonic())
                    )
                appends, self._appends = self._appends, deque()
                replaces, self._replaces = self._replaces, {}
                closing = self._closing
            if self._fence is not None and (appends or replaces) and self._fence():
                appends, replaces = deque(), {}
            self._write_appends(appends)
            for path, data in replaces.items():
                self._attempt(_replace, path, data)
            if self._control_dir is not None and time.monotonic() >= look_at:
                with contextlib.suppress(OSError):
                    self._requests = frozenset(os.listdir(self._control_dir))
                look_at = time.monotonic() + CONTROL_LOOK_S
            if closing and not appends and not replaces:
                return

    def _write_appends(self, appends: deque[tuple[str, bytes, int | None]]) -> None:
        """One open per file, whatever the order in which files take turns."""
        gathered: dict[str, list[bytes]] = {}
        caps: dict[str, int | None] = {}
        for path, data, bytes_max in appends:
            gathered.setdefault(path, []).append(data)
            caps[path] = bytes_max
        for path, parts in gathered.items():
            data = b"".join(parts)
            bytes_max = caps[path]
            if bytes_max is not None:
                data = self._capped(path, data, bytes_max)
            if data:
                self._attempt(_append, path, data)
        with self._changed:
            self._waiting_bytes -= sum(len(data) for _, data, _ in appends)

    def _capped(self, path: str, data: bytes, bytes_max: int) -> bytes:
        size = self._sizes.get(path)
        if size is None:
            try:
                size = os.path.getsize(path)
            except OSError:
                size = 0
        self._sizes[path] = size + len(data)
        if size >= bytes_max:
            self._dropped += 1
            return b""
        if size + len(data) <= bytes_max:
            return data
        return data[: bytes_max - size] + _CAP_NOTE % bytes_max

    def _attempt(self, write: Callable[[str, bytes], None], path: str, data: bytes) -> None:
        try:
            try:
                write(path, data)
            except FileNotFoundError:
                _make_folders(os.path.dirname(path), self._root)
                write(path, data)
        except OSError as error:
            self._failed += 1
            self._last_error = f"{path}: {error.strerror or error}"


def _make_folders(folder: str, root: str | None) -> None:
    """Not `makedirs` when there is a root: it would make the root again that somebody removed."""
    if root is None:
        os.makedirs(folder, exist_ok=True)
        return
    inside = os.path.relpath(folder, root)
    if inside == ".." or inside.startswith("../"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    made = root
    for part in inside.split("/"):
        made = os.path.join(made, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(made)


def _append(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(path, flags, 0o666)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def _replace(path: str, data: bytes) -> None:
    draft = f"{path}.{os.getpid()}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        rest = data
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)
    os.rename(draft, path)
