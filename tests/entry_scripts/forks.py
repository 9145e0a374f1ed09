"""Forks in run(), and both come back from it."""

import os


def run(mini_batch):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return mini_batch
