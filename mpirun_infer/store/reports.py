"""The words and tables of the files under `logs/`.

Owns the columns of the reports and the texts around failures.
Touches: nothing: it makes text, `store.log_sink` writes it.
Never:   counts (the caller hands in sums); reads a clock (it is given texts and seconds).
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec

from mpirun_infer.core.events import Tried
from mpirun_infer.core.printable import printable, printable_lines
from mpirun_infer.model import FailureKind, MiniBatch, Status

MINI_BATCH_COLUMNS = (
    "Mini-batch Id",
    "Picked Count",
    "Process",
    "Process Start Time",
    "Total",
    "Succeeded",
    "Failed",
    "Elapsed Seconds",
    "Process Seconds",
    "Run Method Seconds",
    "Status",
    "Error Category",
    "Error Message",
    "Mini-batch Detail",
)
PROCESS_COLUMNS = (
    "Node",
    "Process",
    "Process Start Time",
    "Ready Second",
    "Last Result Second",
    "Mini-batches Done",
    "Mini-batches Failed",
    "Items Succeeded",
    "Items Failed",
    "Load Seconds",
    "Run Method Seconds",
)
"""The two Seconds are counted from the start of the launch."""

NODE_COLUMNS = (
    "Node",
    "Processes",
    "Mini-batches Done",
    "Mini-batches Failed",
    "Items Succeeded",
    "Items Failed",
    "Load Seconds",
    "Run Method Seconds",
)


class ProcessTotals(msgspec.Struct, kw_only=True):
    """What one runner did; `ready_s` and `last_s` are seconds after the start of the launch."""

    node: str
    process: int
    started_at: str
    ready_s: float
    last_s: float = 0.0
    mini_batches_done: int = 0
    mini_batches_failed: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    load_s: float = 0.0
    run_s: float = 0.0

    def add(self, tried: Tried) -> None:
        """Take in a try that ended in this process; one that is repeated counts its time only."""
        if tried.final:
            succeeded, failed = _items(tried)
            self.items_succeeded += succeeded
            self.items_failed += failed
        if tried.result is not None:
            self.mini_batches_done += 1
            self.load_s += tried.result.load_s
            self.run_s += tried.result.run_s
        else:
            self.mini_batches_failed += tried.final
            self.run_s += tried.failure.run_s if tried.failure else 0.0


def csv_line(values: Iterable[object]) -> bytes:
    """One line of a table, UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _items(tried: Tried) -> tuple[int, int]:
    """Succeeded and failed items of a try."""
    items = tried.mini_batch.items
    succeeded = min(tried.result.rows, items) if tried.result else 0
    return succeeded, items - succeeded


def mini_batch_line(tried: Tried, *, process_started_at: str = "") -> bytes:
    """A line of processed_mini-batches.csv (header: `csv_line(MINI_BATCH_COLUMNS)`)."""
    succeeded, failed = _items(tried)
    result, failure = tried.result, tried.failure
    run_s = result.run_s if result else failure.run_s if failure else 0.0
    load_s = result.load_s if result else 0.0
    process = result.process if result else failure.process if failure else None
    return csv_line(
        (
            tried.mini_batch.id,
            tried.try_number,
            tried.node if process is None else f"{tried.node}:process{process:03d}",
            process_started_at,
            tried.mini_batch.items,
            succeeded,
            failed,
            f"{tried.elapsed_s:.3f}",
            f"{load_s + run_s:.3f}",
            f"{run_s:.3f}",
            _status(failure.kind) if failure else "RUN_DONE",
            failure.kind.value if failure else "",
            printable(failure.error) if failure else "",
            items_text(tried.mini_batch),
        )
    )


def _status(kind: FailureKind) -> str:
    """The statuses that people know from ParallelRunStep; the category has the finer word."""
    match kind:
        case FailureKind.RUN_EXCEPTION | FailureKind.BAD_RETURN | FailureKind.MISSING_ROWS:
            return "RUN_EXCEPTION"
        case FailureKind.PROCESS_EXIT | FailureKind.MEMORY_LIMIT:
            return "PROCESS_EXIT"
        case FailureKind.RUN_TIMEOUT | FailureKind.LOAD_ERROR | FailureKind.LOAD_TIMEOUT:
            return kind.value
        case _:
            assert_never(kind)


def process_line(totals: ProcessTotals) -> bytes:
    """A line of process_summary.csv (header: `csv_line(PROCESS_COLUMNS)`)."""
    return csv_line(
        (
            totals.node,
            f"process{totals.process:03d}",
            totals.started_at,
            f"{totals.ready_s:.4f}",
            f"{totals.last_s:.4f}",
            totals.mini_batches_done,
            totals.mini_batches_failed,
            totals.items_succeeded,
            totals.items_failed,
            f"{totals.load_s:.3f}",
            f"{totals.run_s:.3f}",
        )
    )


def process_table(processes: Iterable[ProcessTotals]) -> bytes:
    """The whole of process_summary.csv."""
    return csv_line(PROCESS_COLUMNS) + b"".join(map(process_line, processes))


def node_table(processes: Iterable[ProcessTotals]) -> bytes:
    """The whole of node_summary.csv: sums over the processes of each node."""
    sums: dict[str, list[float]] = {}
    for totals in processes:
        row = sums.setdefault(totals.node, [0] * 7)
        for column, value in enumerate(
            (
                1,
                totals.mini_batches_done,
                totals.mini_batches_failed,
                totals.items_succeeded,
                totals.items_failed,
                totals.load_s,
                totals.run_s,
            )
        ):
            row[column] += value
    lines = [
        csv_line((node, *row[:5], f"{row[5]:.3f}", f"{row[6]:.3f}"))
        for node, row in sorted(sums.items())
    ]
    return csv_line(NODE_COLUMNS) + b"".join(lines)


def items_text(mini_batch: MiniBatch) -> str:
    """`/d/6.png`, or `/d/6.png and 9 more`."""
    first = printable(os.fsdecode(mini_batch.paths[0]))
    more = mini_batch.items - 1
    return f"{first} and {more:,} more" if more else first


# --------------------------------------------------------------------------- the whole run


def job_result(status: Status, summary: Sequence[str]) -> bytes:
    """job_result.txt: success, or the failure with its reason first."""
    lines: list[str] = []
    if status.exit_code == 0:
        lines.append("The job succeeded.")
    else:
        code = "" if status.exit_code is None else f" (exit code {status.exit_code})"
        lines.append(f"The job {_ended(status.state)}{code}: {status.reason or 'no reason known'}")
        first = status.first_failure
        if first is not None:
            log = f"; log {first.log}" if first.log else ""
            lines.append(f"First failure: item {first.item}: {first.error}{log}")
    lines += ["", *summary]
    return ("\n".join(map(printable_lines, lines)) + "\n").encode()


def _ended(state: str) -> str:
    """The verb for a job that did not succeed."""
    return {"failed": "failed", "interrupted": "was interrupted and can be resumed"}.get(
        state, f"is {state}"
    )


README = b"""\
What is where in this folder

  job_result.txt                  success, or failure with the reason first: begin here
  job_progress_overview.txt       how far the job was, minute by minute
  user/error.txt                  all failures, one a line
  user/error/<node>/              the same with whole stacks, by process
  user/stdout/, user/stderr/      what the entry script printed, by node and process
  user/entry_script_log/          what it said through EntryScript().logger
  user/metrics/                   what it said through Run.log()
  sys/<node>/                     what the ranks of mpirun_infer have to say
  sys/job_report/                 tables: each try, each process, each node

A process that replaces another gets a new number. A file is created at its first byte.
"""
