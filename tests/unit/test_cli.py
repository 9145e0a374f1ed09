"""The command line: options, exit codes, messages; no process is started."""

import sys
import types

import click
import msgspec
import pytest

import mpirun_infer.launch
import mpirun_infer.roles
from mpirun_infer.cli import run as run_options
from mpirun_infer.cli import status as status_command
from mpirun_infer.cli.main import call
from mpirun_infer.config import JobConfig
from mpirun_infer.errors import ExitCode, ResumeError, StorageError, UsageError
from mpirun_infer.launch.checks import Mark, compare, family_of
from mpirun_infer.model import Status
from mpirun_infer.parameters import OPTIONS
from mpirun_infer.watch.read import exit_code, read_status

LAUNCHED = ("OMPI_", "PMI_", "PMIX_", "MV2_", "SLURM_")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    import os

    for name in list(os.environ):
        if name.startswith(LAUNCHED):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.py").write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "in").mkdir()


@pytest.fixture
def launched(monkeypatch):
    """What the launcher was called with."""
    calls = []

    def run(job, options):
        calls.append((job, options))
        return ExitCode.FAILED

    fake = types.ModuleType("supervise_run")
    fake.run = run
    monkeypatch.setitem(sys.modules, "mpirun_infer.launch.supervise_run", fake)
    monkeypatch.setattr(mpirun_infer.launch, "supervise_run", fake, raising=False)
    return calls


RUN = ["run", "--entry-script", "s.py", "--input", "in", "--output", "out"]


def test_a_run_by_options_alone(launched, tmp_path):
    assert call([*RUN, "--workers", "4", "--strict-rows", "--fresh", "--accept-changes"]) == 3
    ((job, options),) = launched
    assert (4, True, f"{tmp_path}/out") == (job.workers, job.strict_rows, job.output)
    assert (options.fresh, options.accept_changes) == (True, True)


def test_options_win_over_set_and_file(launched, tmp_path):
    (tmp_path / "job.yaml").write_text(
        "entry_script: s.py\ninputs: nothing\noutput: out\nstrict_rows: true\nworkers: 2\n"
        "arguments: [a]\n"
    )
    line = ["run", "job.yaml", "--input", "x=in", "--no-strict-rows", "--set", "workers=3"]
    assert call([*line, "--workers", "4", "--", "--flag", "", "--", "é\n"]) == 3
    job = launched[0][0]
    assert (job.workers, job.strict_rows) == (4, False)
    assert job.arguments == ("--flag", "", "--", "é\n")
    assert [("x", f"{tmp_path}/in")] == [(entry.name, entry.path) for entry in job.inputs]


def test_nothing_after_the_dashes_takes_the_arguments_away(launched, tmp_path):
    (tmp_path / "job.yaml").write_text(
        "entry_script: s.py\ninputs: in\noutput: o\narguments: [a]\n"
    )
    call(["run", "job.yaml"])
    call(["run", "job.yaml", "--"])
    assert [job.arguments for job, _ in launched] == [("a",), ()]


def test_an_existing_path_with_an_equals_sign_is_a_path(launched, tmp_path):
    (tmp_path / "a=in").mkdir()
    call([*RUN, "--input", "a=in", "--input", "b=in"])
    paths = [(entry.name, entry.path) for entry in launched[0][0].inputs]
    assert [
        ("in", f"{tmp_path}/in"),
        ("a=in", f"{tmp_path}/a=in"),
        ("b", f"{tmp_path}/in"),
    ] == paths


def test_side_inputs_and_parameters(launched, tmp_path):
    call([*RUN, "--side-input", "l=s.py", "--", "${{side_inputs.l}}"])
    assert (f"{tmp_path}/s.py",) == launched[0][0].arguments


def test_all_errors_of_options_come_together(launched, capsys):
    line = ["run", "--error-threshold", "-5", "--workers=x", "--side-input", "l", "--set", "a"]
    assert call([*line, "--input", "azureml:x"]) == 2
    assert launched == []
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "--set a: key=value is wanted, as in --set run_max_try=2",
        "--side-input: NAME=PATH is wanted, as in labels=labels.txt",
        (
            "entry_script: missing; the path of a Python file or a dotted module is wanted "
            "(--entry-script)"
        ),
        '--input: "azureml:x" is no path here; mount or copy, then give the path',
        "output: missing; a folder is wanted (--output)",
        "--error-threshold: -5 is out of range; an integer >= -1 is wanted (-1 ignores failures)",
        "--workers: x is not accepted; an integer >= 1 and at most 100000 is wanted",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["run", "--worker", "4"], "--worker: unknown option; did you mean --workers?"),
        (["run", "--mini_batch_size=5"], "did you mean --mini-batch-size?"),
        (["run", "a", "b"], "unexpected extra argument (b)"),
        (["run", "none.yaml"], "none.yaml: cannot be read (No such file or directory)"),
        (["bogus"], "No such command 'bogus'"),
        (["status"], "Missing argument 'OUTPUT'"),
        (["status", "none"], "none: no run is here; give the output folder of a run"),
    ],
)
def test_wrong_command_lines(capsys, line, message):
    assert call(line) == 2
    err = capsys.readouterr().err
    assert err.startswith("mpirun-infer: ")
    assert message in err


@pytest.mark.parametrize(
    ("error", "code"), [(ResumeError("r: x"), 5), (StorageError("storage: x"), 74)]
)
def test_errors_of_ours_have_their_exit_codes(launched, monkeypatch, capsys, error, code):
    def run(job, options):
        raise error

    monkeypatch.setattr(mpirun_infer.launch.supervise_run, "run", run)
    assert code == call(RUN)
    assert f"mpirun-infer: {error}\n" == capsys.readouterr().err


def test_a_bug_is_exit_code_1_with_a_report(launched, monkeypatch, capsys, tmp_path):
    def run(job, options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(mpirun_infer.launch.supervise_run, "run", run)
    (tmp_path / "out/.mpirun_infer").mkdir(parents=True)
    (tmp_path / "out/.mpirun_infer/events").write_text("the last event\n")
    assert call(RUN) == 1
    (report,) = tmp_path.glob("mpirun-infer-bug-*.txt")
    text = report.read_text()
    for part in ("ZeroDivisionError: oops", "the last event", "pydantic ", "--entry-script"):
        assert part in text
    assert str(report) in capsys.readouterr().err


def test_under_mpiexec_the_command_is_a_rank(monkeypatch):
    calls = []

    def under_user_mpiexec(load_order):
        calls.append(load_order)
        return 0

    fake = types.ModuleType("rank_main")
    fake.under_user_mpiexec = under_user_mpiexec
    fake.main = lambda launch: 75 if launch == "file" else 1
    monkeypatch.setitem(sys.modules, "mpirun_infer.roles.rank_main", fake)
    monkeypatch.setattr(mpirun_infer.roles, "rank_main", fake, raising=False)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert call([*RUN, "--fresh"]) == 0
    order = calls[0]()
    assert (order.fresh, order.speaks) == (True, True)
    assert JobConfig.from_json(order.job).entry_module == "s"
    assert call([*RUN, "--input", "@-"]) == 0
    with pytest.raises(UsageError, match="no standard input"):
        calls[1]()
    assert call([*RUN, "--dry-run"]) == 2
    assert call(["_rank", "--launch", "file"]) == 75


def test_other_ranks_keep_quiet(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert call(["run", "--bogus"]) == 2
    assert capsys.readouterr().err == ""


def test_a_single_rank_is_told_how_many_are_wanted(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert call(RUN) == 4
    assert "use mpiexec -n 5 (1 + 4 workers)" in capsys.readouterr().err


def test_help_names_every_offered_option(capsys):
    assert call(["run", "--help"]) == 0
    out = capsys.readouterr().out
    for row in OPTIONS:
        assert row.later or row.option in out
    options = {name for p in run_options.command.params for name in p.opts}
    assert {row.option for row in OPTIONS} <= options
    assert {
        "--set",
        "--input",
        "--side-input",
        "--fresh",
        "--dry-run",
        "--accept-changes",
    } <= options


def test_help_of_the_program(capsys):
    for line in (["--help"], [], ["status", "--help"], ["doctor", "-h"]):
        assert call(line) == 0
    out = capsys.readouterr().out
    assert "doctor" in out
    assert "_rank" not in out
    assert call(["--version"]) == 0


def write_status(tmp_path, **values):
    hidden = tmp_path / "out/.mpirun_infer"
    hidden.mkdir(parents=True, exist_ok=True)
    (hidden / "status.json").write_bytes(msgspec.json.encode(Status(**values)))


@pytest.mark.parametrize(
    ("state", "code", "alive", "shown", "expected"),
    [
        ("complete", 0, False, "complete", 0),
        ("failed", 3, False, "failed", 3),
        ("running", None, True, "running", 75),
        ("draining", None, True, "draining", 75),
        ("running", None, False, "interrupted", 75),
        ("interrupted", 75, False, "interrupted", 75),
    ],
)
def test_status(monkeypatch, capsys, tmp_path, state, code, alive, shown, expected):
    asked = []
    monkeypatch.setattr(status_command, "_is_alive", lambda hidden: asked.append(hidden) or alive)
    write_status(tmp_path, state=state, exit_code=code)
    assert expected == call(["status", "out"])
    first = {"interrupted": "Incomplete"}.get(shown, shown.capitalize())
    out = capsys.readouterr().out
    assert out.startswith(first)
    assert "0 of 0 ready" in out
    assert expected == call(["status", "out", "--json"])
    assert shown == msgspec.json.decode(capsys.readouterr().out, type=Status).state


def test_a_run_that_ends_while_it_is_asked_about_is_not_interrupted(tmp_path):
    write_status(tmp_path, state="running")

    def is_alive(hidden):
        write_status(tmp_path, state="complete", exit_code=0)
        return False

    status = read_status(str(tmp_path / "out"), is_alive)
    assert (status.state, exit_code(status)) == ("complete", 0)


def test_status_before_the_first_one_and_damaged(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(status_command, "_is_alive", lambda _: True)
    (tmp_path / "out/.mpirun_infer").mkdir(parents=True)
    assert call(["status", "out"]) == 75
    (tmp_path / "out/.mpirun_infer/status.json").write_text("{")
    assert call(["status", "out"]) == 2
    assert "is damaged or of another version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("library", "family", "version", "mark"),
    [
        ("Open MPI v5.0.11, package: x", "openmpi", "5.0.11", Mark.OK),
        ("Open MPI v5.0.11, package: x", "openmpi", "4.1.4", Mark.WARN),
        ("Open MPI v5.0.11, package: x", "mpich", "4.2.0", Mark.FAIL),
        ("MPICH Version:\t4.2.0", "mpich", "4.2.0", Mark.OK),
        ("Intel(R) MPI Library 2021.10", "mpich", "", Mark.OK),
        ("Something 1.2", "openmpi", "5.0.11", Mark.WARN),
    ],
)
def test_library_and_launcher_are_compared(library, family, version, mark):
    assert mark == compare(library, family, version).mark


def test_families():
    assert [family_of(t) for t in ("Open MPI", "MVAPICH", "x")] == ["openmpi", "mpich", "other"]


def test_options_are_plain_text_for_the_jobs_own_check():
    for parameter in run_options.command.params:
        assert isinstance(parameter.type, (click.types.StringParamType, click.types.BoolParamType))


def test_a_run_without_a_lock_is_not_alive(tmp_path, capsys):
    write_status(tmp_path, state="running")
    assert call(["status", "out", "--json"]) == 75
    assert msgspec.json.decode(capsys.readouterr().out)["state"] == "interrupted"
