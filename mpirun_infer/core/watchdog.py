"""What nobody reports: ranks that fall silent, and runs that get nowhere.

Owns these two rulings and the time of the last progress.
Touches: nothing; the time is an argument (monotonic seconds).
Never:   acts on them (`core.scheduler` does).
"""

from mpirun_infer.core.crew import Crew
from mpirun_infer.core.terms import Terms
from mpirun_infer.core.wording import stall_text


class Watchdog:
    """Of one run."""

    def __init__(self, terms: Terms, crew: Crew, now: float) -> None:
        self._terms = terms
        self._crew = crew
        self._progress_at = now

    def progress(self, now: float) -> None:
        """Something came forward."""
        self._progress_at = now

    def silent_ranks(self, now: float) -> list[tuple[int, str]]:
        """(rank, words) for each that has said nothing for too long."""
        silent = []
        for rank, state in self._crew.ranks.items():
            silent_s = now - state.heard_at
            seated = state.incarnation > 0  # without a seat a rank sends no sign of life
            gone = state.lost or state.released
            if silent_s > self._terms.silence_s and seated and not gone:
                silent.append((rank, f"silent for {silent_s:.0f} s"))
        return silent

    def stall(self, now: float, *, started: bool, listing: bool, waiting: bool) -> str | None:
        """Why the run gets nowhere, or None.

        Args:
            now: the time.
            started: a mini-batch was handed out.
            listing: the inputs are still being listed.
            waiting: some mini-batch is out; without one, and all listed, only the disk is busy.
        """
        waited_s = now - self._progress_at
        if not started:
            limit_s = self._terms.first_dispatch_timeout_s
            what = (
                f"no mini-batch was handed out within {limit_s:g} s (first_task_creation_timeout)"
            )
        else:
            limit_s = self._terms.progress_timeout_s
            what = f"no progress for {waited_s:.0f} s (progress_update_timeout)"
        if waited_s <= limit_s or not (waiting or listing or not started):
            return None
        return f"{what}: {stall_text(self._crew, listing=listing and not waiting)}"
