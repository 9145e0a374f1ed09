"""The last page of a run whose rank 0 could not write it.

Owns: status.json and job_result.txt after the ranks of our own launch were lost for good.
Touches: these two files; the journal, for reading.
Never:   writes when another launch, or a living rank 0, may do so.
"""

import os
from contextlib import suppress

import msgspec

from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.overview import count_into
from mpirun_infer.core.printable import encodable
from mpirun_infer.core.progress import summary_lines
from mpirun_infer.errors import InferError
from mpirun_infer.model import Status
from mpirun_infer.store import lock, reports
from mpirun_infer.store.recover import replay
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.store.wall import now_text
from mpirun_infer.watch.read import LIVE_STATES


def finish_for_the_dead(folder: RunFolder, launch: str, *, exit_code: int, reason: str) -> None:
    """Say how it ended, with the counts of the journal; does nothing where that was said."""
    holder = lock.peek(folder)
    if holder is None or holder.launch != launch or holder.released or holder.alive:
        return
    try:
        with open(folder.status_file, "rb") as file:
            status = msgspec.json.decode(file.read(), type=Status)
    except (OSError, msgspec.DecodeError):
        return
    if status.state not in LIVE_STATES:
        return
    ledger = Ledger()
    with suppress(InferError):  # damage is told by the next launch, which needs the journal
        replay(folder, ledger.apply)
        if ledger.listed is not None:
            ledger.add_unusable([(b"", "")] * ledger.listed.unusable)
            ledger.first_unusable = None
        count_into(status, ledger)
    status.state = "interrupted"
    status.exit_code = exit_code
    status.reason = encodable(reason)
    status.eta_s = None
    status.mini_batches.running = status.workers.ready = status.workers.busy = 0
    status.updated_at = now_text()
    _replace(folder.status_file, msgspec.json.encode(status) + b"\n")
    _replace(folder.job_result, reports.job_result(status, summary_lines(status)))


def _replace(path: str, data: bytes) -> None:
    draft = f"{path}.{os.getpid()}"
    with suppress(OSError):
        with open(draft, "wb") as file:
            file.write(data)
        os.replace(draft, path)
