"""Stand-in for `azureml.core`: the names that entry scripts import from it."""

import _mpirun_infer_compat
from azureml.core.dataset import Dataset
from azureml.core.experiment import Experiment
from azureml.core.model import Model
from azureml.core.run import Run
from azureml.core.workspace import Workspace

__all__ = ["Dataset", "Experiment", "Model", "Run", "Workspace"]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core")
