"""init() takes as many seconds as SLOW_INIT_S says."""

import os
import time


def init():
    time.sleep(float(os.environ.get("SLOW_INIT_S", "2")))


def run(mini_batch):
    return mini_batch
