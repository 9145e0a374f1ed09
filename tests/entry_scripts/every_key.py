"""Rows that say what the job's keys have come to."""

import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--labels")
parser.add_argument("--scale", type=int)
parser.add_argument("--extra")
ARGUMENTS, _ = parser.parse_known_args()
LABELS = {}


def init():
    with open(ARGUMENTS.labels, encoding="utf-8") as file:
        LABELS.update(line.split() for line in file)


def run(mini_batch):
    with open(os.path.join(ARGUMENTS.extra, str(os.getpid())), "a", encoding="utf-8") as file:
        file.writelines(path + "\n" for path in mini_batch)
    names = [os.path.basename(path) for path in mini_batch]
    greeting = os.environ["GREETING"]
    return [f"{greeting} {LABELS[name]} {ARGUMENTS.scale}" for name in names]
