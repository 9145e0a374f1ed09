"""One mpiexec from its start to its end, and what came of it.

Owns: the launch order's file, the process group of mpiexec, its output, the watch over the run's
signs of life.
Touches: one child process; the run folder (control/, status.json, the lock and the journal).
Never:   believes mpiexec's exit code.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from mpirun_infer.core.records import Ended
from mpirun_infer.errors import ExitCode
from mpirun_infer.launch.mpiexec import environment_for
from mpirun_infer.launch.scratch import Scratch, is_alive
from mpirun_infer.launch.signals import StopRequests
from mpirun_infer.model import LIBRARY_PATH_VARIABLE, LaunchOrder, RankVerdict, launch_pid
from mpirun_infer.store import journal, lock
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.supervise.parent_death import die_with_parent

LOOK_S = 0.1
SILENCE_S = 60.0
"""No sign of life of rank 0 this long: the ranks are given up. A stalled file system is no reason
for silence: rank 0's main thread, which gives the signs, touches no file."""

LEAVE_TIMEOUT_S = 5.0
"""For mpiexec, once rank 0 has given its verdict: everything is written then, and a rank that is
stopped would hold it for ever."""

TERM_GRACE_S = 3.0
OUTPUT_TAIL_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class LaunchOutcome:
    """What came of one launch; `lost`: the run neither ended nor gave up by itself."""

    exit_code: int
    reason: str
    lost: bool = False


class Ranks:
    """A context: leaving it leaves no process behind."""

    def __init__(
        self, folder: RunFolder, order: LaunchOrder, line: Sequence[str], stops: StopRequests
    ) -> None:
        """`line` starts the ranks; the launch file's path is added to it."""
        self._folder = folder
        self._order = order
        self._stops = stops
        self._file = folder.launch_file(order.launch)
        self._line = [*line, self._file]
        self._tails = {"stdout": bytearray(), "stderr": bytearray()}
        self._verdict: RankVerdict | None = None
        self._verdict_at = 0.0
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._process: subprocess.Popen[bytes] | None = None
        self._alive_at = 0.0
        self._epoch_before = 0
        self._has_started = False
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the ranks; may be entered again after it was left."""
        for tail in self._tails.values():
            tail.clear()
        self._verdict = None
        self._selector = selectors.DefaultSelector()
        self._alive_at = time.monotonic()
        self._epoch_before = self._newest_epoch()
        self._sweep_launch_files()
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(self._order))
        environment = self._cleanup.enter_context(Scratch())
        self._process = subprocess.Popen(
            self._line,
            env=environment_for(os.environ)
            | {LIBRARY_PATH_VARIABLE: os.environ.get("LD_LIBRARY_PATH", "")}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - next to nothing
        )
        for name, pipe in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            if pipe is not None:
                self._cleanup.enter_context(pipe)
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill()
        self._selector.close()
        self._cleanup.close()  # the pipes, and what MPI left on this host
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file)

    def watch(self, turn: Callable[[], None]) -> LaunchOutcome:
        """Until mpiexec has ended; `turn` is called ten times a second."""
        process = self._process
        assert process is not None  # noqa: S101 - entered
        while process.poll() is None or self._selector.get_map():
            self._read(LOOK_S)
            turn()
            if process.poll() is not None and self._selector.get_map():
                self._read(0.0)
                break  # whoever still holds the pipes is no rank of ours
            now = time.monotonic()
            why = self._why_kill(now)
            if why:
                self._kill()
                return self._judge(why)
        return self._judge(f"mpiexec ended with {_status_text(process.returncode)}")

    def _sweep_launch_files(self) -> None:
        """Remove the orders of launchers that died on this host."""
        with contextlib.suppress(OSError):
            names = os.listdir(self._folder.control_dir)
            for name in (name for name in names if name.startswith("launch.")):
                launch = name.removeprefix("launch.").removesuffix(".json")
                pid = launch_pid(launch, socket.gethostname())
                if pid is not None and not is_alive(pid):
                    os.unlink(os.path.join(self._folder.control_dir, name))

    # ------------------------------------------------------------------ watching

    def _why_kill(self, now: float) -> str:
        if self._stops.kill:
            return "stopped at once on request"
        if self._verdict is not None:
            late = now - self._verdict_at > LEAVE_TIMEOUT_S
            return "mpiexec did not end" if late else ""
        if now - self._alive_at > SILENCE_S:
            return f"no sign of life for {SILENCE_S:.0f} s"
        return ""

    def _read(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            try:
                data = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(key.fileobj)
                continue
            tail = self._tails[key.data]
            tail += data
            if key.data == "stdout":  # rank 0 alone writes to it: signs of life, then the verdict
                self._alive_at = time.monotonic()
                self._look_for_verdict(tail)
            del tail[:-OUTPUT_TAIL_BYTES]

    def _look_for_verdict(self, tail: bytearray) -> None:
        for line in bytes(tail).split(b"\n"):
            if line.startswith(b'{"exit_code":'):
                try:
                    self._verdict = msgspec.json.decode(line, type=RankVerdict)
                    self._verdict_at = time.monotonic()
                except msgspec.DecodeError:
                    continue  # the rest of the line is still to come

    # ------------------------------------------------------------------ judging

    def _judge(self, how: str) -> LaunchOutcome:
        if self._verdict is not None:
            reason = self._verdict.reason
            if self._verdict.exit_code == ExitCode.BUG:
                reason += "\n" + self.error_tail()
            return LaunchOutcome(self._verdict.exit_code, reason)
        ended = self._journal_end()
        # A complete run whose rows may not have their final name yet needs another master.
        if ended is not None and ended.exit_code != ExitCode.OK:
            return LaunchOutcome(ended.exit_code, ended.reason)
        if self._stops.kill:
            return LaunchOutcome(ExitCode.INCOMPLETE, how)
        # Whoever was killed would have started; and what has started before can start again.
        killed = self._process is not None and not 0 <= (self._process.returncode or 0) < 128
        if self._newest_epoch() == self._epoch_before and not killed and not self._has_started:
            return LaunchOutcome(
                ExitCode.USAGE,
                f"the ranks could not be started: {how}; mpirun-infer doctor --run looks closer\n"
                + self.error_tail(),
            )
        self._has_started = True
        return LaunchOutcome(ExitCode.INCOMPLETE, f"the ranks were lost: {how}", lost=True)

    def _journal_end(self) -> Ended | None:
        """The decision of this launch's own epoch, if there is one."""
        holder = lock.peek(self._folder)
        if holder is None or holder.launch != self._order.launch:
            return None
        last = None
        try:
            for _, record in journal.read(self._folder.journal_segment(holder.epoch)):
                last = record
        except OSError:
            return None
        return last if isinstance(last, Ended) else None

    def _newest_epoch(self) -> int:
        holder = lock.peek(self._folder)
        return 0 if holder is None else holder.epoch

    def error_tail(self) -> str:
        """The last lines that mpiexec and the ranks wrote to standard error."""
        lines = bytes(self._tails["stderr"]).decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-30:])

    # ------------------------------------------------------------------ ending

    def _kill(self) -> None:
        """End mpiexec's process group; the ranks die with mpiexec."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        for number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, number)
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                process.wait()
            return


def _status_text(returncode: int) -> str:
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"status {returncode}"
