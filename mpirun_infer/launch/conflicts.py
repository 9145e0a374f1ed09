"""Keys of a job that contradict each other, although each value is good.

Owns these rules and their words.
Touches: nothing.
Never:   looks at the machine; `launch.workers` compares a job with what there is.
"""

from collections.abc import Iterator

from mpirun_infer.config import JobConfig, shown


def conflicts(job: JobConfig) -> Iterator[tuple[str, str]]:
    """Keys that contradict each other: (key, message), for a job whose values are each good."""
    names = [entry.name for entry in job.inputs]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "inputs", f"{shown(name)} is given twice; give it once"
    yield from _worker_conflicts(job)
    if job.workers is not None and job.min_workers > job.workers:
        yield "min_workers", f"{job.min_workers} is more than workers = {job.workers}"


def _worker_conflicts(job: JobConfig) -> Iterator[tuple[str, str]]:
    workers, per_node, nodes = job.workers, job.process_count_per_node, job.node_count
    slots = job.slots_per_rank
    if workers is not None and per_node is not None:
        if nodes is not None and workers != per_node * nodes:
            text = f"{workers} is not process_count_per_node x node_count = {per_node * nodes}"
            yield "workers", f"{text}; give workers alone"
        elif nodes is None and workers % per_node:
            text = f"{workers} is not a multiple of process_count_per_node = {per_node}"
            yield "workers", f"{text}; give one of them"
    if workers is not None and workers % slots:
        text = f"{workers} is not a multiple of slots_per_rank = {slots}"
        yield "workers", f"{text}; a rank looks after {slots}"
    if per_node is not None and per_node % slots:
        text = f"{per_node} is not a multiple of slots_per_rank = {slots}"
        yield "process_count_per_node", f"{text}; a rank is on one node"
