"""The last page of a run whose rank 0 could not write it.

Owns the ruling when that is so.
Touches: the run folder, through `store`.
Never:   writes when another launch, or a living rank 0, may do so.
"""

from mpirun_infer.core.ledger import Ledger
from mpirun_infer.errors import InferError
from mpirun_infer.store import lock
from mpirun_infer.store.last_page import read_status, write_last_page
from mpirun_infer.store.recover import replay
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.watch.read import LIVE_STATES


def finish_for_the_dead(folder: RunFolder, launch: str, *, exit_code: int, reason: str) -> None:
    """Say how it ended, with the counts of the journal; does nothing where that was said."""
    holder = lock.peek(folder)
    if holder is None or holder.launch != launch or holder.released or holder.alive:
        return
    status = read_status(folder)
    if status is None or status.state not in LIVE_STATES:
        return
    write_last_page(folder, status, _replayed(folder), exit_code=exit_code, reason=reason)


def _replayed(folder: RunFolder) -> Ledger | None:
    ledger = Ledger()
    try:
        replay(folder, ledger.apply)
    except InferError:  # damage is told by the next launch, which needs the journal
        return None
    return ledger
