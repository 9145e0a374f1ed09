"""When failures are too many: exactly at, one over, off, and the words."""

import pytest

from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.threshold import Thresholds, causes, exceeded, nothing_succeeded
from mpirun_infer.model import FailureKind


def ledger_with(*, items=0, succeeded=0, mini_batches=0, **kinds):
    ledger = Ledger()
    ledger.counts.items_failed = items or sum(kinds.values())
    ledger.counts.items_succeeded = succeeded
    ledger.counts.mini_batches_failed = mini_batches
    for kind, number in kinds.items():
        ledger.failures[FailureKind[kind]] = number
    return ledger


@pytest.mark.parametrize(
    ("limit", "failed", "over"),
    [
        (-1, 0, False),
        (-1, 10**9, False),
        (0, 0, False),
        (0, 1, True),
        (1, 1, False),
        (1, 2, True),
        (1000, 1000, False),
        (1000, 1001, True),
    ],
)
def test_counts(limit, failed, over):
    items = ledger_with(items=failed)
    assert (exceeded(Thresholds(error_threshold=limit), items, None) is not None) == over
    assert exceeded(Thresholds(mini_batch_error_threshold=0), items, 10) is None
    mini_batches = ledger_with(mini_batches=failed)
    limits = Thresholds(mini_batch_error_threshold=limit)
    assert (exceeded(limits, mini_batches, None) is not None) == over
    assert exceeded(Thresholds(error_threshold=0), mini_batches, 10**9) is None


@pytest.mark.parametrize(
    ("percent", "failed", "total", "over"),
    [
        (0, 0, 10, False),
        (0, 1, 10, True),
        (10, 1, 10, False),
        (10, 2, 10, True),
        (33.3, 333, 1000, False),
        (0.57, 57, 10_000, False),
        (0.57, 58, 10_000, True),
        (1e-05, 1, 10_000_000, False),
        (1e-05, 2, 10_000_000, True),
        (33.3, 334, 1000, True),
        (100, 10, 10, False),
        (0, 1, None, False),
        (0, 0, 0, False),
    ],
)
def test_percent(percent, failed, total, over):
    limits = Thresholds(allowed_failed_percent=percent)
    assert (exceeded(limits, ledger_with(mini_batches=failed), total) is not None) == over


def test_the_words():
    ledger = ledger_with(mini_batches=1200, RUN_TIMEOUT=1, RUN_EXCEPTION=1499)
    why = "(RUN_EXCEPTION 1,499, RUN_TIMEOUT 1)"
    assert exceeded(Thresholds(error_threshold=1000), ledger, None) == (
        f"1,500 items failed, error_threshold is 1,000 {why}"
    )
    assert exceeded(Thresholds(mini_batch_error_threshold=5), ledger, None) == (
        f"1,200 mini-batches failed, mini_batch_error_threshold is 5 {why}"
    )
    assert exceeded(Thresholds(allowed_failed_percent=12.5), ledger, 9000) == (
        f"1,200 of 9,000 mini-batches failed, allowed_failed_percent is 12.5 {why}"
    )


def test_no_failures_have_no_causes():
    assert causes(Ledger()) == "no failures"


@pytest.mark.parametrize(
    ("counts", "append_row", "fails"),
    [
        ({"RUN_EXCEPTION": 2}, True, True),
        ({"RUN_EXCEPTION": 2}, False, False),
        ({"RUN_EXCEPTION": 2, "succeeded": 1}, True, False),
        ({}, True, False),
    ],
)
def test_nothing_succeeded(counts, append_row, fails):
    found = nothing_succeeded(ledger_with(**counts), append_row=append_row)
    assert (found is not None) == fails


def test_the_cure_is_named_only_where_it_may_help():
    cure = "; if the script writes its own files, set output_action: summary_only"
    missing = nothing_succeeded(ledger_with(MISSING_ROWS=2), append_row=True)
    assert missing == f"none of 2 items succeeded (MISSING_ROWS 2){cure}"
    raised = nothing_succeeded(ledger_with(RUN_EXCEPTION=2), append_row=True)
    assert raised == "none of 2 items succeeded (RUN_EXCEPTION 2)"
