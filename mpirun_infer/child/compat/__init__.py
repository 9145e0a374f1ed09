"""Stand-ins for the Azure modules that ParallelRunStep scripts import.

Owns the finder that serves them, and what they have to know of the run.
Touches: sys.meta_path.
Never:   shadows a module that is installed; imports anything of ours. Runs under Python >= 3.8.

Loaded by the runner under the name `_mpirun_infer_compat`, by which the stand-ins find it. The
finder is the last of sys.meta_path: it is asked only for what nobody else has, name by name, so
that a real `azureml` without `azureml.core` keeps working beside ours.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

NAME = "_mpirun_infer_compat"
VARIABLE = "MPIRUN_INFER_STAND_INS"
"""Takes the facts to processes that the script starts with multiprocessing's spawn."""

FOLDER = os.path.dirname(os.path.abspath(__file__))
FILES = {
    "azureml": "azureml_root.py",
    "azureml.core": "azureml_core.py",
    "azureml.core.model": "model.py",
    "azureml.core.run": "run.py",
    "azureml.core.dataset": "dataset.py",
    "azureml.core.workspace": "workspace.py",
    "azureml.core.experiment": "experiment.py",
    "azureml_user": "azureml_user.py",
    "azureml_user.parallel_run": "parallel_run.py",
    "mltable": "mltable.py",
}

facts: dict[str, Any] = {}
"""What the runner was told: agent_name, logging_level, process, start_folder, folders."""


class NeedsAzureError(AttributeError):
    """Raised for what only Azure can do."""


def load(name):
    """A module of this folder, by location, under a private name."""
    private = "%s_%s" % (NAME, name)
    if private not in sys.modules:
        spec = importlib.util.spec_from_file_location(private, os.path.join(FOLDER, name + ".py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[private] = module
        spec.loader.exec_module(module)
    return sys.modules[private]


def needs_azure(what):
    """The error for a name that the stand-ins do not have."""
    return NeedsAzureError(
        what + " needs Azure, and this run is outside it: give data by path (inputs, side_inputs), "
        "models by Model.get_model_path() or the job's model key, and values by arguments"
    )


class NeedsAzureMeta(type):
    """Of classes that scripts may import, but not use."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise needs_azure("%s.%s" % (cls.__name__, name))

    def __call__(cls, *_args, **_kwargs):
        raise needs_azure("%s()" % cls.__name__)


def module_getattr(module_name):
    """The `__getattr__` of a stand-in module."""

    def get(name):
        if name.startswith("__"):
            raise AttributeError("module %r has no attribute %r" % (module_name, name))
        raise needs_azure("%s.%s" % (module_name, name))

    return get


class Finder:
    """Serves the stand-ins; see the module's docstring."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        """The stand-in, or an error for what stands below one of ours and does not exist."""
        if name in FILES:
            path = os.path.join(FOLDER, FILES[name])
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is not None:
                # A package, so that all names below come here; with nowhere else to look for them.
                spec.submodule_search_locations = []
            return spec
        parent = sys.modules.get(name.rpartition(".")[0])
        if parent is not None and getattr(parent, "STAND_IN", False):
            raise ImportError(str(needs_azure(name)), name=name)
        return None

    @staticmethod
    def invalidate_caches():
        """Nothing is cached."""


def install(given):
    """Serve the stand-ins from now on, here and in spawned processes."""
    facts.clear()
    facts.update(given)
    os.environ[VARIABLE] = json.dumps(given)
    if not any(finder is Finder for finder in sys.meta_path):
        sys.meta_path.append(Finder)


def install_inherited():
    """The same in a process that the script has spawned."""
    given = os.environ.get(VARIABLE)
    if given:
        install(json.loads(given))
