"""Where a run stands, as `status.json` says it.

Owns the translation of the scheduler's state into a `Status`.
Touches: nothing; the clock and the text of the wall clock are arguments.
Never:   decides.
"""

from mpirun_infer.core.ending import Phase
from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.scheduler import Scheduler
from mpirun_infer.core.wording import as_text
from mpirun_infer.model import FirstFailure, ItemCounts, MiniBatchCounts, Status, WorkerCounts


def overview(scheduler: Scheduler, *, now: float, epoch: int, output: str, wall: str) -> Status:
    """The status at this moment; totals are None while the listing goes on."""
    ledger, crew = scheduler.ledger, scheduler.crew
    counts, listing = ledger.counts, scheduler.listing
    busy = sum(1 for worker in crew.workers.values() if worker.handed)
    lost = sum(1 for w in crew.workers.values() if w.retired or crew.ranks[w.rank].lost)
    scoring_s = 0.0
    if scheduler.first_dispatch_at is not None:
        end = now if scheduler.ending.phase is Phase.RUNNING else scheduler.last_commit_at
        scoring_s = max(0.0, (end or now) - scheduler.first_dispatch_at)
    done_here = ledger.finals - scheduler.finals_at_start
    items_here = counts.items_succeeded + counts.items_failed - scheduler.items_at_start
    left = None if listing is None else listing.mini_batches - ledger.finals
    status = Status(
        state=_state(scheduler),
        exit_code=None,
        reason=None,
        epoch=epoch,
        workers=WorkerCounts(
            total=scheduler.terms.workers_total,
            ready=sum(1 for worker in crew.workers.values() if worker.ready),
            busy=busy,
            lost=lost,
        ),
        mini_batches=MiniBatchCounts(
            total=None if listing is None else listing.mini_batches,
            listing=listing is None,
            running=busy,
        ),
        items=ItemCounts(total=None if listing is None else listing.items + listing.unusable),
        elapsed_s=round(now - scheduler.started_at, 3),
        scoring_s=round(scoring_s, 3),
        items_per_s=round(items_here / scoring_s, 1) if scoring_s > 0 else 0.0,
        eta_s=round(scoring_s / done_here * left, 1) if done_here and left else None,
        output=output,
        updated_at=wall,
    )
    count_into(status, ledger)
    return status


def count_into(status: Status, ledger: Ledger) -> None:
    """Put what the ledger has counted into a status."""
    counts = ledger.counts
    status.mini_batches.done = counts.mini_batches_done
    status.mini_batches.failed = counts.mini_batches_failed
    status.items.succeeded = counts.items_succeeded
    status.items.failed = counts.items_failed
    status.failures = {kind.value: items for kind, items in ledger.failures.items()}
    status.rows = counts.rows
    status.first_failure = _first_failure(ledger)


def _first_failure(ledger: Ledger) -> FirstFailure | None:
    failed, unusable = ledger.first_failed, ledger.first_unusable
    if failed is not None:
        return FirstFailure(
            item=failed.item,
            mini_batch=failed.mini_batch,
            try_number=failed.try_number,
            error=failed.error,
            log=failed.log,
        )
    if unusable is not None:
        path, why = unusable
        return FirstFailure(item=as_text(path), mini_batch=None, try_number=None, error=why, log="")
    return None


def _state(scheduler: Scheduler) -> str:
    if scheduler.ending.phase is Phase.RUNNING:
        return "running" if scheduler.first_dispatch_at is not None else "starting"
    verdict = scheduler.ending.verdict
    if verdict is not None and verdict.state == "interrupted":
        return "draining"
    return "running"
