"""Leaves in the way that the file's name says: sys.exit, os._exit, or an interrupt."""

import os
import sys


def run(mini_batch):
    for path in mini_batch:
        name = os.path.basename(path)
        if name == "sys_exit":
            sys.exit(42)
        if name == "os_exit":
            os._exit(7)
        if name == "interrupt":
            raise KeyboardInterrupt
    return mini_batch
