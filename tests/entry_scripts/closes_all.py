"""Closes every descriptor that it did not open."""

import os


def run(mini_batch):
    os.closerange(3, 1000)
    return mini_batch
