"""Leaves a process behind, in a session of its own, for every mini-batch; its pid is the row."""

import os


def run(mini_batch):
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(write_fd, b"%d" % os.getpid())
        os.execv("/bin/sleep", ["sleep", "600"])
    os.waitpid(pid, 0)
    return [os.read(read_fd, 20).decode()] * len(mini_batch)
