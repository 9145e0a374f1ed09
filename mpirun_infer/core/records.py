"""The records of the journal: what has happened for good.

Owns the closed set of records; `core.ledger` is their only reducer, live and at replay.
Touches: nothing.
Never:   knows how they reach the disk (`store.journal` adds the sequence number and the CRC).

A record that is not in the journal did not happen. `Dispatched` alone is advisory: it is written
with the next group and tells a resume which mini-batches were out when the job died.
"""

import msgspec

from mpirun_infer.model import FailureKind


class Segment(msgspec.Struct, frozen=True):
    """What a successor accepts of an earlier epoch: records < next_seq, rows < rows_end."""

    epoch: int
    next_seq: int
    rows_end: int


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """First record of every epoch."""

    version: int
    run_id: str
    epoch: int
    fingerprint: dict[str, str]
    accepted: tuple[Segment, ...]
    started_at: str
    host: str
    pid: int
    launch: str


class Listed(msgspec.Struct, frozen=True, kw_only=True, tag="listed"):
    """The listing is complete and the manifest is durable."""

    mini_batches: int
    items: int
    unusable: int
    manifest_bytes: int


class Dispatched(msgspec.Struct, frozen=True, kw_only=True, tag="dispatched"):
    """Mini-batches were handed to a worker (advisory, not synced by itself)."""

    worker: int
    incarnation: int = msgspec.field(name="inc")
    tries: tuple[tuple[int, int], ...]


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """The one line of column names stands at [offset, offset + length) of this epoch's rows."""

    offset: int
    length: int
    crc: int


class Committed(msgspec.Struct, frozen=True, kw_only=True, tag="committed"):
    """A mini-batch is done: its rows stand at [offset, offset + length) of this epoch's rows.

    `try_number` counts from 1; `items` is the half-open range [a, b) over all inputs.
    """

    mini_batch: int
    try_number: int = msgspec.field(name="try")
    worker: int
    incarnation: int = msgspec.field(name="inc")
    items: tuple[int, int]
    offset: int
    length: int
    rows: int
    crc: int
    run_s: float


class TryFailed(msgspec.Struct, frozen=True, kw_only=True, tag="try_failed"):
    """A try failed and another one is allowed."""

    mini_batch: int
    try_number: int = msgspec.field(name="try")
    worker: int
    incarnation: int = msgspec.field(name="inc")
    kind: FailureKind


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A mini-batch failed for good; all its items count as failed.

    `item` is the first of them and `log` the file with the stack: for people, after a resume too.
    """

    mini_batch: int
    try_number: int = msgspec.field(name="try")
    worker: int
    incarnation: int = msgspec.field(name="inc")
    items: tuple[int, int]
    kind: FailureKind
    error: str
    item: str = ""
    log: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """Last record of an epoch that ended by decision; `state` complete closes the run.

    `state` is one of complete, failed, interrupted; `exit_code` is from `errors.ExitCode`.
    """

    state: str
    exit_code: int
    reason: str
    rows_end: int


Record = Opened | Listed | Dispatched | Header | Committed | TryFailed | Failed | Ended
