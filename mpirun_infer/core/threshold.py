"""When failures end the job: the three thresholds and the rule for "nothing succeeded", once.

Owns the arithmetic and its words.
Touches: nothing.
Never:   counts (`core.ledger` does); acts (`core.scheduler` does).
"""

from decimal import Decimal

import msgspec

from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.progress import counted
from mpirun_infer.model import FailureKind


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What may fail; -1 allows any number."""

    error_threshold: int = -1
    mini_batch_error_threshold: int = -1
    allowed_failed_percent: float = 100


def exceeded(thresholds: Thresholds, ledger: Ledger, mini_batches_total: int | None) -> str | None:
    """The reason to stop, or None. The count must *exceed* a threshold, not reach it.

    `mini_batches_total` is None while the listing goes on: a percentage has no meaning then.
    """
    counts = ledger.counts
    limit = thresholds.error_threshold
    if 0 <= limit < counts.items_failed:
        return (
            f"{counted(counts.items_failed, 'item')} failed, error_threshold is {limit:,} "
            f"({causes(ledger)})"
        )
    failed = counts.mini_batches_failed
    limit = thresholds.mini_batch_error_threshold
    if 0 <= limit < failed:
        return (
            f"{counted(failed, 'mini-batch')} failed, mini_batch_error_threshold is {limit:,} "
            f"({causes(ledger)})"
        )
    percent = Decimal(str(thresholds.allowed_failed_percent))  # as a float 0.57 * 10,000 < 5,700
    if mini_batches_total and 100 * failed > percent * mini_batches_total:
        return (
            f"{failed:,} of {mini_batches_total:,} mini-batches failed, allowed_failed_percent is "
            f"{thresholds.allowed_failed_percent:g} ({causes(ledger)})"
        )
    return None


def nothing_succeeded(ledger: Ledger, *, append_row: bool) -> str | None:
    """The reason to fail a run that is through, although no threshold was exceeded."""
    counts = ledger.counts
    if not append_row or counts.items_succeeded or not counts.items_failed:
        return None
    cure = (
        "; if the script writes its own files, set output_action: summary_only"
        if ledger.failures[FailureKind.MISSING_ROWS]
        else ""
    )
    return f"none of {counts.items_failed:,} items succeeded ({causes(ledger)}){cure}"


def causes(ledger: Ledger) -> str:
    """`RUN_EXCEPTION 11, RUN_TIMEOUT 1`: failed items by cause, most frequent first."""
    ranked = sorted(ledger.failures.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{kind.value} {items:,}" for kind, items in ranked if items) or "no failures"
