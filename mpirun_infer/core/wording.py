"""What the master says about failures and stalls, in words.

Owns these sentences.
Touches: nothing.
Never:   decides whether anything is said.
"""

from mpirun_infer.core.crew import Crew
from mpirun_infer.core.progress import counted
from mpirun_infer.model import Failure, MiniBatch

STALL_WORKERS_MAX = 20


def as_text(path: bytes) -> str:
    """A path for messages and reports: UTF-8, other bytes as surrogates."""
    return path.decode("utf-8", "surrogateescape")


def blamed(mini_batch: MiniBatch) -> str:
    """`item /d/6.png`, or the mini-batch with its first item."""
    first = as_text(mini_batch.paths[0])
    if mini_batch.items == 1:
        return f"item {first}"
    return f"mini-batch {mini_batch.id} ({mini_batch.items} items, the first is {first})"


def failure_line(
    mini_batch: MiniBatch, try_number: int, try_max: int, failure: Failure, *, final: bool
) -> str:
    """`item /d/6.png failed (try 3 of 3): runner killed by SIGSEGV in run(), score.py:12; ...`."""
    where = f", {failure.where}" if failure.where else ""
    log = f"; log {failure.log}" if failure.log else ""
    again = "" if final else "; trying again"
    return (
        f"{blamed(mini_batch)} failed (try {try_number} of {try_max}): "
        f"{failure.error}{where}{again}{log}"
    )


def missing_line(mini_batch: MiniBatch, rows: int) -> str:
    """`mini-batch 5 (10 items, the first is /d/50.png): 7 rows came back, so 3 items failed`."""
    missing = counted(mini_batch.items - rows, "item")
    came = counted(rows, "row")
    return f"{blamed(mini_batch)}: {came} came back, so {missing} failed (MISSING_ROWS)"


def stall_text(crew: Crew, *, listing: bool) -> str:
    """What each worker is doing, as it last said; for a run that does not get on."""
    running = {
        number: (mini_batch, phase, seconds)
        for rank in crew.ranks.values()
        for number, mini_batch, phase, seconds in rank.running
    }
    parts = []
    for number, worker in sorted(crew.workers.items()):
        node = crew.ranks[worker.rank].facts.node
        if number in running:
            mini_batch, phase, seconds = running[number]
            what = f"in {phase} for {seconds:.0f} s"
            if mini_batch >= 0:
                what += f" with mini-batch {mini_batch}"
        elif worker.retired:
            what = "retired"
        elif worker.ready:
            what = "idle"
        else:
            what = "starting"
        parts.append(f"worker {number} on {node}: {what}")
    more = len(parts) - STALL_WORKERS_MAX
    del parts[STALL_WORKERS_MAX:]
    if more > 0:
        parts.append(f"and {more} more")
    if listing and parts:
        parts.insert(0, "the inputs are still being listed (does their file system answer?)")
    return "; ".join(parts) or "no worker has joined"
