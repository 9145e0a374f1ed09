"""Does what the file's name says; a file called "ok" gives a row. init() and shutdown() tell."""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
import time

FOLDER = os.environ.get("MARKS", ".")
FORGED = {
    "forge_run_s": {"run_s": float("nan")},
    "forge_rows": {"rows": sys.maxsize},
    "forge_truth": {"rows": True},
    "forge_crc": {"crc": 1},
}


def mark(name):
    """True the first time."""
    path = os.path.join(FOLDER, name)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def init():
    how = os.environ.get("INIT", "")
    if how == "raises":
        raise OSError("no model here")
    if how == "raises once" and mark("init"):
        raise OSError("no model yet")
    if how == "hangs":
        time.sleep(600)
    if how == "dies":
        os._exit(9)


def shutdown():
    mark("shutdown")


def sockets():
    """Descriptors above 2 that are sockets: one of them is the protocol's."""
    for fd in range(3, 300):
        try:
            socket.socket(fileno=os.dup(fd)).close()
        except OSError:
            continue
        yield fd


def forge(header):
    text = json.dumps(header).encode()
    for fd in sockets():
        os.write(fd, struct.pack("<4sIQ", b"MIF1", len(text), 0) + text)


def daemon():
    read_fd, write_fd = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write_fd, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    return int(os.read(read_fd, 100))


def hang_in_c():
    """Locks a mutex twice, with the lock of the interpreter held."""
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


def act(name):
    if name == "raises" or (name == "raises_once" and mark("raised")):
        raise ValueError("cannot read " + name)
    if name == "segfault":
        ctypes.string_at(0)
    if name == "os_exit":
        os._exit(0)
    if name == "sys_exit":
        sys.exit(3)
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "sleep":
        time.sleep(600)
    if name == "hang_in_c":
        hang_in_c()
    if name == "ignores_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while name in ("loop", "ignores_term"):
        pass
    if name == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if name == "close_all":
        os.closerange(3, 1000)
        time.sleep(600)
    if name == "garbage":
        for fd in range(3, 300):
            try:
                os.write(fd, b"garbage" * 10)
            except OSError:
                continue
        time.sleep(600)
    if name == "forge_result":
        result = {"type": "result", "mini_batch": 99, "try": 1, "rows": 1, "header_bytes": 0}
        forge(dict(result, crc=0, run_s=0.0, load_s=0.0))
    if name in FORGED:  # of the mini-batch that runs: the first one
        result = {"type": "result", "mini_batch": 0, "try": 1, "rows": 1, "header_bytes": 0}
        forge(dict(result, crc=0, run_s=0.0, load_s=0.0) | FORGED[name])
    if name == "forge_failure":
        forge({"type": "failed", "mini_batch": 0, "try": 1, "kind": "NONSENSE"})
    if name == "forge_ready":
        forge({"type": "ready", "init_s": 0})
    if name == "flood":
        sys.stdout.write("x" * (4 << 20))
    if name == "daemon":
        return str(daemon())
    if name == "daemon_then_exit":
        with open(os.path.join(FOLDER, "pid"), "w", encoding="ascii") as file:
            file.write(str(daemon()))
        os._exit(1)
    if name == "facts":
        environment = dict(os.environ)
        cores = sorted(os.sched_getaffinity(0))
        return json.dumps([os.getcwd(), cores, environment, sys.version_info[:2]])
    return name


def run(mini_batch):
    return [act(os.path.basename(path)) for path in mini_batch]
