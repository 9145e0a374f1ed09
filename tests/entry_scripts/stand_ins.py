"""Uses what ParallelRunStep scripts import from Azure's packages."""

import os
import pickle

import mltable  # noqa: F401
from azureml.core import Dataset, Experiment, Model, Run, Workspace  # noqa: F401
from azureml_user.parallel_run import EntryScript

entry_script = EntryScript()


def init():
    entry_script.logger.info("model at %s", Model.get_model_path("mnist"))
    Run.get_context().log("accuracy", 0.5)
    assert pickle.loads(pickle.dumps(entry_script)) is EntryScript()


def run(mini_batch):
    entry_script.logger.info("caf\u00e9 \udce9")
    assert os.path.isdir(entry_script.output_dir)
    return [entry_script.agent_name, Run.get_context().id]


def shutdown():
    entry_script.logger.info("last words")
