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
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque

DATAGRAM_BYTES_MAX = 1 << 20
FDS_PER_RUNNER = 4
PRIVATE_FD_MIN = 100
TREE_VARIABLE = "MPIRUN_INFER_TREE"
"""Set in a runner's environment and inherited by what it starts: says whose tree it belongs to."""

SWEEP_ROUNDS_MAX = 100
SWEEP_WAIT_MAX_S = 0.05
LEAVE_WITHIN_S = 15.0

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PARENT_DEATH_SIGNAL = signal.SIGRTMIN + 7
"""Of the zygote; not SIGKILL, so that it can kill the trees before it ends."""

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
DEFAULT_IN_RUNNER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    PARENT_DEATH_SIGNAL,
)
OOM_SCORE = b"1000"

_libc = ctypes.CDLL(None, use_errno=True)


def to_bytes(text):
    """A string of a request as the kernel wants it."""
    return text.encode("utf-8", "surrogateescape")


# --------------------------------------------------------------------------- processes in /proc


def stat_of(pid):
    """(state, parent, session, start time) of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def environment_of(pid):
    """The environment that a process was started with; empty when it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def live_processes():
    """{pid: (state, parent, session, start time)} of all processes."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = stat_of(int(name))
            if stat is not None:
                found[int(name)] = stat
    return found


def with_descendants(seeds, processes):
    """The seeds and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid, (_, parent, _, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found = set()
    waiting = list(seeds)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


# --------------------------------------------------------------------------- a runner's birth


def become_runner(request, fds, status_fd, zygote_pid):
    """In the forked child: turn into the runner; what goes wrong is told through `status_fd`."""
    step = "prepare"
    try:
        signal.set_wakeup_fd(-1)
        for number in DEFAULT_IN_RUNNER:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != zygote_pid:
            os._exit(1)  # the zygote died before the line above
        protocol_fd, page_fd = (to_private_fd(fd) for fd in fds[:2])
        os.dup2(fds[2], 1)
        os.dup2(fds[3], 2)
        close_all_but({0, 1, 2, protocol_fd, page_fd, status_fd})
        set_limits(request["cores"])
        step = f"enter the folder {request['cwd']!r}"
        folder = to_bytes(request["cwd"])
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
        step = f"start {request['argv'][0]!r}"
        argv = [to_bytes(part) for part in request["argv"]]
        argv += [b"%d" % protocol_fd, b"%d" % page_fd]
        env = {to_bytes(name): to_bytes(value) for name, value in request["env"].items()}
        os.execvpe(argv[0], argv, env)
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        os.write(status_fd, f"cannot {step}: {reason}".encode("utf-8", "replace")[:4000])
    finally:
        os._exit(127)


def to_private_fd(fd):
    """A copy that survives exec, out of the way of what the user's programs expect to be free."""
    for lowest in (PRIVATE_FD_MIN, 10):
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD, lowest)
        except OSError:
            continue  # a very low limit of open files
    raise OSError(0, "too few file descriptors allowed (ulimit -n)")


def close_all_but(kept):
    """Close every other descriptor."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


def set_limits(cores):
    """Cores, no core files, first choice of the kernel when memory runs out; none is a must."""
    if cores:
        with contextlib.suppress(OSError, ValueError):
            os.sched_setaffinity(0, cores)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(OOM_SCORE)


class Runner:
    """A runner that the rank has not been told the end of.

    `sweep_at`: when to look for what is left of its tree, None: its tree is not being killed.
    A dead runner stays a zombie until its tree is swept: so its pid, which names its session,
    cannot become another process's.
    """

    def __init__(self, token, pid, marker, status_fd):
        self.token = token
        self.pid = pid
        self.marker = marker
        self.started_at = (stat_of(pid) or (b"Z", 0, 0, 0))[3]
        self.status_fd = status_fd
        self.dead = False
        self.sweep_at = None
        self.rounds = 0
        self.killed = set()


# --------------------------------------------------------------------------- the zygote


class Zygote:
    """Requests in, events out.

    Requests: {"op": "spawn", "token", "argv", "env", "cwd", "cores"} with the descriptors
    [protocol socket, page, stdout, stderr]; {"op": "signal", "token", "signal"} to the runner
    alone; {"op": "kill", "token"}: SIGKILL its whole tree.
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
        """Kill everything and come back when it is dead, or after some seconds."""
        deadline = time.monotonic() + LEAVE_WITHIN_S
        wait_s = 0.001
        while time.monotonic() < deadline:
            processes = live_processes()
            children = [pid for pid, stat in processes.items() if stat[1] == self._pid]
            seeds = set(children)
            for runner in self._runners.values():
                seeds |= self._tree_seeds(runner, processes)
            doomed = with_descendants(seeds, processes) - {self._pid}
            if not self._kill_all(doomed, processes) and not self._children_left():
                return
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, SWEEP_WAIT_MAX_S)

    @staticmethod
    def _children_left():
        """Reap what is dead; whether anything is left."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

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
                become_runner(request, fds, write_fd, self._pid)
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self._runners[token] = Runner(token, pid, marker.encode(), read_fd)
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
        processes = live_processes()
        doomed = with_descendants(self._tree_seeds(runner, processes), processes)
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
                or (started_at >= runner.started_at and runner.marker in environment_of(pid))
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
    close_all_but({0, 1, 2, fd})
    os.set_inheritable(fd, False)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    zygote = Zygote(fd)
    _libc.prctl(PR_SET_PDEATHSIG, PARENT_DEATH_SIGNAL, 0, 0, 0)
    if os.getppid() == parent_pid:
        zygote.serve()
    os._exit(0)


if __name__ == "__main__":
    main()
