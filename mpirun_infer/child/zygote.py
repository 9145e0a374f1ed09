"""The zygote: starts runners for one rank, reaps them, and kills whole trees of processes.

Owns every process that a rank starts after MPI_Init: it forks, the rank never does.
Touches: fork, exec, signals, /proc. Run by path: `python -I -S zygote.py <socket> <rank's pid>`.
Never:   imports anything of ours or runs user code in its own process; has threads; blocks on
         anything but poll().

Its socket (SOCK_SEQPACKET) carries one JSON object a datagram; class Zygote tells which.
When the rank goes away, however it goes, everything goes: the socket's end and the parent-death
signal both lead to `leave`, which kills all trees before the zygote itself ends.
"""

import array
import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import Any

DATAGRAM_BYTES_MAX = 1 << 20
FDS_PER_RUNNER = 4
TREE_VARIABLE = "MPIRUN_INFER_TREE"
"""Set in a runner's environment and inherited by what it starts: says whose tree it belongs to."""

SWEEP_ROUNDS_MAX = 100
SWEEP_WAIT_MAX_S = 0.05
LEAVE_WITHIN_S = 15.0

PR_SET_CHILD_SUBREAPER = 36
PARENT_DEATH_SIGNAL = signal.SIGRTMIN + 7
"""Of the zygote; not SIGKILL, so that it can kill the trees before it ends."""

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def load(name):
    """A sibling, by location: our folder is on nobody's sys.path."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location("_mpirun_infer_" + name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


birth: Any = load("birth")
proc: Any = load("processes")


class Runner:
    """A runner that the rank has not been told the end of.

    `sweep_at`: when to look for what is left of its tree, None: its tree is not being killed.
    A dead runner stays a zombie until its tree is swept: so its pid, which names its session,
    cannot become another process's.
    """

    def __init__(self, token, pid, marker, status_fd, folder):
        self.token = token
        self.pid = pid
        self.folder = folder
        self.marker = marker
        self.started_at = (proc.stat_of(pid) or (b"Z", 0, 0, 0))[3]
        self.status_fd = status_fd
        self.dead = False
        self.sweep_at = None
        self.rounds = 0
        self.killed = set()


class Zygote:
    """Requests in, events out.

    Requests: {"op": "spawn", "token", "argv", "env", "cwd", "cores"} with the descriptors
    [protocol socket, page, stdout, stderr]; {"op": "signal", "token", "signal"} to the runner
    alone; {"op": "kill", "token"}: SIGKILL its whole tree; {"op": "refuse", "token", "error"}: a
    spawn that the rank cannot ask for, to be answered in its turn.
    Events: {"event": "started", "token", "pid"}, {"event": "spawn_failed", "token", "error"},
    {"event": "exited", "token", "pid", "status", "killed", "left"} after the tree was swept.
    """

    def __init__(self, fd):
        self._pid = os.getpid()
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._runners = {}  # by token
        self._events: deque[bytes] = deque()
        self._identity = os.urandom(8).hex()
        self._leaving = False
        self._wakeup_fd, wakeup_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup_write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(PARENT_DEATH_SIGNAL, self._on_parent_death)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._wakeup_fd, select.POLLIN)

    def _on_parent_death(self, *_):
        self._leaving = True

    def serve(self):
        """Until the rank is gone."""
        while not self._leaving:
            ready = dict(self._poll.poll(self._timeout_ms()))
            if self._wakeup_fd in ready:
                self._empty_wakeup()
            self._read_statuses(ready)
            # What dies while the requests are being read is reported after them.
            if ready.get(self._socket.fileno(), 0) & ~select.POLLOUT:
                self._read_requests()
            self._notice_deaths()
            self._sweep_due()
            self._send_events()
        self.leave()

    def leave(self):
        """Kill everything and come back when it is dead, or after some seconds.

        No runner is reaped before that: its pid, by which its tree is found, stays its own.
        """
        deadline = time.monotonic() + LEAVE_WITHIN_S
        wait_s = 0.001
        while time.monotonic() < deadline:
            processes = proc.live_processes()
            seeds = {pid for pid, (_, parent, *_) in processes.items() if parent == self._pid}
            for runner in self._runners.values():
                seeds |= self._tree_seeds(runner, processes)
            doomed = proc.with_descendants(seeds, processes) - {self._pid}
            if not self._kill_all(doomed, processes):
                return
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, SWEEP_WAIT_MAX_S)

    # ------------------------------------------------------------------ waiting

    def _timeout_ms(self):
        due = [runner.sweep_at for runner in self._runners.values() if runner.sweep_at is not None]
        if not due:
            return None
        return max(0.0, min(due) - time.monotonic()) * 1000 + 0.1

    def _empty_wakeup(self):
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wakeup_fd, 4096):
                pass

    # ------------------------------------------------------------------ requests

    def _read_requests(self):
        while True:
            fds: list[int] = []
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    DATAGRAM_BYTES_MAX,
                    socket.CMSG_SPACE(16 * array.array("i").itemsize),
                    socket.MSG_CMSG_CLOEXEC,
                )
                for _, kind, payload in ancillary:
                    if kind == socket.SCM_RIGHTS:
                        whole = len(payload) - len(payload) % 4
                        fds.extend(array.array("i", payload[:whole]))
                if not data:
                    self._leaving = True
                    return
                self._handle(data, fds, truncated=bool(flags & socket.MSG_TRUNC))
            except BlockingIOError:
                return
            except OSError:
                self._leaving = True
                return
            finally:
                for fd in fds:
                    os.close(fd)

    def _handle(self, data, fds, *, truncated):
        token = None
        try:
            request = json.loads(data)
            token = request["token"]
            self._obey(request, token, fds)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"a request of more than {DATAGRAM_BYTES_MAX} bytes" if truncated else error
            if token not in self._runners:
                self._say(event="spawn_failed", token=token, error=f"cannot start: {reason}")

    def _obey(self, request, token, fds):
        if request["op"] == "spawn":
            if token in self._runners or len(fds) != FDS_PER_RUNNER:
                raise ValueError(f"token in use, or {len(fds)} descriptors")
            self._spawn(request, token, fds)
            return
        if request["op"] == "refuse":
            raise ValueError(request["error"])
        runner = self._runners.get(token)
        if runner is None:
            return  # its end has been told
        if request["op"] == "signal":
            if not runner.dead:
                os.kill(runner.pid, request["signal"])
        elif runner.sweep_at is None:
            runner.rounds = 0
            runner.sweep_at = time.monotonic()  # in this turn of `serve`

    def _spawn(self, request, token, fds):
        marker = f"{TREE_VARIABLE}={self._identity}.{token}"
        request["env"][TREE_VARIABLE] = f"{self._identity}.{token}"
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
            if pid == 0:
                birth.become_runner(request, fds, write_fd, self._pid)
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self._runners[token] = Runner(token, pid, marker.encode(), read_fd, request["cwd"])
        self._poll.register(read_fd, select.POLLIN)

    def _read_statuses(self, ready):
        """Exec closes the pipe; a failure writes into it first."""
        for runner in list(self._runners.values()):
            if runner.status_fd in ready:
                self._read_status(runner)

    def _read_status(self, runner):
        error = os.read(runner.status_fd, 4096)
        self._poll.unregister(runner.status_fd)
        os.close(runner.status_fd)
        runner.status_fd = -1
        if error:
            del self._runners[runner.token]
            os.waitpid(runner.pid, 0)
            text = error.decode("utf-8", "replace")
            self._say(event="spawn_failed", token=runner.token, error=text)
        else:
            self._say(event="started", token=runner.token, pid=runner.pid)

    # ------------------------------------------------------------------ events

    def _say(self, **event):
        self._events.append(json.dumps(event).encode("ascii"))

    def _send_events(self):
        try:
            while self._events:
                self._socket.send(self._events[0])
                self._events.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._leaving = True
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._events else 0))

    # ------------------------------------------------------------------ deaths and sweeps

    def _notice_deaths(self):
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        for runner in list(self._runners.values()):
            if not runner.dead and os.waitid(os.P_PID, runner.pid, peek) is not None:
                runner.dead = True
                runner.rounds = 0
                runner.sweep_at = time.monotonic()
                if runner.status_fd >= 0:
                    self._read_status(runner)
        self._reap_orphans(peek)

    def _reap_orphans(self, peek):
        runner_pids = {runner.pid for runner in self._runners.values()}
        with contextlib.suppress(ChildProcessError):
            while (info := os.waitid(os.P_ALL, 0, peek)) is not None:
                if info.si_pid in runner_pids:
                    return  # it hides others; its sweep reaps them
                os.waitpid(info.si_pid, 0)

    def _sweep_due(self):
        now = time.monotonic()
        for runner in list(self._runners.values()):
            if runner.sweep_at is not None and runner.sweep_at <= now:
                self._sweep(runner)

    def _sweep(self, runner):
        """One round: kill what is there of the tree; the runner's end is told when none is."""
        processes = proc.live_processes()
        doomed = proc.with_descendants(self._tree_seeds(runner, processes), processes)
        doomed.discard(self._pid)
        left = self._kill_all(doomed, processes)
        runner.killed.update(left)
        runner.rounds += 1
        if left and runner.rounds < SWEEP_ROUNDS_MAX:
            wait_s = min(0.001 * 2 ** min(runner.rounds, 10), SWEEP_WAIT_MAX_S)
            runner.sweep_at = time.monotonic() + wait_s
            return
        if not runner.dead:
            runner.sweep_at = None  # it hangs in the kernel, in a driver say: SIGCHLD will tell
            return
        del self._runners[runner.token]
        status = os.waitpid(runner.pid, 0)[1]
        with contextlib.suppress(OSError):  # what the script left in it stays
            os.rmdir(os.fsencode(runner.folder))
        self._say(
            event="exited",
            token=runner.token,
            pid=runner.pid,
            status=status,
            killed=sorted(runner.killed - {runner.pid}),
            left=sorted(left),
        )

    def _tree_seeds(self, runner, processes):
        """Its session, what carries its mark, and orphans that can only be its own."""
        seeds = {runner.pid}
        alone = all(other.dead for other in self._runners.values() if other is not runner)
        runner_pids = {other.pid for other in self._runners.values()}
        sessions = runner_pids - {runner.pid}
        for pid, (state, parent, session, started_at) in processes.items():
            if pid in runner_pids or pid == self._pid or state == b"Z":
                continue
            if session in sessions:
                continue
            if (
                session == runner.pid
                or (alone and parent == self._pid)
                or (started_at >= runner.started_at and runner.marker in proc.environment_of(pid))
            ):
                seeds.add(pid)
        return seeds

    def _kill_all(self, pids, processes):
        """SIGKILL them, reap our own dead ones; the pids that were alive."""
        alive = set()
        runner_pids = {runner.pid for runner in self._runners.values()}
        for pid in pids:
            state, parent, _, _ = processes.get(pid, (b"Z", 0, 0, 0))
            if state in (b"Z", b"X"):
                if parent == self._pid and pid not in runner_pids:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                alive.add(pid)
        return alive


def main():
    """Cut every tie but the socket, then serve."""
    fd, parent_pid = int(sys.argv[1]), int(sys.argv[2])
    os.setsid()
    null_fd = os.open(os.devnull, os.O_RDWR)
    for standard_fd in (0, 1, 2):
        os.dup2(null_fd, standard_fd)
    birth.close_all_but({0, 1, 2, fd})
    os.set_inheritable(fd, False)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    birth.prctl(PR_SET_CHILD_SUBREAPER, 1)
    zygote = Zygote(fd)
    birth.prctl(birth.PR_SET_PDEATHSIG, PARENT_DEATH_SIGNAL)
    if os.getppid() == parent_pid:
        zygote.serve()
    os._exit(0)


if __name__ == "__main__":
    main()
