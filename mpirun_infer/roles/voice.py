"""What rank 0 says outside the run folder: signs of life, and its last words.

Owns both, for the two listeners there are: our launcher (lines on standard output, which mpiexec
passes on) and a person (standard error).
Touches: standard output and standard error of rank 0.
Never:   touches the run folder: a stalled file system must not look like a dead rank.
"""

import sys
from contextlib import suppress
from typing import Protocol

import msgspec

from mpirun_infer.core.printable import encodable, printable_lines
from mpirun_infer.errors import ExitCode
from mpirun_infer.model import RankVerdict

ALIVE_S = 2.0
ALIVE = "alive\n"


class Voice(Protocol):
    """Rank 0's."""

    def alive(self, now: float) -> None:
        """Call it several times a second; a sign goes out every two."""

    def last_words(self, verdict: RankVerdict, *, told: bool) -> None:
        """How it ended; `told`: the reason has been shown to people already."""


class LauncherVoice:
    """To our launcher."""

    def __init__(self) -> None:
        self._next = 0.0

    def alive(self, now: float) -> None:
        """See `Voice`."""
        if now >= self._next:
            self._next = now + ALIVE_S
            self._write(ALIVE)

    def last_words(self, verdict: RankVerdict, *, told: bool) -> None:
        """See `Voice`; the launcher knows what it has shown."""
        del told
        words = msgspec.structs.replace(verdict, reason=encodable(verdict.reason))
        self._write(msgspec.json.encode(words).decode() + "\n")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # mpiexec is gone, and this rank is about to follow it
            sys.stdout.write(text)
            sys.stdout.flush()


class PersonsVoice:
    """To whoever reads the output of their own mpiexec."""

    def alive(self, now: float) -> None:
        """Nobody waits for it."""

    def last_words(self, verdict: RankVerdict, *, told: bool) -> None:
        """See `Voice`."""
        if verdict.reason and not told:
            error = "" if verdict.exit_code == ExitCode.OK else "mpirun-infer: "
            sys.stderr.write(f"{error}{printable_lines(verdict.reason)}\n")
            sys.stderr.flush()
