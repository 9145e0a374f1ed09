"""What happened, as the core is told it, and what the core wants done.

Owns the two closed unions `Event` and `Command`.
Touches: nothing.
Never:   does anything.
"""

import msgspec

from mpirun_infer.core.messages import FromMaster, FromWorker
from mpirun_infer.core.records import Record
from mpirun_infer.model import Failure, MiniBatch, TryResult

Buffer = bytes | bytearray | memoryview

# --------------------------------------------------------------------------- events


class RankSaid(msgspec.Struct, frozen=True):
    """A worker rank sent a message; `body` holds the rows of a `Result`."""

    rank: int
    message: FromWorker
    body: Buffer = b""


class RankLost(msgspec.Struct, frozen=True):
    """A rank is gone, or has been silent for too long."""

    rank: int
    why: str


class MiniBatchesListed(msgspec.Struct, frozen=True):
    """More mini-batches are known; in the order of their ids."""

    mini_batches: tuple[MiniBatch, ...]


class ItemsUnusable(msgspec.Struct, frozen=True):
    """Listed things that are no regular files: (path, why)."""

    items: tuple[tuple[bytes, str], ...]


class ListingEnded(msgspec.Struct, frozen=True):
    """All mini-batches are known."""

    mini_batches: int
    items: int
    unusable: int
    manifest_bytes: int


class Durable(msgspec.Struct, frozen=True):
    """These records are on the disk, in order."""

    records: tuple[Record, ...]


class DrainAsked(msgspec.Struct, frozen=True):
    """Someone wants the run to stop so that it can be resumed."""

    why: str


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


Event = (
    RankSaid
    | RankLost
    | MiniBatchesListed
    | ItemsUnusable
    | ListingEnded
    | Durable
    | DrainAsked
    | Tick
)

# --------------------------------------------------------------------------- commands


class Send(msgspec.Struct, frozen=True):
    """Send a message to a worker rank."""

    rank: int
    message: FromMaster


class Submit(msgspec.Struct, frozen=True):
    """Make records durable, and the rows they name, in this order; `Durable` answers."""

    records: tuple[Record, ...]
    rows: tuple[Buffer, ...] = ()


class Flush(msgspec.Struct, frozen=True):
    """Someone waits for what was submitted: do not wait for a fuller group."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A try ended; for the reports.

    `elapsed_s` runs from the hand-out to its result, which came at `at` (monotonic); `ready_at` is
    when the worker's process had returned from init().
    """

    mini_batch: MiniBatch
    try_number: int
    worker: int
    node: str
    elapsed_s: float
    at: float
    ready_at: float
    final: bool
    result: TryResult | None = None
    failure: Failure | None = None


class Say(msgspec.Struct, frozen=True):
    """A line for people; `level` is info, warning or error."""

    level: str
    text: str


class KeepFailure(msgspec.Struct, frozen=True):
    """A failure in one line, for the list of all failures."""

    text: str


class Left(msgspec.Struct, frozen=True):
    """The `Ended` record is durable and every rank has left or is given up: close down."""

    exit_code: int
    reason: str


Command = Send | Submit | Flush | Tried | Say | KeepFailure | Left
