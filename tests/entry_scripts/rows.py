"""A row per file: its name and its text. A file's name can ask for trouble."""

import ctypes
import os


def row(path):
    name = os.path.basename(path)
    if "segfault" in name:
        ctypes.string_at(0)
    if "raises" in name:
        raise ValueError("cannot read " + name)
    with open(path, encoding="utf-8") as file:
        return name + ":" + file.read().strip()


def run(mini_batch):
    return [row(path) for path in mini_batch]
