"""What a runner answered, checked, and gathered into messages for the master.

Owns the reading of result and failure frames (user code can reach the descriptor: nothing in them
is believed) and the order of what is told.
Touches: nothing.
Never:   decides.
"""

import zlib
from typing import NamedTuple

from mpirun_infer.core.events import Buffer
from mpirun_infer.core.messages import FromWorker, Outcome, Ready, Result, Retired, Returned
from mpirun_infer.core.printable import encodable
from mpirun_infer.model import Failure, FailureKind, TryResult

TEXT_CHARS_MAX = 20_000
ROWS_MAX = 1 << 40
"""Of one mini-batch; the sum over a run must stay a whole number that a record can hold."""

Header = dict[str, object]


def read_answered(header: Header) -> tuple[int, int]:
    """(mini-batch, try) of a frame; ValueError when it makes no sense."""
    return (_whole(header, "mini_batch"), _whole(header, "try"))


def read_result(header: Header, body: memoryview, process: int) -> tuple[TryResult, memoryview]:
    """A result and its rows; ValueError when it makes no sense."""
    header_bytes = _whole(header, "header_bytes")
    if header_bytes > len(body):
        raise ValueError(f"header_bytes {header_bytes} of {len(body)}")
    count = _whole(header, "rows")
    if count > ROWS_MAX:
        raise ValueError(f"rows {count}")
    rows = body[header_bytes:]
    crc = _whole(header, "crc")
    if crc != (found := zlib.crc32(rows)):
        raise ValueError(f"crc {crc} of rows with {found}")
    result = TryResult(
        rows=count,
        body_bytes=len(rows),
        header=bytes(body[:header_bytes]),
        crc=crc,
        run_s=read_seconds(header, "run_s"),
        load_s=read_seconds(header, "load_s"),
        process=process,
    )
    return result, rows


def read_failure(header: Header, process: int, node: str, log: str) -> Failure:
    """A failure; ValueError when it makes no sense."""
    return Failure(
        kind=FailureKind(read_text(header, "kind")),
        error=read_text(header, "error"),
        where=read_text(header, "where"),
        process=process,
        node=node,
        log=log,
        detail=read_text(header, "detail"),
        run_s=read_seconds(header, "run_s"),
    )


class InitError(NamedTuple):
    """What the runner told of its failed start."""

    reason: str
    detail: str
    usage_error: bool


def read_init_error(header: Header) -> InitError:
    """Why import or init() failed; ValueError when it makes no sense."""
    where = read_text(header, "where")
    reason = read_text(header, "error") + (f", {where}" if where else "")
    return InitError(reason, read_text(header, "detail"), bool(header["usage_error"]))


def read_text(header: Header, key: str) -> str:
    """A text without lone surrogates (msgpack has none), of bounded length."""
    value = header[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} {value!r}")  # noqa: TRY004 - one error for all damage
    return encodable(value[:TEXT_CHARS_MAX])


def _whole(header: Header, key: str) -> int:
    value = header[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError(f"{key} {value!r}")
    return value


def read_seconds(header: Header, key: str) -> float:
    """A duration; ValueError when it is none."""
    value = header[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"{key} {value!r}")
    return float(value)


class Answers:
    """Outcomes and messages of one worker, in order; outcomes in a row share one `Result`."""

    def __init__(self, worker: int, incarnation: int) -> None:
        self._worker = worker
        self._incarnation = incarnation
        self._messages: list[tuple[FromWorker, Buffer]] = []
        self._outcomes: list[Outcome] = []
        self._rows: list[Buffer] = []

    def succeeded(self, answered: tuple[int, int], result: TryResult, rows: Buffer) -> None:
        """A try that succeeded."""
        outcome = Outcome(mini_batch=answered[0], try_number=answered[1], result=result)
        self._outcomes.append(outcome)
        if len(rows):
            self._rows.append(rows)

    def failed(self, answered: tuple[int, int], failure: Failure) -> None:
        """A try that failed."""
        outcome = Outcome(mini_batch=answered[0], try_number=answered[1], failure=failure)
        self._outcomes.append(outcome)

    def ready(self, init_s: float) -> None:
        """The runner has returned from init()."""
        self._say(Ready(worker=self._worker, incarnation=self._incarnation, init_s=init_s))

    def returned(self, mini_batches: tuple[int, ...], *, ready: bool) -> None:
        """Given back without having been run."""
        self._say(
            Returned(
                worker=self._worker,
                incarnation=self._incarnation,
                mini_batches=mini_batches,
                ready=ready,
            )
        )

    def retired(self, reason: str, detail: str, *, usage_error: bool) -> None:
        """The worker takes no more work."""
        self._say(
            Retired(
                worker=self._worker,
                incarnation=self._incarnation,
                reason=reason,
                detail=detail,
                usage_error=usage_error,
            )
        )

    def _say(self, message: FromWorker) -> None:
        self._close_result()
        self._messages.append((message, b""))

    def take(self) -> list[tuple[FromWorker, Buffer]]:
        """What there is to send."""
        self._close_result()
        messages, self._messages = self._messages, []
        return messages

    def _close_result(self) -> None:
        if not self._outcomes:
            return
        message = Result(
            worker=self._worker, incarnation=self._incarnation, outcomes=tuple(self._outcomes)
        )
        body = self._rows[0] if len(self._rows) == 1 else b"".join(self._rows)
        self._messages.append((message, body))
        self._outcomes.clear()
        self._rows.clear()
