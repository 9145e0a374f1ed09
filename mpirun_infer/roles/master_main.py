"""Rank 0 from the order to the verdict.

Owns: opening, the loop, and what follows the last record (final name, reports, lock).
Touches: what `roles.opening` opened.
Never:   decides how the run ends; the scheduler did.
"""

import time
from collections.abc import Callable, Collection

import msgspec

from mpirun_infer.config import JobConfig
from mpirun_infer.core.messages import Release, Released, decode_from_worker, encode
from mpirun_infer.core.scheduler import Scheduler
from mpirun_infer.errors import ExitCode, InferError
from mpirun_infer.model import LaunchOrder, RankVerdict
from mpirun_infer.roles.background import in_background
from mpirun_infer.roles.master import Master
from mpirun_infer.roles.opening import (
    AlreadyCompleteError,
    Listing,
    Run,
    finish_files,
    open_run,
)
from mpirun_infer.roles.voice import Voice
from mpirun_infer.store import publish
from mpirun_infer.store.recover import HeaderPlace
from mpirun_infer.transport.base import Arrival, Backoff, Received, Transport

SEND_HOME_TIMEOUT_S = 20.0


def be_master(order: LaunchOrder, transport: Transport, voice: Voice) -> tuple[RankVerdict, bool]:
    """Run the job: how it ended, and whether people were told.

    Raises InferError when there is no run to speak of.
    """
    job = JobConfig.from_json(order.job)

    def alive() -> None:
        voice.alive(time.monotonic())

    try:
        run = in_background(lambda: open_run(job, order, transport.size), alive)
    except AlreadyCompleteError as complete:
        send_home(transport)
        return RankVerdict(exit_code=ExitCode.OK, reason=str(complete)), False
    scheduler = Scheduler(run.terms, run.ledger, time.monotonic())
    listing = Listing(run.lister)
    master = Master(transport, scheduler, run.committer, listing, run.journalist, voice)
    try:
        master.run()
        verdict = _close(job, run, scheduler, alive)
    except InferError as error:
        verdict = RankVerdict(exit_code=error.exit_code, reason=str(error))
        ranks = scheduler.crew.ranks.items()
        send_home(transport, left={rank for rank, state in ranks if state.released or state.lost})
        run.committer.close(abandon=True)
    except BaseException:
        run.committer.close(abandon=True)
        raise
    finally:
        run.lister.close()
    superseded = run.lock.superseded()
    if superseded:  # what people read now is the successor's
        run.journalist.abandon()
    else:
        run.journalist.close(scheduler, time.monotonic(), verdict)
    run.lock.release()
    run.lock.close()
    return verdict, order.speaks and not superseded


def _close(
    job: JobConfig, run: Run, scheduler: Scheduler, alive: Callable[[], None]
) -> RankVerdict:
    """The last record is durable: publish what it promises, however long that takes."""
    in_background(run.committer.close, alive)
    verdict = scheduler.ending.verdict
    if verdict is None:
        raise InferError("the run ended without a verdict")
    segments = (*run.recovered.segments, run.committer.segment)
    header = run.recovered.header
    if header is None and run.ledger.header is not None:
        header = HeaderPlace(run.lock.epoch, run.ledger.header)
    recovered = msgspec.structs.replace(run.recovered, segments=segments, header=header)

    def publish_rows() -> None:
        if verdict.state == "complete":
            finish_files(job, run.folder, run.lock, recovered)
        elif verdict.state == "failed":
            publish.keep_partial(run.folder, run.lock, segments, header)

    def meanwhile() -> None:
        run.lock.beat()  # the committer, whose business it was, has ended
        run.journalist.status(scheduler, time.monotonic())
        alive()

    in_background(publish_rows, meanwhile)
    reason = verdict.reason
    if verdict.exit_code is ExitCode.FAILED:
        reason += f"; {run.ledger.counts.rows:,} rows kept in {run.folder.partial}"
    return RankVerdict(exit_code=int(verdict.exit_code), reason=reason)


def send_home(transport: Transport, left: Collection[int] = ()) -> None:
    """After a failure of ours: let every rank go and wait for it, but not for long."""
    waiting = set(range(1, transport.size)).difference(left)
    for rank in waiting:
        transport.send(rank, encode(Release(at_once=True)))
    deadline = time.monotonic() + SEND_HOME_TIMEOUT_S
    backoff = Backoff()
    while waiting and time.monotonic() < deadline:
        waiting.difference_update(a.peer for a in transport.poll() if _has_left(a))
        time.sleep(backoff.next_s())


def _has_left(arrival: Arrival) -> bool:
    if isinstance(arrival, Received):
        return isinstance(decode_from_worker(arrival.header), Released)
    return True
