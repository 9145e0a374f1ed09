"""The job model: table and fields agree, values are checked, JSON round-trips."""

import pytest
from pydantic import ValidationError

from mpirun_infer.child import rows
from mpirun_infer.config import TO_CSV_REFUSED, JobConfig
from mpirun_infer.launch.conflicts import conflicts
from mpirun_infer.parameters import OPTIONS, PARAMETERS, Kind

RESOLVED = {"entry_module", "environment_python", "to_csv", "model_dir", "start_folder"}
NEEDED = {"entry_script": "s.py", "inputs": "in", "output": "out"}


def job(**values):
    return JobConfig.model_validate(NEEDED | values)


def refused(**values):
    with pytest.raises(ValidationError) as caught:
        job(**values)
    return [".".join(map(str, error["loc"])) for error in caught.value.errors()]


def test_fields_and_table_agree():
    fields = JobConfig.model_fields
    assert set(PARAMETERS) == set(fields) - RESOLVED
    for name, row in PARAMETERS.items():
        assert row.help == fields[name].description
        assert row.required == fields[name].is_required()
        if not row.required:
            assert row.default == fields[name].default


def test_every_scalar_has_an_option():
    without = {row.name for row in PARAMETERS.values() if row not in OPTIONS}
    assert {
        name for name, row in PARAMETERS.items() if row.kind in (Kind.MAP, Kind.LIST)
    } == without
    assert len({row.option for row in OPTIONS}) == len(OPTIONS)


def test_defaults_are_valid_values():
    plain = job()
    given = {name: getattr(plain, name) for name in PARAMETERS}
    assert plain == JobConfig.model_validate(given)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("error_threshold", [-1, 0, "5"], [-2, "x", True, 1.5, "-2"]),
        ("mini_batch_error_threshold", [-1, "0"], [-2]),
        ("allowed_failed_percent", [0, 100, "12.5"], [-0.1, 100.1, float("nan"), True]),
        ("mini_batch_size", [1, "7"], [0, "0", "1MB", "1kb", {"rows": 5}, "rows:5", "", 2.5]),
        ("run_invocation_timeout", [0.001, "60", 259200], [0, -1, 259201, float("inf")]),
        ("task_overhead_timeout", [1], [0, 259201]),
        ("init_timeout", [1, 1e6], [0]),
        ("progress_update_timeout", [1, None], [0]),
        ("run_max_try", [1, "3"], [0]),
        ("init_max_try", [1], [0]),
        ("crash_limit", [1], [0]),
        ("max_restarts", [0], [-1]),
        ("slots_per_rank", [1, 1024], [0, 1025]),
        ("workers", [1, "4", 100_000, None], [0, "four", 100_001, 10**30]),
        ("storage_wait", [0], [-1]),
        ("strict_rows", [True, "true", "False"], ["off", "yes", 1, "0"]),
        ("output_action", ["append_row", "SUMMARY_ONLY"], ["appendrow", 1]),
        ("logging_level", ["debug", "INFO"], ["ERROR", ""]),
        ("durability", ["strict", "process"], ["none"]),
        ("name", ["abc", "a-1", None], ["ab", "Abc", "abc-", "1bc", "a" * 33, 5]),
        ("append_row_file_name", ["Out.CSV"], ["a/b", "a{b", "", "logs", "x.partial", "~a", ".."]),
        ("model", ["mnist", "mnist:3", {"dir": "m"}, None], ["a/b", "a:", {"path": "m"}, 5, ""]),
        ("arguments", [["a", "", " b\n"]], [["a", True], ["a", None], "a", ["\0"], [["a"]]]),
        ("parameters", [{"x": "1"}], [{"x": True}, ["x"]]),
        ("environment_variables", [{"A": "b"}], [{"A=B": "c"}, {"": "c"}, {"A": None}]),
        ("side_inputs", [{"a": "x"}, {"a": {"path": "x", "stage": "none"}}], [{"a-b": "x"}, "x"]),
        ("side_inputs", [{}], [{"a": {"path": "x", "stage": "copy"}}, {"a": ""}, {"a": {"p": 1}}]),
        ("outputs", [{"a": "x"}], [{"a": 5}]),
        ("append_row", [{"to_csv": {"sep": ","}}, {}], [{"to_csv": {"mode": "a"}}, {"x": 1}]),
        ("environment", [{"python": "/p"}, {"python": None}], [{"conda": "x"}, "x"]),
        ("source_directory", ["src", None], ["azureml:src", 5]),
    ],
)
def test_values(name, good, bad):
    for value in good:
        job(**{name: value})
    for value in bad:
        assert refused(**{name: value})[0].startswith(name), value


@pytest.mark.parametrize(
    ("name", "inert", "asked"),
    [
        ("input_type", "files", "tabular"),
        ("ordered", False, True),
        ("speculation", "false", "true"),
        ("partition_keys", [], ["user"]),
        ("partition_format", None, "{user}.wav"),
        ("time_limit", None, "01:00:00"),
        ("worker_memory_limit", None, "4GB"),
        ("profiling_module", "off", "cProfile"),
        ("resource_monitor_interval", 0, 10),
        ("resource_monitor_interval", "60", "10"),
        ("table", {}, {"sep": ";"}),
        ("slurm", {}, {"nodes": 2}),
    ],
)
def test_later_features_are_refused_by_name_and_only_when_asked_for(name, inert, asked):
    job(**{name: inert})
    with pytest.raises(ValidationError, match="not offered by this version yet"):
        job(**{name: asked})


@pytest.mark.parametrize(
    "path", ["azureml:x@latest", "https://a/b", "wasbs://c@d/e", "@https://a", "s3://b/c"]
)
def test_remote_paths_are_refused_with_the_cure(path):
    with pytest.raises(ValidationError, match="mount or copy, then give the path"):
        job(inputs={"a": path})


def test_paths_that_only_look_remote_are_fine():
    assert [entry.path for entry in job(inputs="azureml/x").inputs] == ["azureml/x"]
    assert [entry.path for entry in job(inputs="a:b").inputs] == ["a:b"]


@pytest.mark.parametrize(
    ("written", "names", "paths"),
    [
        ("a", ["a"], ["a"]),
        (["a", "b/*.png", "@l"], ["a", "b/*.png", "@l"], ["a", "b/*.png", "@l"]),
        ({"x": "a", "y": {"path": "b"}}, ["x", "y"], ["a", "b"]),
        ([{"name": "x", "path": "a"}, {"path": "b"}], ["x", "b"], ["a", "b"]),
    ],
)
def test_inputs_in_all_ways_to_write_them(written, names, paths):
    inputs = job(inputs=written).inputs
    assert names == [entry.name for entry in inputs]
    assert paths == [entry.path for entry in inputs]


@pytest.mark.parametrize("written", ["", [], {}, 5, [5], {"a b": "x"}, {"a": 5}])
def test_inputs_that_are_none(written):
    assert refused(inputs=written)


def test_json_round_trip_with_paths_that_are_not_utf8():
    before = job(
        inputs=[{"name": "x", "path": "/\udcff"}],
        model="m:1",
        append_row={"to_csv": {"sep": ","}},
        arguments=["\n", "é"],
        environment={"python": "/p"},
    )
    assert before == JobConfig.from_json(before.as_json())
    plain = job(model={"dir": "/m"})
    assert plain == JobConfig.model_validate_json(plain.model_dump_json())


def test_conflicts():
    assert list(conflicts(job())) == []
    assert [
        key for key, _ in conflicts(job(workers=3, process_count_per_node=2, node_count=2))
    ] == ["workers"]
    assert [key for key, _ in conflicts(job(workers=3, min_workers=4))] == ["min_workers"]
    assert [key for key, _ in conflicts(job(inputs=["a", "a"]))] == ["inputs"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"workers": 4, "slots_per_rank": 2}, []),
        (
            {"workers": 3, "slots_per_rank": 2},
            ["workers: 3 is not a multiple of slots_per_rank = 2; a rank looks after 2"],
        ),
        (
            {"process_count_per_node": 3, "slots_per_rank": 2},
            [
                (
                    "process_count_per_node: 3 is not a multiple of slots_per_rank = 2; "
                    "a rank is on one node"
                )
            ],
        ),
        ({"workers": 4, "process_count_per_node": 2}, []),
        ({"workers": 2, "process_count_per_node": 2}, []),
        (
            {"workers": 5, "process_count_per_node": 2},
            ["workers: 5 is not a multiple of process_count_per_node = 2; give one of them"],
        ),
        (
            {"workers": 1, "process_count_per_node": 2},
            ["workers: 1 is not a multiple of process_count_per_node = 2; give one of them"],
        ),
        ({"workers": 3, "node_count": 2}, []),
        (
            {"workers": 6, "process_count_per_node": 2, "node_count": 2},
            ["workers: 6 is not process_count_per_node x node_count = 4; give workers alone"],
        ),
    ],
)
def test_workers_nodes_and_slots_must_agree(values, expected):
    assert expected == [f"{key}: {text}" for key, text in conflicts(job(**values))]


@pytest.mark.parametrize(
    ("values", "nodes"),
    [
        ({}, None),
        ({"workers": 4}, None),
        ({"process_count_per_node": 4}, None),
        ({"node_count": 3, "workers": 6}, 3),
        ({"workers": 6, "process_count_per_node": 2}, 3),
    ],
)
def test_nodes_wanted(values, nodes):
    assert nodes == job(**values).nodes_wanted


def test_launcher_and_runner_refuse_the_same_keywords_of_to_csv():
    """The runner imports nothing of ours, so the list stands twice."""
    assert set(TO_CSV_REFUSED) == set(rows.TO_CSV_REFUSED)


@pytest.mark.parametrize(
    ("values", "workers"),
    [
        ({}, None),
        ({"workers": 5}, 5),
        ({"process_count_per_node": 2}, 6),
        ({"process_count_per_node": 2, "node_count": 2}, 4),
    ],
)
def test_workers_for(values, workers):
    assert workers == job(**values).workers_for(3)


def test_progress_timeout():
    assert job().progress_timeout_s == 1320
    assert job(progress_update_timeout=7).progress_timeout_s == 7


@pytest.mark.parametrize(
    ("script", "module", "source", "expected"),
    [
        ("/a/b/s.py", "s", None, ("/a/b",)),
        ("/a/b/s.py", "b.s", None, ("/a", "/a/b")),
        ("/a/b/s.py", "b.s", "/a", ("/a", "/a/b")),
        ("/s.py", "s", None, ("/",)),
    ],
)
def test_sys_path(script, module, source, expected):
    resolved = job(entry_script=script, source_directory=source).model_copy(
        update={"entry_module": module}
    )
    assert expected == resolved.sys_path
    assert (source or expected[0]) == resolved.app_root
