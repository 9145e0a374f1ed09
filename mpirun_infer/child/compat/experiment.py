"""Stand-in for `azureml.core.experiment`: may be imported, not used."""

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core.experiment")


class Experiment(metaclass=_mpirun_infer_compat.NeedsAzureMeta):  # type: ignore[metaclass]
    """Every use is an error that says that it needs Azure."""
