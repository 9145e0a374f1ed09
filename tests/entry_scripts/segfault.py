"""Dies of SIGSEGV at every file with "bad" in its name."""

import ctypes


def run(mini_batch):
    for path in mini_batch:
        if "bad" in path:
            ctypes.string_at(0)
    return mini_batch
