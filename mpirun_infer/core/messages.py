"""Messages between the master and the workers, and their bytes.

Owns the closed set of messages and `encode`/`decode` (msgpack, tagged unions).
Touches: nothing.
Never:   knows the transport; carries input data (workers read their own).

A message is one header; `Result` alone is followed by a body, the formatted rows of all its
outcomes, in order.

Texts are UTF-8. What may hold other bytes travels as bytes: paths, and the plan (`pack_plan`),
whose arguments and paths are texts with surrogates.
"""

import json

import msgspec

from mpirun_infer.model import Failure, MiniBatch, NodeFacts, RunnerPlan, Seat, TryResult

# --------------------------------------------------------------------------- worker -> master


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """A rank is up; sent once, before anything else."""

    facts: NodeFacts


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The worker's runner has returned from `init()`; work may be sent."""

    worker: int
    incarnation: int
    init_s: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one try: exactly one of `result` and `failure` is set."""

    mini_batch: int
    try_number: int
    result: TryResult | None = None
    failure: Failure | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """Tries that ended; the body holds the rows of those that succeeded, in order."""

    worker: int
    incarnation: int
    outcomes: tuple[Outcome, ...]


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag="returned"):
    """Mini-batches given back without having been run; nothing is charged.

    `ready` is false when the runner is gone and is being replaced: `Ready` follows.
    """

    worker: int
    incarnation: int
    mini_batches: tuple[int, ...]
    ready: bool


class Retired(msgspec.Struct, frozen=True, kw_only=True, tag="retired"):
    """The worker takes no more work: `init()` kept failing, or its process cannot be killed."""

    worker: int
    incarnation: int
    reason: str
    detail: str
    usage_error: bool


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """A sign of life; says what each busy worker of the rank is running.

    `running` holds (worker, mini_batch, phase, seconds).
    """

    running: tuple[tuple[int, int, str, float], ...]


class Released(msgspec.Struct, frozen=True, kw_only=True, tag="released"):
    """The rank's runners are gone and its logs are written; it leaves."""

    processes: int


FromWorker = Hello | Ready | Result | Returned | Retired | Beat | Released

# --------------------------------------------------------------------------- master -> worker


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """The job, as a worker rank must know it: one seat per slot.

    A rank that has joined before drops all its work and starts anew under the new incarnation.
    The k-th process of a worker gets the number `first_process + worker + k * workers_total`.
    `plan` is what `pack_plan` made. `first_on_node`: this rank sweeps its node first.
    """

    incarnation: int
    seats: tuple[Seat, ...]
    plan: bytes
    first_process: int
    workers_total: int
    beat_s: float
    first_on_node: bool


class Dispatch(msgspec.Struct, frozen=True, kw_only=True, tag="dispatch"):
    """Run these mini-batches, in order; (mini-batch, try number from 1)."""

    worker: int
    incarnation: int
    tries: tuple[tuple[MiniBatch, int], ...]


class Revoke(msgspec.Struct, frozen=True, kw_only=True, tag="revoke"):
    """Give back what has not been started; answered by `Returned` (perhaps empty)."""

    worker: int
    incarnation: int


class Release(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """No more work: end the runners (`at_once`: kill them) and leave."""

    at_once: bool


class Farewell(msgspec.Struct, frozen=True, kw_only=True, tag="farewell"):
    """Rank 0 is through with everything: all meet in MPI_Finalize."""


FromMaster = Welcome | Dispatch | Revoke | Release | Farewell

_encoder = msgspec.msgpack.Encoder()
_from_worker = msgspec.msgpack.Decoder(FromWorker)
_from_master = msgspec.msgpack.Decoder(FromMaster)


def encode(message: FromWorker | FromMaster) -> bytes:
    """The message as msgpack bytes."""
    return _encoder.encode(message)


def decode_from_worker(data: bytes | bytearray | memoryview) -> FromWorker:
    """A worker's message; msgspec.ValidationError when the bytes are not one."""
    message: FromWorker = _from_worker.decode(data)
    return message


def decode_from_master(data: bytes | bytearray | memoryview) -> FromMaster:
    """The master's message; msgspec.ValidationError when the bytes are not one."""
    message: FromMaster = _from_master.decode(data)
    return message


def pack_plan(plan: RunnerPlan) -> bytes:
    """The plan as ASCII JSON, which unlike msgpack has room for surrogates."""
    return json.dumps(msgspec.to_builtins(plan)).encode("ascii")


def read_plan(data: bytes) -> RunnerPlan:
    """What `pack_plan` packed."""
    return msgspec.convert(json.loads(data), RunnerPlan)
