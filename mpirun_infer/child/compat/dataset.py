"""Stand-in for `azureml.core.dataset`: may be imported, not used."""

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core.dataset")


class Dataset(metaclass=_mpirun_infer_compat.NeedsAzureMeta):  # type: ignore[metaclass]
    """Every use is an error that says that it needs Azure."""
