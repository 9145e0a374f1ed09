"""Why a runner died, and which mini-batch is to blame.

Owns this judgement, as a function of what was seen.
Touches: nothing.
Never:   kills, restarts or counts (`supervise.supervisor`).
"""

import msgspec

from mpirun_infer.model import Failure, FailureKind, MiniBatch
from mpirun_infer.supervise.exit_status import blamed_line, exit_text
from mpirun_infer.supervise.runner_process import PageView

BLAMED_PHASES = ("load", "run", "format")
STDERR_TOLD_BYTES = 4000
"""Last part of standard error that goes into a failure's detail."""

Try = tuple[MiniBatch, int]


class Cause(msgspec.Struct, frozen=True):
    """Why we killed it ourselves; nothing, when it died on its own."""

    kind: FailureKind
    error: str


def broken_connection(damage: str) -> Cause:
    """Of a runner that we kill because it can be spoken to no more; no damage: it was closed."""
    what = f"broke ({damage})" if damage else "was closed, but not by its death"
    act = "write to" if damage else "close"
    error = (
        f"the runner's connection {what}: does the script {act} descriptors that it did not open?"
    )
    return Cause(FailureKind.PROCESS_EXIT, error)


class Finding(msgspec.Struct, frozen=True):
    """What is told of a death; `blamed` is the try that is charged, or None."""

    blamed: Try | None
    kind: FailureKind
    error: str
    where: str
    detail: str
    run_s: float

    def as_failure(self, process: int, node: str, log: str) -> Failure:
        """For the master."""
        return Failure(
            kind=self.kind,
            error=self.error,
            where=self.where,
            process=process,
            node=node,
            log=log,
            detail=self.detail,
            run_s=self.run_s,
        )


def examine(
    *,
    handed: list[Try],
    page: PageView | None,
    now: float,
    status: int,
    cause: Cause | None,
    stderr_tail: bytes,
    script_folder: str,
) -> Finding:
    """Judge a death.

    `handed`: the tries that the runner had and did not answer, in order; only the first can have
    been running. `page`: the last words of its state page; torn or silent, the first is blamed.
    """
    phase = page.phase if page is not None else "run"
    started = page is None or (
        bool(handed)
        and page.phase in BLAMED_PHASES
        and (page.mini_batch, page.try_number) == (handed[0][0].id, handed[0][1])
    )
    blamed = handed[0] if handed and (started or cause is not None) else None
    kind = cause.kind if cause is not None else FailureKind.PROCESS_EXIT
    error = cause.error if cause is not None else exit_text(status, phase)
    tail = stderr_tail[-STDERR_TOLD_BYTES:].decode("utf-8", "replace")
    return Finding(
        blamed=blamed,
        kind=kind,
        error=error,
        where=blamed_line(stderr_tail, script_folder),
        detail=f"{error}\nlast lines of standard error:\n{tail}" if tail else error,
        run_s=max(0.0, now - page.since_s) if page is not None and page.phase == "run" else 0.0,
    )
