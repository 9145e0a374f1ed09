"""Stand-in for `mltable`: may be imported, not used."""

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("mltable")
