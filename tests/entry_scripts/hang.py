"""Never comes back from a file with "bad" in its name, and does not mind SIGTERM."""

import signal
import time


def init():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(mini_batch):
    while any("bad" in path for path in mini_batch):
        time.sleep(0.1)
    return mini_batch
