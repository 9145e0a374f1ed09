"""How many workers a job gets on the machines that its launcher finds.

Owns this number, for a run and a dry run alike, and whether the nodes are those the job names.
Touches: the visible GPUs, the affinity mask and the cgroup's quota, read only.
Never:   starts anything.
"""

from collections.abc import Mapping

from mpirun_infer.config import JobConfig
from mpirun_infer.errors import UsageError
from mpirun_infer.model import nodes_of
from mpirun_infer.supervise.placement import usable_cores, visible_gpus


def workers_wanted(job: JobConfig, environ: Mapping[str, str]) -> int:
    """What the job says, else Slurm's tasks but the master's, else one per GPU or core a node.

    Always whole ranks: a multiple of `slots_per_rank`.
    """
    nodes = nodes_of(environ)
    wanted = job.workers_for(nodes)
    if wanted is None:
        here = len(visible_gpus(environ)) or len(usable_cores())
        tasks = environ.get("SLURM_NTASKS", "")
        wanted = int(tasks) - 1 if tasks.isdecimal() else here * nodes
    return ranks_for(max(1, wanted), job.slots_per_rank) * job.slots_per_rank


def ranks_for(workers: int, slots: int) -> int:
    """How many worker ranks look after so many workers."""
    return -(-workers // slots)


def expect_nodes(job: JobConfig, environ: Mapping[str, str]) -> None:
    """UsageError when the job names another number of nodes than there are."""
    wanted, found = job.nodes_wanted, nodes_of(environ)
    if wanted in (None, found):
        return
    why = f"node_count: {wanted} is wanted"
    if job.node_count is None:
        why = f"workers: {job.workers} at process_count_per_node {job.process_count_per_node} "
        why += f"take {wanted} nodes"
    for name in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"):
        if environ.get(name):
            raise UsageError(
                f"{why}, but Slurm has allocated {found} ({name}={environ[name]}); ask for as "
                f"many with sbatch --nodes={wanted}, or leave the key out"
            )
    raise UsageError(
        f"{why}, but outside of a Slurm allocation there is 1: this host; start it in an "
        f"allocation of {wanted} nodes, or leave the key out"
    )
