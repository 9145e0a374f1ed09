"""When a runner is late, and the ladder from there to a dead tree.

Owns both: `overdue` (a function of what was seen) and `KillLadder` (stack dump, TERM, KILL).
Touches: processes, through the spawner; the clock is an argument (monotonic seconds).
Never:   judges who is to blame (`supervise.autopsy`); starts a replacement (`supervisor`).
"""

import signal

from mpirun_infer.child import wire
from mpirun_infer.model import FailureKind, RunnerLimits
from mpirun_infer.supervise.autopsy import Cause, Try
from mpirun_infer.supervise.exit_status import phase_text
from mpirun_infer.supervise.runner_process import PageView
from mpirun_infer.supervise.spawner import Spawner

DUMP_WAIT_S = 0.5


def overdue(
    first: Try, page: PageView, moved_at: float, now: float, limits: RunnerLimits
) -> Cause | None:
    """Why the try that the runner should be at has taken too long, or None.

    `moved_at`: when the runner last answered, or got work while it had none.
    """
    mini_batch, try_number = first
    on_it = (page.mini_batch, page.try_number) == (mini_batch.id, try_number)
    if on_it and page.phase == "run":
        if now - page.since_s <= limits.run_timeout_s:
            return None
        limit = f"{limits.run_timeout_s:g} s (run_invocation_timeout)"
        return Cause(FailureKind.RUN_TIMEOUT, f"run() took longer than {limit}")
    since_s = page.since_s if on_it and page.phase != "idle" else moved_at
    if now - max(since_s, moved_at) <= limits.overhead_timeout_s:
        return None
    limit = f"{limits.overhead_timeout_s:g} s (task_overhead_timeout)"
    return Cause(FailureKind.LOAD_TIMEOUT, f"it took longer than {limit} {phase_text(page.phase)}")


class KillLadder:
    """Of one process: each step has a deadline, and the next one is harder."""

    def __init__(self, spawner: Spawner, token: int, limits: RunnerLimits) -> None:
        self._spawner = spawner
        self._token = token
        self._limits = limits
        self._step = 0
        self._deadline = 0.0

    @property
    def killed(self) -> bool:
        """Whether SIGKILL was sent."""
        return self._step == 3

    def dump(self, now: float) -> None:
        """First step for a hang: let it tell where it is."""
        self._step = 1
        self._spawner.signal(self._token, wire.DUMP_SIGNAL)
        self._deadline = now + DUMP_WAIT_S

    def wait(self, now: float, timeout_s: float) -> None:
        """First step for a runner that was told to leave: give it time."""
        self._step = 2
        self._deadline = now + timeout_s

    def kill(self, now: float) -> None:
        """Last step: SIGKILL to the whole tree."""
        self._step = 3
        self._spawner.kill(self._token)
        self._deadline = now + self._limits.unkillable_after_s

    def climb(self, now: float) -> bool:
        """Take the next step when its time has come; True when even SIGKILL did not help."""
        if now <= self._deadline:
            return False
        if self._step == 1:
            self._step = 2
            self._spawner.signal(self._token, signal.SIGTERM)
            self._deadline = now + self._limits.term_grace_s
        elif self._step == 2:
            self.kill(now)
        else:
            return True
        return False
