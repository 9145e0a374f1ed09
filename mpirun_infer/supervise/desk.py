"""What a supervisor needs of its surroundings to leave output and find folders.

Owns the `Desk` protocol.
Touches: nothing.
Never:   knows where anything is kept; the role does.
"""

from typing import Protocol


class Desk(Protocol):
    """Where a supervisor leaves what is not for the master; given by the role."""

    def write(self, kind: str, process: int, data: bytes) -> None:
        """Keep output; `kind` is stdout, stderr or error (full stacks)."""

    def error_log(self, process: int) -> str:
        """The file that `error` goes to, relative to the output folder."""

    def working_folder(self, process: int) -> str:
        """The private folder of a process; made by the zygote."""

    def folders(self, process: int) -> dict[str, str]:
        """What the runner must know of the run folder."""


class Output:
    """What one process prints: kept at the desk, the end of standard error also here."""

    TAIL_BYTES = 64 << 10

    def __init__(self, desk: Desk, process: int) -> None:
        self._desk = desk
        self._process = process
        self._tail = bytearray()

    @property
    def stderr_tail(self) -> bytes:
        """The end of standard error."""
        return bytes(self._tail)

    def printed(self, name: str, data: bytes) -> None:
        """It wrote to stdout or stderr."""
        if name == "stderr":
            self._tail += data
            del self._tail[: -self.TAIL_BYTES]
        self._desk.write(name, self._process, data)

    def keep_error(self, text: str) -> None:
        """Something for the file of full stacks."""
        self._desk.write("error", self._process, f"{text}\n".encode("utf-8", "backslashreplace"))
