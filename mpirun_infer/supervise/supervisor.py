"""One worker: its runner, replaced when it dies, with deadlines for everything it does.

Owns: which mini-batches the runner has, which wait here (and can be taken back), and the way from
a passed deadline to a dead tree and a fresh runner.
Touches: processes, through the spawner; the clock is an argument (monotonic seconds).
Never:   talks to the master (the role sends what `take()` returns); judges a death (`autopsy`);
         believes a frame (`answers`).
"""

import os
from collections.abc import Sequence
from enum import Enum, auto

from mpirun_infer.core.events import Buffer
from mpirun_infer.core.messages import FromWorker
from mpirun_infer.model import Failure, FailureKind, RunnerPlan, Seat
from mpirun_infer.supervise.answers import (
    Answers,
    InitError,
    read_answered,
    read_failure,
    read_init_error,
    read_result,
    read_seconds,
    read_text,
)
from mpirun_infer.supervise.autopsy import Cause, Finding, Try, broken_connection, examine
from mpirun_infer.supervise.deadlines import KillLadder, overdue
from mpirun_infer.supervise.desk import Desk, Output
from mpirun_infer.supervise.greeting import Greeting
from mpirun_infer.supervise.poller import Poller
from mpirun_infer.supervise.runner_process import Frame, RunnerProcess
from mpirun_infer.supervise.runner_setup import runner_argv, runner_environment
from mpirun_infer.supervise.spawner import Exited, Spawner, SpawnFailed
from mpirun_infer.supervise.work_queue import WorkQueue

SHUTDOWN_TIMEOUT_S = 15.0
HANG_UP_TIMEOUT_S = 1.0
"""From the end of the connection to that of the process."""

GOING_TIMEOUT_S = 5.0
"""For a runner that said that init() failed, to end by itself."""


class State(Enum):
    """Of the runner.

    STARTING: import and init. READY: works or waits. DYING: stack dump, TERM, KILL. CLOSING: told
    to leave. CLOSED: there is none and there will be none.
    """

    STARTING = auto()
    READY = auto()
    DYING = auto()
    CLOSING = auto()
    CLOSED = auto()


class Supervisor:
    """See the module's docstring; the token of a process is its process number."""

    def __init__(
        self,
        seat: Seat,
        plan: RunnerPlan,
        incarnation: int,
        *,
        processes: range,
        spawner: Spawner,
        poller: Poller,
        desk: Desk,
    ) -> None:
        """`processes`: the numbers for this worker's processes, in the order of their use."""
        self.seat = seat
        self.state = State.CLOSED
        self.process = -1
        self.processes_started = 0
        self._plan = plan
        self._limits = plan.limits
        self._numbers = processes
        self._spawner = spawner
        self._poller = poller
        self._desk = desk
        self._answers = Answers(seat.worker, incarnation)
        self._runner: RunnerProcess | None = None
        self._work = WorkQueue()
        self._output = Output(desk, -1)
        self._now = 0.0
        self._moved_at = 0.0
        self._init_deadline = 0.0
        self._ladder = KillLadder(spawner, -1, plan.limits)
        self._cause: Cause | None = None
        self._init_error: InitError | None = None
        self._was_ready = False
        self._greeting = Greeting(plan)
        self._fruitless = 0

    # ------------------------------------------------------------------ what the role asks

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._work

    @property
    def wants_work(self) -> bool:
        """Ready, and nothing is prefetched: the master's next message is urgent."""
        return self.state is State.READY and len(self._work) <= 1

    def running(self, now: float) -> tuple[int, int, str, float] | None:
        """(worker, mini-batch, phase, seconds in it), or None when it does nothing."""
        page = self._runner.page() if self._runner is not None else None
        if page is None or page.phase == "idle":
            return None
        return (self.seat.worker, page.mini_batch, page.phase, max(0.0, now - page.since_s))

    def take(self) -> list[tuple[FromWorker, Buffer]]:
        """Messages for the master, in order, with their bodies."""
        return self._answers.take()

    # ------------------------------------------------------------------ what the role tells

    def start(self, now: float) -> None:
        """Ask for a runner, the first or the next one."""
        self.process = self._numbers[self.processes_started]
        self.processes_started += 1
        self.state = State.STARTING
        self._now = now
        self._was_ready = False
        self._ladder = KillLadder(self._spawner, self.process, self._limits)
        self._cause = None
        self._init_error = None
        self._output = Output(self._desk, self.process)
        self._init_deadline = now + self._limits.init_timeout_s
        self._runner = RunnerProcess(
            self._poller,
            on_frames=self._on_frames,
            on_output=self._output.printed,
            rows_bytes_max=self._limits.rows_bytes_max,
        )
        self._runner.spawn(
            self._spawner,
            self.process,
            runner_argv(self._plan),
            env=runner_environment(self._plan, self.seat, os.environ),
            cwd=self._desk.working_folder(self.process),
            cores=self.seat.cores,
        )

    def submit(self, tries: Sequence[Try]) -> None:
        """Run these, in order, after what is here already."""
        self._work.add(tries)
        if self.state is State.READY:
            self._forward()
        else:  # they crossed with the news that there is no runner
            self._answers.returned(self._work.take_waiting(), ready=False)

    def revoke(self) -> None:
        """Give back what the runner does not have yet; answered even when that is nothing."""
        self._answers.returned(self._work.take_waiting(), ready=self.state is State.READY)

    def release(self, now: float, *, at_once: bool) -> None:
        """No more work: let the runner call shutdown(), or kill it."""
        if self.state in (State.CLOSED, State.CLOSING):
            return
        polite = self.state is State.READY and self.idle and not at_once
        self.state = State.CLOSING
        self._work.take_all()
        if polite and self._runner is not None:
            self._ladder.wait(now, SHUTDOWN_TIMEOUT_S)
            self._runner.send({"type": "shutdown"})
        else:
            self._ladder.kill(now)

    def check(self, now: float) -> None:
        """Look at the deadlines; call it some 20 times a second."""
        self._now = now
        match self.state:
            case State.STARTING:
                if now > self._init_deadline:
                    limit = f"{self._limits.init_timeout_s:g} s (init_timeout)"
                    error = f"import and init() took longer than {limit}"
                    self._expire(Cause(FailureKind.RUN_TIMEOUT, error))
            case State.READY:
                first = self._work.first
                page = self._runner.page() if first and self._runner is not None else None
                if first is not None and page is not None:
                    late = overdue(first, page, self._moved_at, now, self._limits)
                    if late is not None:
                        self._expire(late)
            case State.DYING | State.CLOSING:
                if self._ladder.climb(now):
                    self._unkillable()
            case State.CLOSED:
                pass

    def exited(self, event: Exited) -> None:
        """The zygote says that the runner and its tree are gone."""
        if self._runner is None:
            return
        self._take_frames()  # what it sent before it died still counts
        self._runner.drain_output()
        finding = self._examine(event.status)
        self._drop_runner()
        if self.state is State.CLOSING:
            self.state = State.CLOSED
        elif self._was_ready:
            self._died_at_work(finding)
        else:
            self._died_at_start(finding, killed=os.WIFSIGNALED(event.status))

    def spawn_failed(self, event: SpawnFailed) -> None:
        """There is no process."""
        self._drop_runner()
        if self.state is State.CLOSING:
            self.state = State.CLOSED
            return
        reason = f"cannot start {self._plan.python}: {event.error}"
        self._try_again(reason, "", usage_error=False)

    def abandon(self) -> None:
        """The zygote is gone, and with it every runner: nothing can be started any more."""
        self._drop_runner()
        self.state = State.CLOSED
        self._work.take_all()

    # ------------------------------------------------------------------ deaths

    def _examine(self, status: int) -> Finding:
        if self.state is State.DYING and self._cause is None and self._ladder.killed:
            self._cause = broken_connection("")
        return examine(
            handed=self._work.sent,
            page=self._runner.page() if self._runner is not None else None,
            now=self._now,
            status=status,
            cause=self._cause,
            stderr_tail=self._output.stderr_tail,
            script_folder=os.path.dirname(self._plan.script),
        )

    def _died_at_work(self, finding: Finding) -> None:
        self._charge(finding)
        self._answers.returned(self._work.take_all(), ready=False)
        if finding.blamed is None:
            reason = f"its process died between mini-batches: {finding.error}"
            self._try_again(reason, finding.detail, usage_error=False)
        else:
            self.start(self._now)

    def _died_at_start(self, finding: Finding, *, killed: bool) -> None:
        told = self._init_error or self._greeting.judge(finding, killed=killed)
        self._try_again(told.reason, told.detail, usage_error=told.usage_error)

    def _try_again(self, reason: str, detail: str, *, usage_error: bool) -> None:
        """A fresh runner, unless too many in a row came to nothing."""
        self._fruitless += 1
        self._output.keep_error(f"process {self.process}: {reason}\n{detail}")
        if usage_error or self._fruitless >= self._limits.init_tries_max:
            self.state = State.CLOSED
            log = self._desk.error_log(self.process)
            self._answers.retired(f"{reason}; log {log}", detail, usage_error=usage_error)
        else:
            self.start(self._now)

    def _charge(self, finding: Finding) -> None:
        """The blamed try failed; what else the runner had goes back uncharged."""
        if finding.blamed is None:
            return
        mini_batch, try_number = finding.blamed
        self._work.answered((mini_batch.id, try_number))
        log = self._desk.error_log(self.process)
        failure = finding.as_failure(self.process, self.seat.node, log)
        self._keep_stack((mini_batch.id, try_number), failure)
        self._answers.failed((mini_batch.id, try_number), failure)

    def _drop_runner(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _expire(self, cause: Cause) -> None:
        """A deadline passed: ask for a stack dump, then climb."""
        self._cause = cause
        self.state = State.DYING
        self._ladder.dump(self._now)

    def _unkillable(self) -> None:
        """It stays, stuck in the kernel: this worker is lost, the run is not."""
        closing = self.state is State.CLOSING
        self.state = State.CLOSED
        reason = (
            f"process {self.process} on {self.seat.node} cannot be killed (stuck in the kernel, "
            "perhaps in a GPU driver or a file system); the node needs a look"
        )
        self._cause = self._cause or Cause(FailureKind.PROCESS_EXIT, reason)
        finding = self._examine(0)
        self._drop_runner()
        if not closing:
            self._charge(finding)
            self._answers.retired(reason, finding.detail, usage_error=False)

    # ------------------------------------------------------------------ the runner speaks

    def _on_frames(self) -> None:
        self._take_frames()
        if self.state is State.READY:
            self._forward()
        runner = self._runner
        if runner is None or self.state not in (State.READY, State.STARTING):
            return
        if runner.damage or (not runner.connected and self._init_error is None):
            self.state = State.DYING
            if runner.damage:
                self._cause = broken_connection(runner.damage)
                self._ladder.kill(self._now)
            else:  # most likely it is dead already, and the zygote will tell how
                self._ladder.wait(self._now, HANG_UP_TIMEOUT_S)

    def _take_frames(self) -> None:
        if self._runner is None:
            return
        for frame in self._runner.frames():
            try:
                self._frame(frame)
            except (KeyError, TypeError, ValueError) as error:
                self._runner.break_off(f"a frame that makes no sense: {error!r}")
                return

    def _frame(self, frame: Frame) -> None:
        header, body = frame
        match header["type"]:
            case "result":
                answered = read_answered(header)
                result, rows = read_result(header, memoryview(body), self.process)
                self._answered(answered)  # not before all of the frame was checked
                self._work.note_run(result.run_s)
                self._answers.succeeded(answered, result, rows)
            case "failed":
                answered = read_answered(header)
                log = self._desk.error_log(self.process)
                failure = read_failure(header, self.process, self.seat.node, log)
                self._answered(answered)
                self._keep_stack(answered, failure)
                self._answers.failed(answered, failure)
            case "ready":
                self._ready(read_seconds(header, "init_s"))
            case "init_failed":
                self._init_error = read_init_error(header)
                self._init_deadline = self._now + GOING_TIMEOUT_S
            case "goodbye":
                if header["error"]:
                    self._output.keep_error(f"shutdown() failed: {read_text(header, 'error')}")
            case "hello":
                self._greet(read_text(header, "python"))
            case other:
                raise ValueError(f"type {other!r}")

    def _greet(self, version: str) -> None:
        """The first frame; the job answers it, if that is a Python for it."""
        if self.state is State.STARTING and self._runner is not None:
            folders = self._desk.folders(self.process)
            answer, self._init_error = self._greeting.answer(version, self.process, folders)
            self._runner.send(answer)

    def _ready(self, init_s: float) -> None:
        if self.state is not State.STARTING:
            raise ValueError("ready")
        self.state = State.READY
        self._was_ready = True
        self._answers.ready(init_s)

    def _answered(self, answered: tuple[int, int]) -> None:
        """Take the try that a frame answers off: it must be the one that was sent first."""
        self._work.answered(answered)
        self._moved_at = self._now
        self._fruitless = 0

    def _forward(self) -> None:
        """Give the runner what it may have."""
        was_idle = self._work.first is None
        tries = self._work.next_for_runner()
        if not tries or self._runner is None:
            return
        if was_idle:
            self._moved_at = self._now
        self._runner.send(
            {
                "type": "run",
                "tries": [[m.id, number, m.first_item, m.items] for m, number in tries],
            },
            b"\0".join(path for m, _ in tries for path in m.paths),
        )

    def _keep_stack(self, answered: tuple[int, int], failure: Failure) -> None:
        head = f"mini-batch {answered[0]}, try {answered[1]}: {failure.kind.value}: {failure.error}"
        self._output.keep_error(f"{head}\n{failure.detail}\n")
