"""When a runner is late, and the ladder of kills."""

import signal

import pytest

from mpirun_infer.child.wire import DUMP_SIGNAL
from mpirun_infer.model import FailureKind, MiniBatch, RunnerLimits
from mpirun_infer.supervise.deadlines import DUMP_WAIT_S, KillLadder, overdue
from mpirun_infer.supervise.runner_process import PageView

PHASES = ("idle", "import", "init", "load", "run", "format", "shutdown")
LIMITS = RunnerLimits(
    init_timeout_s=5.0,
    run_timeout_s=10.0,
    overhead_timeout_s=20.0,
    init_tries_max=3,
    rows_bytes_max=1000,
    term_grace_s=2.0,
    unkillable_after_s=30.0,
)
TRY = (MiniBatch(id=5, input_index=0, first_item=0, paths=(b"/d",)), 1)
T0 = 1000.0


def late(now, phase, *, since=T0, moved_at=T0, mini_batch=5, try_number=1):
    page = PageView(mini_batch, try_number, PHASES.index(phase), int(since * 1e9))
    return overdue(TRY, page, moved_at, now, LIMITS)


@pytest.mark.parametrize(
    ("phase", "limit_s", "kind", "words"),
    [
        ("run", 10, FailureKind.RUN_TIMEOUT, "run() took longer than 10 s (run_invocation_"),
        (
            "load",
            20,
            FailureKind.LOAD_TIMEOUT,
            "it took longer than 20 s (task_overhead_timeout) w",
        ),
        ("format", 20, FailureKind.LOAD_TIMEOUT, "it took longer than 20 s (task_overhead_timeo"),
        ("idle", 20, FailureKind.LOAD_TIMEOUT, "it took longer than 20 s (task_overhead_timeo"),
    ],
)
def test_each_phase_has_its_limit(phase, limit_s, kind, words):
    assert late(T0 + limit_s, phase) is None
    cause = late(T0 + limit_s + 0.01, phase)
    assert cause.kind is kind
    assert cause.error.startswith(words)


def test_run_is_timed_from_its_own_beginning():
    assert late(T0 + 50, "run", since=T0 + 41) is None
    assert late(T0 + 50, "run", since=T0 + 39) is not None


def test_a_page_that_speaks_of_another_try_is_timed_from_the_last_move():
    for other in ({"mini_batch": 4}, {"try_number": 2}):
        assert late(T0 + 15, "run", since=T0 - 500, **other) is None
        cause = late(T0 + 21, "run", since=T0 - 500, **other)
        assert cause.kind is FailureKind.LOAD_TIMEOUT


def test_an_old_page_does_not_count_before_the_last_move():
    assert late(T0 + 19, "load", since=T0 - 500) is None


# --------------------------------------------------------------------------- the ladder


class Spawner:
    """Keeps what it is asked for."""

    def __init__(self):
        self.asked = []

    def signal(self, token, number):
        self.asked.append((token, number))

    def kill(self, token):
        self.asked.append((token, "kill"))

    def take(self):
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def spawner():
    return Spawner()


def test_dump_term_kill_and_giving_up(spawner):
    ladder = KillLadder(spawner, 7, LIMITS)
    now = T0
    ladder.dump(now)
    assert spawner.take() == [(7, DUMP_SIGNAL)]
    for wait_s, asked in ((DUMP_WAIT_S, (7, signal.SIGTERM)), (LIMITS.term_grace_s, (7, "kill"))):
        assert not ladder.climb(now + wait_s)
        assert spawner.take() == []
        assert not ladder.killed
        now += wait_s + 0.01
        assert not ladder.climb(now)
        assert spawner.take() == [asked]
    assert ladder.killed
    assert not ladder.climb(now + LIMITS.unkillable_after_s)
    assert ladder.climb(now + LIMITS.unkillable_after_s + 0.01)
    assert spawner.take() == []


def test_one_that_was_told_to_leave_gets_time_and_then_no_mercy(spawner):
    ladder = KillLadder(spawner, 7, LIMITS)
    ladder.wait(T0, 15.0)
    assert not ladder.climb(T0 + 15)
    assert spawner.take() == []
    assert not ladder.climb(T0 + 15.01)
    assert spawner.take() == [(7, "kill")]
