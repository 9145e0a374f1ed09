"""What the master has decided to do, in order, until the role performs it.

Owns the list of commands of one event, the count of records whose durability is waited for, and
the limit on what is told one by one.
Touches: nothing.
Never:   decides.
"""

from mpirun_infer.core.events import Buffer, Command, Flush, KeepFailure, Say, Send, Submit
from mpirun_infer.core.messages import FromMaster
from mpirun_infer.core.records import (
    Committed,
    Dispatched,
    Ended,
    Failed,
    Header,
    Listed,
    TryFailed,
)

NOTICES_MAX = 20
"""Failures told on the terminal one by one; the rest is in logs/user/error.txt."""

Awaited = Committed | Failed | Header | Listed | Ended
"""Records that change the ledger only when they are durable."""


class Outbox:
    """Commands in the order in which they must be performed."""

    def __init__(self) -> None:
        self.awaited = 0
        self._commands: list[Command] = []
        self._failures_told = 0

    def take(self) -> list[Command]:
        """The commands so far; the box is empty then."""
        commands, self._commands = self._commands, []
        return commands

    def add(self, command: Command) -> None:
        """Any command."""
        self._commands.append(command)

    def send(self, rank: int, message: FromMaster) -> None:
        """A message to a rank."""
        self._commands.append(Send(rank, message))

    def say(self, level: str, text: str) -> None:
        """A line for people."""
        self._commands.append(Say(level, text))

    def say_failure(self, text: str, *, final: bool) -> None:
        """A line about a failure: kept, and told as long as there are not too many."""
        self._commands.append(KeepFailure(text))
        self._failures_told += 1
        if self._failures_told <= NOTICES_MAX:
            self.say("error" if final else "warning", text)
        elif self._failures_told == NOTICES_MAX + 1:
            self.say("warning", "more failures follow; all are in logs/user/error.txt")

    def submit(self, record: Awaited, rows: Buffer = b"") -> None:
        """A record, with the rows it names, whose `Durable` is waited for."""
        self.awaited += 1
        self._commands.append(Submit((record,), (rows,) if len(rows) else ()))

    def note(self, record: Dispatched | TryFailed) -> None:
        """A record that the ledger has taken in already."""
        self._commands.append(Submit((record,)))

    def flush(self) -> None:
        """Do not wait for a fuller group."""
        self._commands.append(Flush())
