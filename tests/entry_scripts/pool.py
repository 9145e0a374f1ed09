"""Scores with a pool of processes that are spawned, not forked."""

import multiprocessing
import os


def score(path):
    from azureml_user.parallel_run import EntryScript

    return os.path.basename(path) + " " + EntryScript().agent_name


def run(mini_batch):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(score, mini_batch)
