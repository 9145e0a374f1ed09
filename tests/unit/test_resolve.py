"""Resolving: absolute paths, existence, placeholders, models."""

import os
import sys

import pytest

from mpirun_infer.errors import ConfigError, NoWorkerError, UsageError
from mpirun_infer.launch.environment import is_a_rank, speaks
from mpirun_infer.launch.job_file import Override, set_override
from mpirun_infer.launch.placeholders import expand, expand_argument
from mpirun_infer.launch.resolve import absolute, argument_warnings, load_job


@pytest.fixture
def site(tmp_path):
    """A job folder and another current folder."""
    (tmp_path / "job/data").mkdir(parents=True)
    (tmp_path / "job/src/pkg").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    for name in ("job/score.py", "job/src/entry.py", "job/src/pkg/mod.py", "here/mine.py"):
        (tmp_path / name).write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "job/labels.txt").write_text("x\n")
    (tmp_path / "job/list").write_text("/a\n")
    return tmp_path


BASE = {"entry_script": "score.py", "inputs": "data", "output": "out"}


def load(site, *overrides, environ=None, stdin_list=None, **values):
    text = "".join(f"{key}: {value}\n" for key, value in (BASE | values).items() if value)
    (site / "job/job.yaml").write_text(text)
    return load_job(
        str(site / "job/job.yaml"),
        overrides,
        current_folder=str(site / "here"),
        environ=environ or {},
        now_text="20260102-030405",
        stdin_list=stdin_list,
    )


def problems(site, *overrides, **values):
    with pytest.raises(ConfigError) as caught:
        load(site, *overrides, **values)
    return [line.replace(str(site), "") for line in caught.value.lines]


def test_paths_of_the_file_are_relative_to_it_and_options_to_the_current_folder(site):
    job = load(site)
    assert (f"{site}/job/score.py", "score") == (job.entry_script, job.entry_module)
    assert [f"{site}/job/data"] == [entry.path for entry in job.inputs]
    assert f"{site}/job/out" == job.output
    assert (f"{site}/here", sys.executable) == (job.start_folder, job.environment_python)
    job = load(
        site,
        Override("--output", ("output",), "out"),
        Override("--entry-script", ("entry_script",), "mine.py"),
        set_override("inputs={a: ../job/data}"),
    )
    assert f"{site}/here/out" == job.output
    assert f"{site}/here/mine.py" == job.entry_script
    assert [("a", f"{site}/here/../job/data")] == [(e.name, e.path) for e in job.inputs]


def test_a_set_of_one_name_leaves_the_others_relative_to_the_file(site):
    (site / "here/l2").write_text("")
    job = load(site, set_override("side_inputs.b=l2"), side_inputs="{a: labels.txt}")
    assert {"a": f"{site}/job/labels.txt", "b": f"{site}/here/l2"} == job.side_inputs


def test_symlinks_are_not_resolved(site):
    os.symlink(site / "job/data", site / "job/link")
    os.symlink(site / "job/score.py", site / "job/other.py")
    job = load(site, inputs="link", entry_script="other.py")
    assert (f"{site}/job/link", f"{site}/job/other.py") == (job.inputs[0].path, job.entry_script)


@pytest.mark.parametrize(
    ("script", "source", "path", "module"),
    [
        ("src/entry.py", None, "src/entry.py", "entry"),
        ("src.entry", None, "src/entry.py", "src.entry"),
        ("score", None, "score.py", "score"),
        ("pkg/mod.py", "src", "src/pkg/mod.py", "pkg.mod"),
        ("pkg.mod", "src", "src/pkg/mod.py", "pkg.mod"),
        ("src/entry.py", ".", "src/entry.py", "src.entry"),
        ("digit-1.py", None, "digit-1.py", "digit-1"),
        ("a.b.py", None, "a.b.py", "a_b"),
    ],
)
def test_entry_script_and_its_module(site, script, source, path, module):
    for name in ("digit-1.py", "a.b.py"):
        (site / "job" / name).write_text("")
    job = load(site, entry_script=script, source_directory=source)
    assert (f"{site}/job/{path}", module) == (job.entry_script, job.entry_module)
    root = f"{site}/job" + (f"/{source}" if source not in (None, ".") else "")
    if source is not None:
        assert root == job.source_directory


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"entry_script": "scor.py"},
            "1: entry_script: /job/scor.py does not exist; did you mean score.py?",
        ),
        (
            {"entry_script": "src"},
            "1: entry_script: /job/src is a folder; give the script in it",
        ),
        (
            {"entry_script": "./labels.txt"},
            "1: entry_script: /job/labels.txt is no Python file; its name must end in .py",
        ),
        (
            {"entry_script": "../score.py", "source_directory": "src"},
            (
                "1: entry_script: /job/src/../score.py is not inside source_directory /job/src; "
                "move it, or leave that key out"
            ),
        ),
        (
            {"source_directory": "nothing"},
            "4: source_directory: /job/nothing does not exist; give the script's folder",
        ),
        (
            {"inputs": "{images: nothing}"},
            "2: inputs.images: /job/nothing does not exist; give a folder, a file, a glob or @list",
        ),
        (
            {"inputs": '"@nothing"'},
            "2: inputs: @/job/nothing does not exist; give a file with one path a line",
        ),
        (
            {"side_inputs": "{x: nothing}"},
            "4: side_inputs.x: /job/nothing does not exist; give a file or folder",
        ),
        (
            {"output": "labels.txt"},
            "3: output: /job/labels.txt exists and is no folder; give a folder of the run's own",
        ),
        (
            {"output": "data/out"},
            "3: output: /job/data/out is inside the input /job/data; choose a folder outside it",
        ),
        (
            {"output": '"o-{name}"'},
            '3: output: "o-{name}" holds {name}, but the job has no name; give one',
        ),
        (
            {"output": '"o-{x}"'},
            '3: output: "o-{x}" may hold only {name} and {time} in braces',
        ),
        (
            {"arguments": '["${{inputs.datta}}"]', "inputs": "{data: data}"},
            "4: arguments.1: ${{inputs.datta}} is unknown; did you mean inputs.data?",
        ),
        (
            {"environment": "{python: ./nothing}"},
            (
                "4: environment.python: /job/nothing does not exist; "
                "give the python of your environment"
            ),
        ),
        (
            {"environment": "{python: score.py}"},
            (
                "4: environment.python: /job/score.py cannot be executed; "
                "give the python of your environment"
            ),
        ),
        (
            {"model": "{dir: nothing}"},
            "4: model.dir: /job/nothing is no folder; give the folder of the model",
        ),
    ],
)
def test_what_does_not_exist_is_said_with_its_line(site, values, message):
    found = problems(site, **values)
    assert [f"/job/job.yaml:{message}"] == found


def test_wrong_values_and_missing_files_come_together(site):
    found = problems(
        site,
        Override("--entry-script", ("entry_script",), "nope.py"),
        error_threshold="-5",
        inputs="nothing",
    )
    assert len(found) == 3
    assert found[0].startswith("/job/job.yaml:2: inputs: /job/nothing")
    assert found[1].startswith("/job/job.yaml:4: error_threshold: -5")
    assert found[2].startswith("--entry-script: /here/nope.py does not exist")


def test_globs_and_lists_are_left_to_the_listing(site):
    job = load(site, inputs='["data/*.png", "@list", "@-"]')
    kept = f"{site}/job/out/.mpirun_infer/stdin.list"
    expected = [f"{site}/job/data/*.png", f"@{site}/job/list", f"@{kept}"]
    assert expected == [entry.path for entry in job.inputs]


def test_a_placeholder_of_standard_input_is_the_path_of_the_kept_list(site):
    values = {"inputs": '{l: "@-"}', "arguments": "['--list=${{inputs.l}}']"}
    job = load(site, **values)
    assert (f"--list={site}/job/out/.mpirun_infer/stdin.list",) == job.arguments
    assert load(site, stdin_list="/tmp/dry/list", **values).arguments == ("--list=/tmp/dry/list",)


def test_name_and_time_in_output(site):
    job = load(site, output='"o/{name}-{time}"', name="job1")
    assert f"{site}/job/o/job1-20260102-030405" == job.output


def test_placeholders_become_absolute_paths_and_values(site):
    job = load(
        site,
        inputs="{data: data, l: '@list'}",
        side_inputs="{labels: labels.txt}",
        outputs="{masks: masks}",
        parameters="{p: 0.10}",
        arguments="['--labels', '${{side_inputs.labels}}', '--m=${{ outputs.masks }}', "
        "'${{inputs.data}}:${{inputs.l}}', '${{parameters.p}}', '${{output}}', "
        "'$[[--x ${{inputs.x}}]]', '$[[--d ${{inputs.data}}]]', '$HOME `ls`']",
        environment_variables="{MASKS: '${{outputs.masks}}', X: '$[[${{inputs.x}}]]'}",
    )
    assert (
        "--labels",
        f"{site}/job/labels.txt",
        f"--m={site}/job/masks",
        f"{site}/job/data:{site}/job/list",
        "0.10",
        f"{site}/job/out",
        "--d",
        f"{site}/job/data",
        "$HOME `ls`",
    ) == job.arguments
    assert {"MASKS": f"{site}/job/masks"} == job.environment_variables


def test_no_false_unknown_placeholders_when_the_inputs_are_wrong(site):
    found = problems(site, inputs="{a-b: data}", arguments="['${{inputs.a}}']")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ("a b",)),
        ("${{x}}", ("v w",)),
        ("$[[--f ${{x}}]]", ("--f", "v w")),
        ("$[[--f ${{ y }}]]", ()),
        ("pre$[[-${{y}}]]post", ("prepost",)),
        ("pre$[[-${{x}}]]post", ("pre-v wpost",)),
        ("$[[ --plain ]]", ("--plain",)),
    ],
)
def test_expand_argument(text, expected):
    assert expected == expand_argument(text, {"x": "v w"}).texts


def test_an_unknown_placeholder_lists_what_there_is():
    assert expand("${{q}}", {"b": "1", "a": "2"}).problems == (
        "${{q}} is unknown; there are: a, b",
    )


def test_model_folders(site):
    for version in ("2", "10"):
        (site / "here/azureml-models/m" / version).mkdir(parents=True)
    (site / "here/bare").mkdir()
    (site / "here/weights").touch()
    assert f"{site}/here/azureml-models/m/10" == load(site, model="m").model_dir
    assert f"{site}/here/azureml-models/m/2" == load(site, model="m:2").model_dir
    assert f"{site}/here/bare" == load(site, model="bare").model_dir
    assert f"{site}/job/data" == load(site, model="{dir: data}").model_dir
    assert "azureml-models/m/3 (it has: 2, 10), " in problems(site, model="m:3")[0]
    lost = problems(site, model='"none"')[0]
    assert "model: model 'none' is in none of these places: " in lost
    assert lost.endswith("; or give {dir: PATH}")
    assert "/here/weights is no folder" in problems(site, model="weights")[0]


def test_a_model_is_looked_for_where_the_script_will_look(site):
    """In the environment of the script's process, not in the launcher's."""
    places = [site / name / "m/1" for name in ("models", "other", "job/azureml-models")]
    for place in places:
        place.mkdir(parents=True)
    assert str(places[2]) == load(site, model="m").model_dir  # AML_APP_ROOT: the script's folder
    environ = {"MPIRUN_INFER_MODELS": f"{site}/models", "AML_APP_ROOT": f"{site}/nowhere"}
    assert str(places[0]) == load(site, model="m", environ=environ).model_dir
    variables = {"environment_variables": "{MPIRUN_INFER_MODELS: ../other}"}
    found = load(site, model="m", environ=environ, **variables)
    assert str(places[1]) == found.model_dir
    (site / "src/azureml-models/m/4").mkdir(parents=True)
    (site / "src/score.py").write_text("")
    found = load(site, model="m", source_directory=f"{site}/src")
    assert f"{site}/src/azureml-models/m/4" == found.model_dir


def test_python_of_the_environment(site):
    (site / "py").symlink_to(sys.executable)
    job = load(site, environment=f"{{python: {site}/py}}")
    assert f"{site}/py" == job.environment_python
    found = load(site, environment="{python: py}", environ={"PATH": str(site)})
    assert f"{site}/py" == found.environment_python


def test_what_is_resolved_round_trips(site):
    job = load(site, arguments="[a]", append_row="{to_csv: {sep: ','}}")
    assert job.to_csv == {"sep": ","}
    assert job.progress_update_timeout == 1320
    assert job == type(job).from_json(job.as_json())
    assert job == type(job).model_validate_json(job.model_dump_json())


def test_arguments_that_look_like_keys_are_warned_about_once(site):
    assert argument_warnings(load(site, arguments="[--labels, x]")) == ()
    assert argument_warnings(load(site, arguments="[mini_batch_size, run_max_try=3, -x]")) == ()
    lines = argument_warnings(load(site, arguments="[--mini_batch_size=5, --run_max_try, 3]"))
    assert lines == (
        (
            "arguments: --mini_batch_size, --run_max_try reach only the script; for the run itself "
            "set mini_batch_size, run_max_try in the job"
        ),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "cannot be read (No such file or directory)"),
        (lambda path: path.mkdir(), "is a folder; give the job file in it"),
        (lambda path: path.write_bytes(b"a: \xff"), "is no UTF-8 text"),
    ],
)
def test_job_files_that_cannot_be_read(tmp_path, make, message):
    make(tmp_path / "j.yaml")
    with pytest.raises(UsageError) as caught:
        load_job("j.yaml", [], current_folder=str(tmp_path), environ={}, now_text="")
    assert str(caught.value).startswith(f"j.yaml: {message}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a", "/f/a"), ("./a//b/", "/f/a/b"), ("../a", "/f/../a"), ("/a/./b", "/a/b"), (".", "/f")],
)
def test_absolute(path, expected):
    assert expected == absolute(path, "/f")


OMPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "5"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
ALONE = {"PMI_RANK": "0", "PMI_SIZE": "1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False),
        (OMPI, True),
        ({"PMI_RANK": "0", "PMI_SIZE": "3"}, True),
        (STEP | {"PMI_RANK": "3", "PMI_SIZE": "4"}, True),
        (STEP | {"PMIX_RANK": "3"}, True),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"} | ALONE, False),
    ],
)
def test_whether_we_were_launched(environ, expected):
    assert expected == is_a_rank(environ)


@pytest.mark.parametrize(
    ("environ", "error", "message"),
    [
        (STEP, UsageError, "srun started 4 tasks that do not know of each other"),
        (STEP | ALONE, UsageError, "worlds of one"),
        (ALONE, NoWorkerError, "no worker rank: mpiexec started 1 process"),
    ],
)
def test_worlds_of_one(environ, error, message):
    with pytest.raises(error, match=None) as caught:
        is_a_rank(environ)
    assert message in str(caught.value)


def test_only_the_first_process_speaks():
    assert speaks({})
    assert not speaks(OMPI)
    assert not speaks(STEP)
    assert speaks(STEP | {"SLURM_PROCID": "0"})
