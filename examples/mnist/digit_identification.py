"""Entry script: tells which digit is on each image, with a TensorFlow 1 meta graph.

Written as Azure ML's ParallelRunStep wants it; mpirun_infer runs it as it is.
"""

import os

import numpy as np
import tensorflow as tf
from azureml.core.model import Model
from PIL import Image

session = None
images = None
logits = None


def init():
    """Once per process: restore the graph and its weights."""
    global session, images, logits
    folder = Model.get_model_path("mnist")
    prefix = os.path.join(folder, "mnist-tf.model")

    tf.compat.v1.disable_eager_execution()
    saver = tf.compat.v1.train.import_meta_graph(prefix + ".meta")
    # One process per core: more threads than that would only get in each other's way.
    session = tf.compat.v1.Session(
        config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        )
    )
    saver.restore(session, prefix)
    graph = tf.compat.v1.get_default_graph()
    images = graph.get_tensor_by_name("network/X:0")
    logits = graph.get_tensor_by_name("network/output/MatMul:0")


def run(mini_batch):
    """Score the images of one mini-batch in one call: one row per image."""
    pixels = np.empty((len(mini_batch), 28 * 28), dtype=np.float32)
    for row, path in enumerate(mini_batch):
        with Image.open(path) as image:
            pixels[row] = np.asarray(image.convert("L"), dtype=np.float32).reshape(-1) / 255
    scores = session.run(logits, feed_dict={images: pixels})
    digits = scores.argmax(axis=1)
    return [
        f"{os.path.basename(path)}: {digit}" for path, digit in zip(mini_batch, digits, strict=True)
    ]
