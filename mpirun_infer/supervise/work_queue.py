"""What a worker has to do: what its runner has, and what waits in the rank.

Owns both queues and the rule of how far ahead the runner is given work.
Touches: nothing.
Never:   talks to the runner or to the master.

What waits here can be taken back; what the runner has cannot. Runs shorter than `AHEAD_BELOW_S` are
handed over ahead of time (nobody needs to take those back), so that the runner never waits for us.
"""

from collections import deque
from collections.abc import Sequence

from mpirun_infer.core.crew import AHEAD_BELOW_S
from mpirun_infer.supervise.autopsy import Try


class WorkQueue:
    """Tries in the order of the hand-out."""

    def __init__(self) -> None:
        self._waiting: deque[Try] = deque()
        self._sent: deque[Try] = deque()
        self._run_s: float | None = None

    def __len__(self) -> int:
        """All that is not answered."""
        return len(self._waiting) + len(self._sent)

    @property
    def first(self) -> Try | None:
        """What the runner should be at."""
        return self._sent[0] if self._sent else None

    @property
    def sent(self) -> list[Try]:
        """What the runner has, in order."""
        return list(self._sent)

    def add(self, tries: Sequence[Try]) -> None:
        """More to do, after what is here already."""
        self._waiting.extend(tries)

    def next_for_runner(self) -> list[Try]:
        """What the runner may have now: the next one, or all when runs are short."""
        ahead = self._run_s is not None and self._run_s < AHEAD_BELOW_S
        count = len(self._waiting) if ahead else min(len(self._waiting), 1 - len(self._sent))
        tries = [self._waiting.popleft() for _ in range(max(0, count))]
        self._sent.extend(tries)
        return tries

    def answered(self, answer: tuple[int, int]) -> None:
        """The runner answered (mini-batch, try); ValueError unless that is the one it was at."""
        if not self._sent or answer != (self._sent[0][0].id, self._sent[0][1]):
            raise ValueError(f"mini_batch {answer[0]}, try {answer[1]}")
        self._sent.popleft()

    def note_run(self, run_s: float) -> None:
        """How long a run() took."""
        self._run_s = run_s if self._run_s is None else (self._run_s + run_s) / 2

    def take_waiting(self) -> tuple[int, ...]:
        """Empty what waits here; its mini-batches' numbers."""
        ids = tuple(mini_batch.id for mini_batch, _ in self._waiting)
        self._waiting.clear()
        return ids

    def take_all(self) -> tuple[int, ...]:
        """Empty both; the numbers in order."""
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        return self.take_waiting()
