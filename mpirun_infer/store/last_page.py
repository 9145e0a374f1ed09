"""status.json and job_result.txt of a run whose rank 0 could not write them.

Owns these two files when no journalist of a run does: after rank 0 was lost, or when a run is found
complete although its last page was never written.
Touches: these two files.
Never:   decides how a run ended; asks who lives (its callers do).
"""

import os
from contextlib import suppress

import msgspec

from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.overview import count_into
from mpirun_infer.core.printable import encodable
from mpirun_infer.core.progress import summary_lines
from mpirun_infer.model import Status
from mpirun_infer.store import reports
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.store.wall import now_text


def read_status(folder: RunFolder) -> Status | None:
    """The status as it was left, or None."""
    try:
        with open(folder.status_file, "rb") as file:
            return msgspec.json.decode(file.read(), type=Status)
    except (OSError, msgspec.DecodeError):
        return None


def write_last_page(
    folder: RunFolder, status: Status, ledger: Ledger | None, *, exit_code: int, reason: str
) -> None:
    """Finish a status with what the journal has counted (None: it cannot be read)."""
    if ledger is not None:
        if ledger.listed is not None:
            listed = ledger.listed
            ledger.counts.items_failed += listed.unusable - ledger.counts.items_unusable
            status.mini_batches.total, status.mini_batches.listing = listed.mini_batches, False
            status.items.total = listed.items + listed.unusable
        count_into(status, ledger)
    status.state = "interrupted" if exit_code else "complete"
    status.exit_code = exit_code
    status.reason = encodable(reason) or None
    status.eta_s = None
    status.mini_batches.running = status.workers.ready = status.workers.busy = 0
    status.output = encodable(status.output if exit_code else folder.final)
    status.updated_at = now_text()
    _replace(folder.status_file, msgspec.json.encode(status) + b"\n")
    _replace(folder.job_result, reports.job_result(status, summary_lines(status)))


def _replace(path: str, data: bytes) -> None:
    draft = f"{path}.{os.getpid()}"
    with suppress(OSError):  # they are for people; the journal is the truth
        with open(draft, "wb") as file:
            file.write(data)
        os.replace(draft, path)
