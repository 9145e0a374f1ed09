"""What a runner is born with."""

import json

import pytest

from mpirun_infer.core.entry_plan import LAUNCHER_PREFIXES
from mpirun_infer.launch.scratch import Scratch
from mpirun_infer.model import (
    LIBRARY_PATH_VARIABLE,
    SHARED_MEMORY_VARIABLE,
    RunnerLimits,
    RunnerPlan,
    Seat,
)
from mpirun_infer.supervise.runner_setup import (
    THREAD_VARIABLES,
    runner_argv,
    runner_environment,
    setup_frame,
)


def plan(**changes):
    values = {
        "python": "/opt/user/bin/python",
        "script": "/home/me/score.py",
        "source_directory": None,
        "module": "score",
        "sys_path": ("/home/me",),
        "argv": ("/home/me/score.py", "--x", 'a "b"\n'),
        "environment": {"GREETING": "hello", "AZUREML_RUN_ID": "r1"},
        "environment_stripped": LAUNCHER_PREFIXES,
        "start_folder": "/home/me",
        "output_folder": "/home/me/out",
        "run_id": "abc.2",
        "script_hash": "00ff",
        "row_options": {"to_csv": None, "row_escape": True},
        "logging_level": "INFO",
        "limits": RunnerLimits(
            init_timeout_s=1,
            run_timeout_s=1,
            overhead_timeout_s=1,
            init_tries_max=1,
            rows_bytes_max=1234,
        ),
    }
    return RunnerPlan(**(values | changes))


def seat(gpu=None):
    return Seat(worker=3, cores=(2, 3), threads=2, gpu=gpu, gpus_on_node=4, node="n1")


def test_the_users_interpreter_runs_our_program():
    python, program = runner_argv(plan())
    assert python == "/opt/user/bin/python"
    assert program.endswith("/child/runner.py")


@pytest.mark.parametrize("prefix", LAUNCHER_PREFIXES)
def test_launcher_variables_are_taken_away(prefix):
    inherited = {f"{prefix}X": "1", "PATH": "/bin", f"MY_{prefix}X": "2"}
    environment = runner_environment(plan(), seat(), inherited)
    assert f"{prefix}X" not in environment
    assert environment["PATH"] == "/bin"
    assert environment[f"MY_{prefix}X"] == "2"


def test_what_the_launcher_tells_the_ranks_is_not_for_the_script():
    """All of `launch.scratch`'s variables."""
    with Scratch() as told:
        environment = runner_environment(plan(), seat(), told | {"PATH": "/bin"})
    assert set(told) & set(environment) == set()
    assert SHARED_MEMORY_VARIABLE in told


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, "/mpi/lib:/usr/x"),
        ({LIBRARY_PATH_VARIABLE: ""}, None),
        ({LIBRARY_PATH_VARIABLE: "/usr/x"}, "/usr/x"),
    ],
)
def test_libraries_of_mpiexec_are_not_for_the_script(told, expected):
    inherited = {"LD_LIBRARY_PATH": "/mpi/lib:/usr/x"} | told
    environment = runner_environment(plan(), seat(), inherited)
    assert expected == environment.get("LD_LIBRARY_PATH")
    assert LIBRARY_PATH_VARIABLE not in environment


def test_threads_gpus_and_marks():
    environment = runner_environment(plan(), seat("GPU-1"), {"OMP_NUM_THREADS": "64"})
    assert {name: environment[name] for name in THREAD_VARIABLES} == dict.fromkeys(
        THREAD_VARIABLES, "2"
    )
    expected = {
        "TF_NUM_INTEROP_THREADS": "1",
        "AZ_BATCHAI_GPU_COUNT_FOUND": "4",
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        "GREETING": "hello",
        "AZUREML_RUN_ID": "r1",
        "MPIRUN_INFER_RUN_ID": "abc.2",
    }
    assert expected == {name: environment[name] for name in expected}


def test_without_a_gpu_the_inherited_list_stays():
    inherited = {"CUDA_VISIBLE_DEVICES": ""}
    assert runner_environment(plan(), seat(), inherited)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in runner_environment(plan(), seat(), {})


def test_the_users_variables_win_over_all_but_the_marks():
    mine = {"OMP_NUM_THREADS": "9", "CUDA_VISIBLE_DEVICES": "2", "MPIRUN_INFER_RUN_ID": "mine"}
    environment = runner_environment(plan(environment=mine), seat("GPU-1"), {})
    assert environment["OMP_NUM_THREADS"] == "9"
    assert environment["CUDA_VISIBLE_DEVICES"] == "2"
    assert environment["MPIRUN_INFER_RUN_ID"] == "abc.2"


def test_the_first_frame_can_be_sent_and_says_all():
    folders = {"output_dir": "/home/me/out", "log_dir": "/home/me/out/logs"}
    frame = setup_frame(plan(), 7, folders)
    expected = {
        "type": "init",
        "script": "/home/me/score.py",
        "source_directory": None,
        "module": "score",
        "sys_path": ["/home/me"],
        "argv": ["/home/me/score.py", "--x", 'a "b"\n'],
        "process": 7,
        "agent_name": "process007",
        "logging_level": "INFO",
        "script_hash": "00ff",
        "row_options": {"to_csv": None, "row_escape": True},
        "start_folder": "/home/me",
        "folders": folders,
        "rows_bytes_max": 1234,
    }
    assert expected == json.loads(json.dumps(frame))
