"""The terms a run is held to: what the scheduler must know of the job, and nothing else.

Owns one value type.
Touches: nothing.
Never:   has defaults that a user may set; those live in `config`.
"""

import msgspec

from mpirun_infer.core.threshold import Thresholds
from mpirun_infer.model import RunnerPlan


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds end in `_s`.

    Attributes:
        worker_ranks: how many ranks besides the master.
        slots_per_rank: workers of each.
        first_process: number of the first process of this epoch, as in log names.
        append_row: false for `summary_only`.
        crash_limit: losses of its rank that a running mini-batch survives, plus one.
        drain_s: how long a drain waits for what runs.
        leave_s: how long the ranks may take to leave once the last record is decided.
        silence_s: a rank unheard for this long is lost.
    """

    worker_ranks: int
    slots_per_rank: int
    plan: RunnerPlan
    thresholds: Thresholds
    run_max_try: int
    append_row: bool
    first_process: int = 0
    min_workers: int = 1
    crash_limit: int = 3
    first_dispatch_timeout_s: float = 600.0
    progress_timeout_s: float = 1320.0
    drain_s: float = 30.0
    leave_s: float = 30.0

    @property
    def workers_total(self) -> int:
        """Workers of the run when all ranks are there."""
        return self.worker_ranks * self.slots_per_rank

    @property
    def beat_s(self) -> float:
        """Period of the signs of life: 500 a second reach the master at most."""
        return max(2.0, self.workers_total / 500)

    @property
    def silence_s(self) -> float:
        """15 s, and never less than five beats."""
        return max(15.0, 5 * self.beat_s)
