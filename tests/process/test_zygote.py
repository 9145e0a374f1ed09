"""The zygote, spoken to over its real socket: births, deaths, and trees that leave nothing."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from mpirun_infer.child import processes, wire

ZYGOTE = Path(processes.__file__).parent / "zygote.py"
WITHIN_S = 15.0
DEVNULL_STATUS = os.stat(os.devnull).st_rdev

TREE = """
import os, signal, sys
folder = sys.argv[1]

def daemon(name, detach, double, bare):
    pid = os.fork()
    if pid:
        if double:
            os.waitpid(pid, 0)
        return
    if detach:
        os.setsid()
    if double and os.fork():
        os._exit(0)
    if detach:
        os.setpgid(0, 0) if double else None
    with open(os.path.join(folder, name + ".new"), "w") as file:
        file.write(str(os.getpid()))
    os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))
    env = {} if bare else os.environ
    os.execve("/bin/sleep", ["sleep", "600"], env)

daemon("child", False, False, False)
daemon("own_session", True, False, False)
daemon("daemon", True, True, False)
daemon("bare_daemon", True, True, True)
if sys.argv[2] == "stay":
    signal.pause()
while len(os.listdir(folder)) < 4:
    os.sched_yield()
"""
STORM = """
import os, signal
for _ in range(200):
    if os.fork() == 0:
        os.setsid()
        signal.pause()
print("up", flush=True)
signal.pause()
"""
TREE_NAMES = ("child", "own_session", "daemon", "bare_daemon")


def is_alive(pid):
    stat = processes.stat_of(pid)
    return stat is not None and stat[0] not in (b"Z", b"X")


class Rank:
    """The other side of a zygote."""

    def __init__(self):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(ZYGOTE),
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                pass_fds=[theirs.fileno()],
                env={},
            )
        self.events = []
        self.pipes = {}

    def request(self, request, fds=()):
        socket.send_fds(self.socket, [json.dumps(request).encode()], list(fds))

    def spawn(self, token, argv, *, env=None, cwd="/", cores=()):
        protocol, theirs = socket.socketpair()
        page_fd = os.memfd_create("page")
        os.ftruncate(page_fd, 4096)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        fds = [theirs.fileno(), page_fd, out_write, err_write]
        env = {"PATH": os.environ["PATH"]} if env is None else env
        request = {"op": "spawn", "token": token, "argv": argv, "env": env, "cwd": cwd}
        self.request({**request, "cores": list(cores)}, fds)
        theirs.close()
        for fd in (page_fd, out_write, err_write):
            os.close(fd)
        self.close_pipes(token)
        self.pipes[token] = (protocol, out_read, err_read)

    def event(self):
        ready, _, _ = select.select([self.socket], [], [], WITHIN_S)
        assert ready, "no event came"
        return json.loads(self.socket.recv(1 << 20))

    def started(self, token):
        event = self.event()
        assert (event["event"], event["token"]) == ("started", token), event
        return event["pid"]

    def output(self, token, stream=1):
        """All that was printed; waits for the end."""
        with os.fdopen(os.dup(self.pipes[token][stream]), "rb") as file:
            return file.read()

    def fds(self):
        return sorted(os.listdir(f"/proc/{self.process.pid}/fd"), key=int)

    def close(self, expected_status=0):
        self.socket.close()
        assert self.process.wait(WITHIN_S) == expected_status
        for token in tuple(self.pipes):
            self.close_pipes(token)

    def close_pipes(self, token):
        if token in self.pipes:
            protocol, out_read, err_read = self.pipes.pop(token)
            protocol.close()
            os.close(out_read)
            os.close(err_read)


@pytest.fixture
def rank():
    rank = Rank()
    yield rank
    rank.close()


def tree_pids(folder):
    wait_until(lambda: all((folder / name).exists() for name in TREE_NAMES), "the tree")
    return {name: int((folder / name).read_text()) for name in TREE_NAMES}


def spawn_tree(rank, folder, how, token=1):
    folder.mkdir()
    rank.spawn(token, [sys.executable, "-c", TREE, str(folder), how])
    return rank.started(token)


def test_a_runner_is_started_and_its_exit_status_told(rank):
    rank.spawn(7, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    pid = rank.started(7)
    expected = {"event": "exited", "token": 7, "pid": pid, "status": 3 << 8}
    event = rank.event()
    assert expected | {"killed": [], "left": []} == event
    assert rank.output(7) == b"out\n"
    assert rank.output(7, 2) == b"err\n"


def test_a_runner_killed_by_a_signal_is_told_with_that_signal(rank):
    rank.spawn(1, ["/bin/sh", "-c", "kill -SEGV $$"])
    rank.started(1)
    assert os.WTERMSIG(rank.event()["status"]) == signal.SIGSEGV


@pytest.mark.parametrize(
    ("argv", "cwd", "text"),
    [
        (["/no/such/python"], "/", "cannot start '/no/such/python': No such file or directory"),
        (["/bin/true"], "/dev/null/x", "cannot enter the folder '/dev/null/x': Not a directory"),
    ],
)
def test_a_runner_that_cannot_be_started_is_told_with_its_reason(rank, argv, cwd, text):
    rank.spawn(1, argv, cwd=cwd)
    assert {"event": "spawn_failed", "token": 1, "error": text} == rank.event()
    rank.spawn(1, ["/bin/true"])  # the token is free again
    rank.started(1)


def test_its_folder_is_made(rank, tmp_path):
    folder = tmp_path / "a" / "b"
    rank.spawn(1, ["/bin/pwd"], cwd=str(folder))
    rank.started(1)
    assert f"{folder}\n".encode() == rank.output(1)


def test_a_request_that_makes_no_sense_does_no_harm(rank):
    rank.socket.send(b"\xff{nonsense")
    assert rank.event()["event"] == "spawn_failed"
    rank.request({"op": "spawn", "token": 5})
    assert rank.event()["token"] == 5
    rank.request({"op": "kill", "token": 99})
    rank.request({"op": "signal", "token": 99, "signal": 15})
    rank.spawn(6, ["/bin/true"])
    rank.started(6)


def test_what_a_runner_is_born_with(rank):
    program = (
        "import os, resource, signal, sys\n"
        "print(os.getsid(0) == os.getpid(), os.stat(0).st_rdev, os.sched_getaffinity(0))\n"
        "print(sys.argv[1:], [n for n in map(int, os.listdir('/proc/self/fd')) if n > 3])\n"
        "print([signal.getsignal(n) for n in (15, 1, 10, 12)], signal.pthread_sigmask(0, []))\n"
        "core_bytes = resource.getrlimit(resource.RLIMIT_CORE)[0]\n"
        "print(core_bytes, open('/proc/self/oom_score_adj').read())\n"
        "print(os.fsencode(os.environ['NAME']))\n"
    )
    core = min(os.sched_getaffinity(0))
    env = {"NAME": "caf\udce9", "PATH": os.environ["PATH"]}
    rank.spawn(1, [sys.executable, "-I", "-c", program], env=env, cores=[core])
    rank.started(1)
    session, argv, signals, limits, name = rank.output(1).decode().split("\n", 4)
    assert f"True {DEVNULL_STATUS} {{{core}}}" == session
    assert argv == "['100', '101'] [100, 101]"
    default, ignored = "<Handlers.SIG_DFL: 0>", "<Handlers.SIG_IGN: 1>"
    assert f"[{default}, {default}, {ignored}, {ignored}] set()" == signals
    assert limits == "0 1000"
    assert name.strip() == "b'caf\\xe9'"


def test_a_signal_goes_to_the_runner_alone(rank):
    program = "trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    rank.spawn(1, ["/bin/sh", "-c", program])
    rank.started(1)
    assert os.read(rank.pipes[1][1], 100) == b"up\n"
    rank.request({"op": "signal", "token": 1, "signal": int(signal.SIGTERM)})
    assert rank.event()["status"] == 0
    assert rank.output(1) == b"got\n"


def test_kill_takes_the_whole_tree(rank, tmp_path):
    runner_pid = spawn_tree(rank, tmp_path / "tree", "stay")
    pids = tree_pids(tmp_path / "tree")
    rank.request({"op": "kill", "token": 1})
    event = rank.event()
    assert os.WTERMSIG(event["status"]) == signal.SIGKILL
    assert set(pids.values()) <= set(event["killed"])
    assert event["left"] == []
    assert not [name for name, pid in pids.items() if is_alive(pid)]
    assert not is_alive(runner_pid)


def test_what_a_runner_leaves_behind_dies_with_it(rank, tmp_path):
    spawn_tree(rank, tmp_path / "tree", "leave")
    pids = tree_pids(tmp_path / "tree")
    event = rank.event()
    assert (event["event"], event["status"]) == ("exited", 0)
    assert sorted(pids.values()) == event["killed"]
    assert not [name for name, pid in pids.items() if is_alive(pid)]


def test_a_tree_dies_without_harm_to_another(rank, tmp_path):
    spawn_tree(rank, tmp_path / "one", "stay", token=1)
    ours = tree_pids(tmp_path / "one")
    survivor_pid = spawn_tree(rank, tmp_path / "two", "stay", token=2)
    others = tree_pids(tmp_path / "two")
    rank.request({"op": "kill", "token": 1})
    event = rank.event()
    assert event["token"] == 1
    # A daemon with an empty environment could be either's: it waits until only one is left.
    told_apart = {name: pid for name, pid in ours.items() if name != "bare_daemon"}
    assert set(told_apart.values()) <= set(event["killed"])
    assert all(is_alive(pid) for pid in (survivor_pid, *others.values()))
    rank.request({"op": "kill", "token": 2})
    rank.event()
    assert not [pid for pid in (*ours.values(), *others.values()) if is_alive(pid)]


def test_a_forking_storm_is_put_down(rank, tmp_path):
    rank.spawn(1, [sys.executable, "-c", STORM])
    rank.started(1)
    assert os.read(rank.pipes[1][1], 100) == b"up\n"
    rank.request({"op": "kill", "token": 1})
    event = rank.event()
    assert len(event["killed"]) == 200
    assert not [pid for pid in event["killed"] if is_alive(pid)]


def test_all_trees_die_when_the_rank_closes_its_socket(tmp_path):
    rank = Rank()
    runner_pid = spawn_tree(rank, tmp_path / "tree", "stay")
    pids = tree_pids(tmp_path / "tree")
    rank.close()
    assert not [pid for pid in (runner_pid, *pids.values()) if is_alive(pid)]


RANK = """
import signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from pathlib import Path
import test_zygote
rank = test_zygote.Rank()
test_zygote.spawn_tree(rank, Path(sys.argv[2]), "stay")
print(rank.process.pid, flush=True)
signal.pause()
"""


def test_all_trees_die_when_the_rank_is_killed(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ZYGOTE.parents[2])}
    command = [sys.executable, "-c", RANK, str(Path(__file__).parent), str(tmp_path / "tree")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as rank:
        zygote_pid = int(rank.stdout.readline())
        pids = tree_pids(tmp_path / "tree")
        rank.kill()
    everyone = (zygote_pid, *pids.values())
    wait_until(lambda: not any(map(is_alive, everyone)), "the end of the trees")


def test_the_runner_dies_when_the_zygote_is_killed():
    rank = Rank()
    rank.spawn(1, ["/bin/sleep", "600"])
    pid = rank.started(1)
    rank.process.kill()
    rank.process.wait(WITHIN_S)
    wait_until(lambda: not is_alive(pid), "the end of the runner")
    rank.close(expected_status=-signal.SIGKILL)


def test_no_descriptor_is_left_open(rank):
    rank.spawn(0, ["/bin/true"])
    rank.started(0)
    rank.event()
    before = rank.fds()
    for token in range(1, 30):
        rank.spawn(token, ["/bin/true" if token % 3 else "/no/such/file"])
        event = rank.event()
        if event["event"] == "started":
            assert rank.event()["event"] == "exited"
    rank.request({"op": "kill", "token": 1}, [0, 1, 2])  # descriptors where none are wanted
    rank.spawn(99, ["/bin/true"])
    rank.started(99)
    rank.event()
    assert before == rank.fds()
    assert {"/dev/null"} == {os.readlink(f"/proc/{rank.process.pid}/fd/{n}") for n in (0, 1, 2)}


def test_it_sleeps_while_nothing_happens(rank):
    rank.spawn(1, ["/bin/sleep", "600"])
    rank.started(1)

    def switches():
        status = Path(f"/proc/{rank.process.pid}/status").read_text()
        return [int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line]

    wait_until(lambda: processes.stat_of(rank.process.pid)[0] == b"S", "sleep")
    before = switches()
    select.select([rank.socket], [], [], 0.5)
    assert before == switches()


def test_it_survives_the_signals_that_are_sent_to_a_whole_job(rank):
    rank.request({"op": "spawn", "token": 0})
    rank.event()  # it is up
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        rank.process.send_signal(number)
    rank.spawn(1, ["/bin/true"])
    rank.started(1)


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_a_real_runner_and_the_daemons_of_its_script(rank, tmp_path, how):
    script = Path(__file__).parent.parent / "entry_scripts" / "daemons.py"
    rank.spawn(1, [sys.executable, str(ZYGOTE.parent / "runner.py")], cwd=str(tmp_path / "cwd"))
    rank.started(1)
    connection = rank.pipes[1][0]
    connection.settimeout(WITHIN_S)
    init = {
        "type": "init",
        "script": str(script),
        "module": "daemons",
        "sys_path": [str(script.parent)],
        "argv": [str(script)],
        "process": 1,
        "agent_name": "process001",
        "logging_level": "INFO",
        "row_options": {},
        "start_folder": str(tmp_path),
        "folders": {},
        "rows_bytes_max": 1000,
    }
    wire.send(connection.fileno(), init)
    wire.send(
        connection.fileno(), {"type": "run", "tries": [[0, 1, 0, 1], [1, 1, 1, 1]]}, b"/a\0/b"
    )
    reader = wire.FrameReader(1000)
    frames = []
    while len(frames) < 4:
        data = connection.recv(1000)
        assert data, rank.output(1, 2)
        reader.feed(data)
        frames += iter(reader.pop, None)
    pids = [int(bytes(body)) for header, body in frames if header["type"] == "result"]
    assert all(map(is_alive, pids))
    if how == "kill":
        rank.request({"op": "kill", "token": 1})
    else:
        wire.send(connection.fileno(), {"type": "shutdown"})
    event = rank.event()
    assert (event["event"], event["killed"]) == ("exited", sorted(pids))
    assert event["status"] == (signal.SIGKILL if how == "kill" else 0)
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
