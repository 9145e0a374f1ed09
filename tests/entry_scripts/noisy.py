"""Prints a lot, writes bytes to descriptors 0, 1 and 2, logs, and leaves a line unfinished."""

import contextlib
import logging
import os
import sys


def run(mini_batch):
    print("x" * 100_000)
    print("caf\u00e9 \udce9 \x00", file=sys.stderr)
    os.write(1, b"\xff\xfeMIF1 raw\n")
    with contextlib.suppress(OSError):
        os.write(0, b"MIF1 to descriptor 0")
    logging.getLogger("mine").info("logged")
    logging.getLogger("mine").debug("not logged")
    print("unfinished", end="")
    return mini_batch
