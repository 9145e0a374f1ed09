"""A run on the terminal while it goes on: one live line, notices above it, a summary below.

Owns what is shown and when; the words come from `core.progress`.
Touches: status.json and the events file of a run folder, for reading, and the terminal.
Never:   asks a process, writes into the run folder, starts a thread; lets a terminal that is gone
         (closed, a broken pipe, a full disk behind it) end the run: it falls silent.

Both files are written by another process, so anything may be half there: a status is replaced
whole, an event counts once its line has ended, and what cannot be read now is read next time.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mpirun_infer.core.printable import printable
from mpirun_infer.core.progress import progress_line, summary_lines
from mpirun_infer.model import Notice, Status
from mpirun_infer.watch.read import LIVE_STATES

PLAIN_PERIOD_S = 30.0
STARTING_QUIET_S = 2.0
"""A start that is over in a moment is not worth a line."""

READ_BYTES_MAX = 1 << 20

_STYLES = {"warning": "yellow", "error": "red"}


class Follower:
    """Shows one run; the caller's loop gives it a turn a few times per second.

    Notices and a status that stand in the files before it is made are old news of an earlier
    launch and are not shown; `finish()` shows the last status whoever wrote it.
    """

    def __init__(
        self,
        status_file: str,
        events_file: str,
        console: Console,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status_file = status_file
        self._events_file = events_file
        self._console = console
        self._now = now
        self._seen_status = _signature(status_file)
        self._status: Status | None = None
        self._events_offset = _size(events_file)
        self._events_rest = b""
        self._live: Live | None = None
        self._is_silent = False
        self._plain_after_s = 0.0
        self._plain_shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def turn(self) -> None:
        """Show what is new; cheap when nothing is."""
        self._show_notices()
        fresh = self._read_status()
        if fresh is None:
            return
        self._status = fresh
        if fresh.state == "starting" and fresh.elapsed_s < STARTING_QUIET_S:
            return
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._show_live(progress_line(fresh))
        else:
            self._show_plain(progress_line(fresh))

    @property
    def has_news(self) -> bool:
        """Whether a status was written since this was made."""
        return self._status is not None

    def finish(self, exit_code: int, reason: str) -> Status | None:
        """The last notices and the summary; returns the status the summary was made of.

        A status that nobody could finish, because rank 0 was lost, is finished with what the
        launcher knows.
        """
        self._show_notices()
        self._seen_status = None
        status = self._read_status() or self._status
        self.close()
        if status is not None and status.state in LIVE_STATES:
            status.state = "interrupted" if exit_code else "complete"
            status.exit_code, status.reason, status.eta_s = exit_code, reason, None
        if status is not None:
            for line in summary_lines(status):
                self._print(line)
        return status

    def close(self) -> None:
        """Give the terminal back: the live line goes, the cursor returns. May be called twice."""
        if self._live is not None:
            with self._silenced():
                self._live.stop()
            self._live = None

    @contextlib.contextmanager
    def _silenced(self) -> Iterator[None]:
        """What cannot be shown is not shown."""
        try:
            yield
        except (OSError, SystemExit):  # rich leaves the program at a broken pipe
            self._is_silent = True

    def _show_live(self, line: str) -> None:
        text = Text(self._safe(line), no_wrap=True, overflow="ellipsis")
        if self._live is None:
            # No refresh thread, and what others write is not captured: only turns move the line.
            self._live = Live(
                text,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            with self._silenced():
                self._live.start()
        if not self._is_silent:
            with self._silenced():
                self._live.update(text, refresh=True)

    def _show_plain(self, line: str) -> None:
        """A line now and then; what happens meanwhile is told by notices."""
        if self._now() < self._plain_after_s or line == self._plain_shown:
            return
        self._plain_after_s = self._now() + PLAIN_PERIOD_S
        self._plain_shown = line
        self._print(line)

    def _show_notices(self) -> None:
        while chunk := self._read_events():
            *lines, self._events_rest = (self._events_rest + chunk).split(b"\n")
            for line in lines:
                try:
                    notice = msgspec.json.decode(line, type=Notice)
                except msgspec.DecodeError:
                    continue  # of another version, or cut by a full disk: there is nothing to show
                self._print(notice.text, style=_STYLES.get(notice.level, ""))

    def say(self, level: str, text: str) -> None:
        """A notice of the launcher's own, above the live line."""
        self._print(text, style=_STYLES.get(level, ""))

    def _print(self, text: str, style: str = "") -> None:
        if not self._is_silent:
            with self._silenced():
                self._console.print(Text(self._safe(text), style=style), soft_wrap=True)

    def _safe(self, text: str) -> str:
        return printable(text, self._console.encoding)

    def _read_events(self) -> bytes:
        """The next bytes of the events file, empty when there are none yet."""
        try:
            with open(self._events_file, "rb") as source:
                source.seek(self._events_offset)
                chunk = source.read(READ_BYTES_MAX)
        except OSError:
            return b""
        self._events_offset += len(chunk)
        return chunk

    def _read_status(self) -> Status | None:
        """The status, if it was replaced since the last look."""
        signature = _signature(self._status_file)
        if signature is None or signature == self._seen_status:
            return None
        try:
            with open(self._status_file, "rb") as source:
                status = msgspec.json.decode(source.read(), type=Status)
        except (OSError, msgspec.DecodeError):
            return None
        self._seen_status = signature
        return status


def _signature(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
