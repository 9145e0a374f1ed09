"""Parses its arguments while it is imported; rows are what it found."""

import argparse
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="none")
arguments = parser.parse_args() if "--strict" in sys.argv else parser.parse_known_args()[0]


def run(mini_batch):
    return [arguments.model, *sys.argv]
