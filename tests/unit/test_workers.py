"""How many workers a launcher starts, and on how many nodes."""

import pytest

from mpirun_infer.config import JobConfig
from mpirun_infer.errors import UsageError
from mpirun_infer.launch import workers
from mpirun_infer.launch.workers import expect_nodes, ranks_for, workers_wanted


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: (0, 1, 2))


def job(**values):
    return JobConfig.model_validate(
        {"entry_script": "s.py", "inputs": "in", "output": "out"} | values
    )


NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}
TWO_NODES = {"SLURM_JOB_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("values", "environ", "wanted"),
    [
        ({}, {}, 3),
        ({}, {"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({}, TWO_NODES, 6),
        ({}, TWO_NODES | {"SLURM_NTASKS": "9"}, 8),
        ({}, {"SLURM_NTASKS": "1"}, 1),
        ({"workers": 5}, TWO_NODES | {"SLURM_NTASKS": "9"}, 5),
        ({"process_count_per_node": 4}, TWO_NODES, 8),
        ({"process_count_per_node": 4}, {}, 4),
        ({"slots_per_rank": 2}, {}, 4),
        ({"slots_per_rank": 2, "workers": 6}, {}, 6),
    ],
)
def test_workers_wanted(values, environ, wanted):
    assert wanted == workers_wanted(job(**values), NO_GPUS | environ)


def test_ranks_for():
    assert [ranks_for(count, 2) for count in (1, 2, 3, 4)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("values", "environ"),
    [
        ({}, {}),
        ({}, TWO_NODES),
        ({"node_count": 1}, {}),
        ({"node_count": 2}, TWO_NODES),
        ({"node_count": 2}, {"SLURM_NNODES": "2"}),
        ({"workers": 4, "process_count_per_node": 2}, TWO_NODES),
        ({"workers": 4}, {}),
    ],
)
def test_nodes_that_are_there(values, environ):
    expect_nodes(job(**values), environ)


@pytest.mark.parametrize(
    ("values", "environ", "message"),
    [
        (
            {"node_count": 2},
            {},
            "node_count: 2 is wanted, but outside of a Slurm allocation there is 1: this host",
        ),
        (
            {"node_count": 3},
            TWO_NODES,
            (
                "node_count: 3 is wanted, but Slurm has allocated 2 (SLURM_JOB_NUM_NODES=2); "
                "ask for as many with sbatch --nodes=3"
            ),
        ),
        ({"node_count": 1}, {"SLURM_NNODES": "2"}, "Slurm has allocated 2 (SLURM_NNODES=2)"),
        (
            {"workers": 4, "process_count_per_node": 2},
            {},
            "workers: 4 at process_count_per_node 2 take 2 nodes, but outside of a Slurm",
        ),
    ],
)
def test_other_nodes_are_an_error_that_says_what_was_found(values, environ, message):
    with pytest.raises(UsageError) as caught:
        expect_nodes(job(**values), environ)
    assert message in str(caught.value)
