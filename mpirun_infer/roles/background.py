"""Work on files that may take long, off a rank's main thread.

Owns one short-lived thread: rank 0 opens a run in it, and publishes the rows in it, while the main
thread goes on giving signs of life.
Touches: nothing but what the given work touches.
Never:   runs two pieces of work at once; lets one touch MPI.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

LOOK_S = 0.2

T = TypeVar("T")


def in_background(work: Callable[[], T], meanwhile: Callable[[], None]) -> T:
    """The result of `work`, or what it raised; `meanwhile` is called a few times a second."""
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)

    thread = threading.Thread(target=call, name="files", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_S)
        meanwhile()
    if errors:
        raise errors[0]
    return results[0]
