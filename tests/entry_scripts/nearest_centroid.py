"""Tells digits by the nearest mean image; the means come from labelled digits."""

import argparse
import os

import numpy as np
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("--labels", required=True)
parser.add_argument("--digits", required=True)
parser.add_argument("--train", type=int, required=True)
ARGUMENTS, _ = parser.parse_known_args()
CENTROIDS = np.zeros((10, 28 * 28))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float64).reshape(-1)


def init():
    with open(ARGUMENTS.labels, encoding="utf-8") as file:
        lines = [line.split() for line in file][: ARGUMENTS.train]
    images = np.stack([pixels(os.path.join(ARGUMENTS.digits, name)) for name, _ in lines])
    labels = np.array([int(label) for _, label in lines])
    for digit in range(10):
        CENTROIDS[digit] = images[labels == digit].mean(axis=0)


def run(mini_batch):
    rows = []
    for path in mini_batch:
        distances = ((CENTROIDS - pixels(path)) ** 2).sum(axis=1)
        rows.append(f"{os.path.basename(path)}: {distances.argmin()}")
    return rows
