"""What the script sees of the job, and what a resume must find unchanged."""

import argparse

import pytest

from mpirun_infer.config import JobConfig
from mpirun_infer.core.entry_plan import (
    ACCEPTABLE,
    LAUNCHER_PREFIXES,
    build_plan,
    changes,
    fingerprint,
    refusal,
    script_argv,
)

ENGINE = (
    "--mini_batch_size=10",
    "--error_threshold=-1",
    "--output_action=append_row",
    "--logging_level=INFO",
    "--run_invocation_timeout=60",
    "--run_max_try=3",
    "--append_row_file_name=parallel_run_step.txt",
    "--output=/out",
    "--process_count_per_node=4",
)


def job(**values):
    needed = {
        "entry_script": "/s/src/entry.py",
        "entry_module": "src.entry",
        "environment_python": "/usr/bin/python3",
        "inputs": "/in",
        "output": "/out",
        "start_folder": "/home/u",
    }
    return JobConfig.model_validate(needed | values)


def names(argv):
    return {token.partition("=")[0] for token in argv[1:] if token.startswith("--")}


def plan(**values):
    return build_plan(job(**values), run_id="r.2", script_hash="abc", workers_per_node=4, nodes=2)


# --------------------------------------------------------------------------- sys.argv


def test_script_then_engine_options_then_the_users_arguments():
    argv = script_argv(job(arguments=["--model", "m 1", '{"a": "\n"}', "x"]), 4)
    assert argv == ("/s/src/entry.py", *ENGINE, "--model", "m 1", '{"a": "\n"}', "x")


def test_the_file_name_is_an_option_of_append_row_only():
    argv = script_argv(job(output_action="summary_only"), 4)
    assert "--output_action=summary_only" in argv
    assert "--append_row_file_name" not in names(argv)


def test_values_follow_the_job():
    argv = script_argv(
        job(
            mini_batch_size=7,
            error_threshold=5,
            logging_level="debug",
            run_invocation_timeout=0.5,
            run_max_try=1,
            append_row_file_name="Predictions.csv",
            process_count_per_node=9,
        ),
        4,
    )
    assert argv[1:] == (
        "--mini_batch_size=7",
        "--error_threshold=5",
        "--output_action=append_row",
        "--logging_level=DEBUG",
        "--run_invocation_timeout=0.5",
        "--run_max_try=1",
        "--append_row_file_name=Predictions.csv",
        "--output=/out",
        "--process_count_per_node=9",
    )


def test_no_engine_options():
    assert script_argv(job(engine_arguments=False, arguments=["-v"]), 4) == (
        "/s/src/entry.py",
        "-v",
    )


@pytest.mark.parametrize(
    ("argument", "gone"),
    [
        ("--output=/mine", {"--output"}),
        ("--output_dir", {"--output"}),
        ("--output_action", {"--output", "--output_action"}),
        ("--logging_level_of_mine", {"--logging_level"}),
        ("--out", set()),
        ("output", set()),
        ("-x", set()),
    ],
)
def test_an_option_that_would_be_taken_for_the_users_is_left_out(argument, gone):
    everything = names(("script", *ENGINE))
    argv = script_argv(job(arguments=[argument, "v"]), 4)
    engine = names(argv[: -len((argument, "v"))])
    assert everything - engine == gone
    assert argv[-2:] == (argument, "v")


@pytest.mark.parametrize("option", ["--output_dir", "--run_max_try_mine", "--output"])
def test_argparse_finds_the_users_value(option):
    parser = argparse.ArgumentParser()
    parser.add_argument(option, dest="mine")
    argv = script_argv(job(arguments=[option, "value"]), 4)
    found, _ = parser.parse_known_args(list(argv[1:]))
    assert found.mine == "value"


def test_arguments_keep_what_is_no_utf8():
    assert script_argv(job(arguments=["\udcff"]), 1)[-1] == "\udcff"


# --------------------------------------------------------------------------- the plan


def test_the_plan():
    found = plan(init_timeout=5, init_max_try=2, task_overhead_timeout=7, strict_rows=True)
    assert (found.python, found.script, found.module) == (
        "/usr/bin/python3",
        "/s/src/entry.py",
        "src.entry",
    )
    assert found.sys_path == ("/s", "/s/src")
    assert (found.run_id, found.script_hash, found.start_folder) == ("r.2", "abc", "/home/u")
    assert (found.limits.init_timeout_s, found.limits.init_tries_max) == (5, 2)
    assert (found.limits.run_timeout_s, found.limits.overhead_timeout_s) == (60, 7)
    assert found.environment_stripped == LAUNCHER_PREFIXES
    assert found.row_options == {
        "to_csv": None,
        "row_escape": False,
        "with_source": False,
        "strict_rows": True,
        "summary_only": False,
    }


def test_the_environment():
    assert plan().environment == {
        "AZUREML_RUN_ID": "r.2",
        "AZUREML_BI_OUTPUT_PATH": "/out",
        "AZUREML_NODE_COUNT": "2",
        "AML_APP_ROOT": "/s",
    }
    mine = {"AZUREML_NODE_COUNT": "7", "OMP_NUM_THREADS": "1"}
    found = plan(model_dir="/m", source_directory="/s", environment_variables=mine).environment
    assert found["AZUREML_MODEL_DIR"] == "/m"
    assert {name: found[name] for name in mine} == mine


@pytest.mark.parametrize(
    "name", ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_FD", "HYDRA_X", "I_MPI_X", "AZUREML_ARM_X"]
)
def test_what_the_launcher_says_is_stripped(name):
    assert name.startswith(LAUNCHER_PREFIXES)
    assert not "AZUREML_RUN_ID".startswith(LAUNCHER_PREFIXES)


# --------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({}, []),
        ({"inputs": "/other"}, ["inputs"]),
        ({"inputs": {"a": "/in"}}, ["inputs"]),
        ({"mini_batch_size": 11}, ["mini_batch_size"]),
        ({"arguments": ["--x"]}, ["arguments"]),
        ({"row_escape": True}, ["rows"]),
        ({"to_csv": {"sep": ","}}, ["rows"]),
        ({"strict_rows": True}, ["rows"]),
        ({"output_action": "summary_only"}, ["rows"]),
        ({"append_row_file_name": "p.csv"}, ["append_row_file_name"]),
        ({"mini_batch_size": 1, "arguments": ["x"]}, ["mini_batch_size", "arguments"]),
        ({"error_threshold": 5, "run_max_try": 9, "workers": 8}, []),
        ({"run_invocation_timeout": 5, "durability": "process"}, []),
    ],
    ids=" ".join,
)
def test_what_alters_rows_is_noticed(values, changed):
    before, now = fingerprint(job(), "h"), fingerprint(job(**values), "h")
    assert changes(before, now) == changed


def test_a_changed_script_is_noticed():
    assert changes(fingerprint(job(), "h"), fingerprint(job(), "i")) == ["script"]


def test_a_journal_of_an_earlier_version_may_know_less():
    assert changes({"script": "h"}, fingerprint(job(), "h")) == []


def test_each_key_has_its_words():
    for key in fingerprint(job(), "h"):
        assert refusal("/out", [key]).startswith("/out: cannot resume: ")


def test_refusal():
    assert refusal("/out", ["script", "arguments"]) == (
        "/out: cannot resume: the entry script (or source_directory) changed; arguments changed "
        "since the run began; --accept-changes keeps committed rows, --fresh starts over"
    )
    assert refusal("/out", ["inputs", "script"]) == (
        "/out: cannot resume: inputs changed; the entry script (or source_directory) changed "
        "since the run began; --fresh moves the old run aside and starts over; "
        "other inputs need another output"
    )
    assert {"script", "arguments", "rows"} == ACCEPTABLE
