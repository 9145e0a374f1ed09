"""What a runner is born with: its command line, its environment, its first frame.

Owns the translation of the plan and a seat into these three.
Touches: nothing; the inherited environment is an argument.
Never:   starts anything.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from mpirun_infer.model import LIBRARY_PATH_VARIABLE, SHARED_MEMORY_VARIABLE, RunnerPlan, Seat

_FOR_RANKS = (SHARED_MEMORY_VARIABLE, LIBRARY_PATH_VARIABLE)
_RUNNER = Path(__file__).parent.parent / "child" / "runner.py"

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


def runner_argv(plan: RunnerPlan) -> list[str]:
    """The command line; the zygote adds the numbers of the descriptors."""
    return [plan.python, str(_RUNNER)]


def runner_environment(
    plan: RunnerPlan, seat: Seat, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Ours over the inherited ones, the user's over ours; the one that finds left-overs last.

    Launcher variables are taken away: a script that imports mpi4py must start a world of its own
    and cannot speak in the rank's name. What mpiexec did to LD_LIBRARY_PATH is for the rank's own
    interpreter; the script's may be quite another.
    """
    environment = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(plan.environment_stripped) and name not in _FOR_RANKS
    }
    library_path = inherited.get(LIBRARY_PATH_VARIABLE)
    if library_path is not None:
        environment.pop("LD_LIBRARY_PATH", None)
        if library_path:
            environment["LD_LIBRARY_PATH"] = library_path
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(seat.threads)))
    environment["TF_NUM_INTEROP_THREADS"] = "1"
    environment["AZ_BATCHAI_GPU_COUNT_FOUND"] = str(seat.gpus_on_node)
    if seat.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = seat.gpu
    environment.update(plan.environment)
    environment["MPIRUN_INFER_RUN_ID"] = plan.run_id
    return environment


def setup_frame(plan: RunnerPlan, process: int, folders: Mapping[str, str]) -> dict[str, object]:
    """The `init` frame."""
    return {
        "type": "init",
        "script": plan.script,
        "source_directory": plan.source_directory,
        "module": plan.module,
        "sys_path": list(plan.sys_path),
        "argv": list(plan.argv),
        "process": process,
        "agent_name": f"process{process:03d}",
        "logging_level": plan.logging_level,
        "script_hash": plan.script_hash,
        "row_options": msgspec.to_builtins(plan.row_options),
        "start_folder": plan.start_folder,
        "folders": dict(folders),
        "rows_bytes_max": plan.limits.rows_bytes_max,
    }
