"""Does to its process what it should not; still, a row per file comes, or a clear failure."""

import json
import signal
import sys
import time


class Loud:
    """An element whose str() raises."""

    def __str__(self):
        raise RuntimeError("no text for you")


class BadError(Exception):
    """An exception whose str() raises."""

    def __str__(self):
        raise RuntimeError("no text for you either")


def init():
    json.dumps = json.loads = time.perf_counter = time.monotonic_ns = None
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout = sys.stderr = None
    sys.path.clear()


def run(mini_batch):
    name = mini_batch[0].rpartition("/")[2]
    if name == "loud":
        return [Loud()]
    if name == "bad_error":
        raise BadError
    if name == "surrogate":
        return ["\ud800"]
    if name == "deep":
        return run(mini_batch)
    return mini_batch
