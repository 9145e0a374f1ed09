"""Stand-in for `azureml.core.model`: finds models in folders.

Owns Model; `model_search` has the order of the search, which the launcher uses, too.
Touches: the file system, read only.
"""

import os

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core.model")


class Model(metaclass=_mpirun_infer_compat.NeedsAzureMeta):  # type: ignore[metaclass]
    """A registered model: `<root>/<name>/<version>/<one file or folder>`."""

    @staticmethod
    def get_model_path(model_name, version=None, _workspace=None):
        """Absolute path of the model's only file or folder; the highest version by default."""
        start_folder = _mpirun_infer_compat.facts.get("start_folder") or os.getcwd()
        search = _mpirun_infer_compat.load("model_search")
        try:
            return search.path_of(model_name, version, os.environ, start_folder)
        except LookupError as error:
            raise FileNotFoundError(str(error)) from None
