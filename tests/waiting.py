"""Waiting for a condition, with a deadline: what the tests do instead of sleeping."""

import time
from threading import Event

WITHIN_S = 20.0


def wait_until(condition, what="it", within_s=WITHIN_S, pause_s=0.005):
    """The condition's first true value; an AssertionError when it does not come in time."""
    deadline = time.monotonic() + within_s
    pause = Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {within_s} s for: {what}"
        pause.wait(pause_s)
    return value
