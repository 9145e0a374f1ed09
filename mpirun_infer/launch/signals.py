"""What a person or a scheduler asks of a launcher by signals.

Owns the handlers, and the drain request in control/ that they lead to.
Touches: signal dispositions of this process; one file.
Never:   signals mpiexec to drain: that would abort the run.

INT, TERM, USR1 or HUP (a closed terminal; not under nohup) once: drain, that is finish what runs,
commit, leave with 75. INT or TERM again: stop at once; what is committed stays.
"""

import contextlib
import os
import signal
import time
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
LOOK_S = 0.1


class StopRequests:
    """Handlers for as long as it is entered."""

    def __init__(self, drain_file: str) -> None:
        self.drain = False
        self.kill = False
        self._told = False
        self._drain_file = drain_file
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._remove()
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._old[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]  # what signal() gave us
        self._remove()

    def take_news(self) -> bool:
        """Whether the first request has come since the last call."""
        news = self.drain and not self._told
        self._told = self.drain
        return news

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as somebody wants the run to stop."""
        until = time.monotonic() + seconds
        while not self.drain and time.monotonic() < until:
            time.sleep(LOOK_S)
        return self.drain

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.drain and number in (signal.SIGINT, signal.SIGTERM):
            self.kill = True
        self.drain = True
        try:
            os.close(os.open(self._drain_file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError:
            self.kill = True  # the run cannot be asked, so it can only be ended

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._drain_file)
