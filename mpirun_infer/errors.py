"""The exception tree and the one table of exit codes.

Owns every exit code and every exception that a caller acts on.
Touches: nothing.
Never:   describes a failure of user work; those are values (`model.Failure`).

    InferError
    ├── UsageError            2   a command line, job file or input that cannot work
    │   ├── ConfigError       2   many lines, one per wrong key
    │   └── HeldError         2   another live run holds the run folder
    ├── NoWorkerError         4   no usable worker; MPI is unusable
    ├── ResumeError           5   something differs or is damaged
    ├── StorageError         74   the output file system failed for good
    └── IncompleteError      75   stopped, resumable
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process returns; the same for `run` and `status`."""

    OK = 0
    BUG = 1
    USAGE = 2
    FAILED = 3
    NO_WORKER = 4
    CANNOT_RESUME = 5
    STORAGE = 74
    INCOMPLETE = 75


class InferError(Exception):
    """An error for the operator: what happened, the likely cause, the next step."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG


class UsageError(InferError):
    """Raised when the command line, the job file or the input cannot work."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class ConfigError(UsageError):
    """Raised when a job has wrong keys or values; carries all of them, a line each."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class HeldError(UsageError):
    """Raised when another live run holds the run folder."""


class NoWorkerError(InferError):
    """Raised when no worker can do any work."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_WORKER


class ResumeError(InferError):
    """Raised when a run cannot go on from its journal."""

    exit_code: ClassVar[ExitCode] = ExitCode.CANNOT_RESUME


class StorageError(InferError):
    """Raised when rows or records cannot be made durable."""

    exit_code: ClassVar[ExitCode] = ExitCode.STORAGE


class IncompleteError(InferError):
    """Raised when a run stopped before its end and can be resumed."""

    exit_code: ClassVar[ExitCode] = ExitCode.INCOMPLETE
