"""The few functions among the nouns."""

import pytest

from mpirun_infer.model import launch_name, launch_pid, nodes_of


@pytest.mark.parametrize(
    ("environ", "nodes"),
    [
        ({}, 1),
        ({"SLURM_JOB_NUM_NODES": "3", "SLURM_NNODES": "2"}, 3),
        ({"SLURM_NNODES": "2"}, 2),
        ({"SLURM_JOB_NUM_NODES": "many"}, 1),
        ({"SLURM_JOB_NUM_NODES": "0"}, 1),
    ],
)
def test_nodes_of(environ, nodes):
    assert nodes == nodes_of(environ)


@pytest.mark.parametrize("host", ["n1", "n1.cluster.example", "10.0.0.1"])
def test_the_name_of_a_launch_tells_who_made_it(host):
    launch = launch_name(host, 4711, 99)
    assert launch_pid(launch, host) == 4711
    assert launch_pid(launch, "elsewhere") is None


@pytest.mark.parametrize("launch", ["", "n1", "n1.x.5", "n1.5"])
def test_other_names_tell_nothing(launch):
    assert launch_pid(launch, "n1") is None
