"""Stand-in for `azureml.core`: the names that entry scripts import from it."""

import _mpirun_infer_compat  # type: ignore[import-not-found]
from azureml.core.dataset import Dataset  # type: ignore[import-not-found]
from azureml.core.experiment import Experiment  # type: ignore[import-not-found]
from azureml.core.model import Model  # type: ignore[import-not-found]
from azureml.core.run import Run  # type: ignore[import-not-found]
from azureml.core.workspace import Workspace  # type: ignore[import-not-found]

__all__ = ["Dataset", "Experiment", "Model", "Run", "Workspace"]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core")
