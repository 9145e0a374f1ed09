"""What the launcher's variables say before MPI is started.

Owns which variables name a rank and a world size, and the singletons rule.
Touches: nothing; the caller gives the environment.
Never:   imports or starts MPI.
"""

from collections.abc import Mapping

from mpirun_infer.errors import NoWorkerError, UsageError

_PAIRS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)


def is_a_rank(environ: Mapping[str, str]) -> bool:
    """Whether a user's mpiexec or srun launched us; if nobody did, we launch.

    Raises:
        UsageError: a Slurm step of several tasks that do not know of each other.
        NoWorkerError: mpiexec started a single process.
    """
    in_step = "SLURM_STEP_ID" in environ or "SLURM_STEPID" in environ
    step_tasks = _number(environ.get("SLURM_STEP_NUM_TASKS")) if in_step else None
    for rank_name, size_name in _PAIRS:
        rank, size = _number(environ.get(rank_name)), _number(environ.get(size_name))
        if rank is None or size is None:
            continue
        if size > 1:
            return True
        if step_tasks is None:
            raise NoWorkerError(
                "no worker rank: mpiexec started 1 process and rank 0 is the master; "
                "use mpiexec -n 5 (1 + 4 workers)"
            )
    rank = _number(environ.get("PMIX_RANK"))
    if step_tasks is not None and step_tasks > 1:
        if rank is not None and "PMI_SIZE" not in environ:
            return True
        raise UsageError(
            f"srun started {step_tasks} tasks that do not know of each other (worlds of one); "
            "call mpirun-infer run once in the sbatch script, without srun, "
            "or use srun --mpi=pmix (srun --mpi=list shows what there is)"
        )
    return False


def speaks(environ: Mapping[str, str]) -> bool:
    """Whether this process is the one of its world that tells errors to a person."""
    names = [rank_name for rank_name, _ in _PAIRS] + ["PMIX_RANK", "SLURM_PROCID"]
    return all(environ.get(name, "0") == "0" for name in names)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
