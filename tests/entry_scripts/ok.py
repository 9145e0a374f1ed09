"""One row per file: its name."""

import os


def init():
    print("init() was called")


def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]


def shutdown():
    print("shutdown() was called")
