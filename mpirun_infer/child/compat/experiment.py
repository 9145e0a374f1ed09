"""Stand-in for `azureml.core.experiment`: may be imported, not used."""

import _mpirun_infer_compat

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core.experiment")


class Experiment(metaclass=_mpirun_infer_compat.NeedsAzureMeta):
    """Every use is an error that says that it needs Azure."""
