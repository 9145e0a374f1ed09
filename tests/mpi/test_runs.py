"""Whole runs that nothing goes wrong with, or only the user's script."""

import csv
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("workers", "mini_batch_size"),
    [(1, 1), (1, 100), (2, 7), (4, 1), (4, 100)],
)
def test_the_rows_are_the_same_however_the_work_is_cut(job, judge, workers, mini_batch_size):
    job.script("rows.py")
    rows = job.files(60)
    run = job.run("--workers", workers, "--mini-batch-size", mini_batch_size)
    status = judge(run, rows, within_s=20)
    assert workers == status["workers"]["total"]
    assert -(-60 // mini_batch_size) == status["mini_batches"]["done"]
    assert status["items"] == {"total": 60, "succeeded": 60, "failed": 0}


def test_several_workers_in_one_rank(job, judge):
    job.script("rows.py")
    rows = job.files(60)
    run = job.run("--workers", 3, "--slots-per-rank", 3, "--mini-batch-size", 1)
    status = judge(run, rows)
    assert status["workers"]["total"] == 3
    logs = os.listdir(next((job.output / "logs" / "sys").glob("*/rank001.txt")).parent)
    assert logs == ["rank001.txt"]


def test_under_the_users_own_mpiexec(job, judge, user_mpiexec):
    job.script("rows.py")
    rows = job.files(60)
    (job.folder / "job.yaml").write_text(
        "entry_script: score.py\ninputs: data\noutput: out\nmini_batch_size: 3\n"
    )
    run = job.start_line([*user_mpiexec(5), "run", "job.yaml"])
    assert run.wait() == 0, run.err
    status = judge(run, rows)
    assert status["workers"]["total"] == 4
    assert "60 succeeded, 0 failed" in run.err
    # and the launcher's exit code is the run's
    (job.data / "raises.txt").write_text("")
    again = job.start_line(
        [*user_mpiexec(2), "run", "job.yaml", "--output", "failed", "--error-threshold", "0"]
    )
    assert again.wait() == 3
    job.nothing_left()


def test_twenty_files_and_the_sixth_segfaults(job, judge):
    job.script("rows.py")
    rows = job.files(20)
    bad = job.data / "f005_segfault.txt"
    (job.data / "f005.txt").rename(bad)
    del rows[5]
    options = ("--mini-batch-size", 1, "--run-max-try", 1)
    run = job.run(*options)
    status = judge(run, rows)
    assert status["failures"]["PROCESS_EXIT"] == 1
    assert status["items"] == {"total": 20, "succeeded": 19, "failed": 1}
    lines = [line for line in run.err.splitlines() if str(bad) in line]
    assert lines
    assert "SIGSEGV" in lines[0]
    assert "score.py:" in lines[0]
    log = job.output / status["first_failure"]["log"]
    assert "Segmentation fault" in log.read_text()


def test_twenty_files_the_sixth_segfaults_and_no_failure_is_allowed(job, judge):
    job.script("rows.py")
    job.files(20)
    bad = job.data / "f005_segfault.txt"
    (job.data / "f005.txt").rename(bad)
    options = ("--mini-batch-size", 1, "--run-max-try", 1, "--error-threshold", 0)
    run = job.run(*options)
    kept = job.rows("parallel_run_step.txt.partial")
    status = judge(run, kept, 3)
    assert len(kept) == len(set(kept)) == status["rows"]
    assert str(bad) in run.err
    assert "SIGSEGV" in run.err
    assert "1 item failed, error_threshold is 0 (PROCESS_EXIT 1)" in run.err
    result = (job.output / "logs" / "job_result.txt").read_text()
    assert "error_threshold is 0" in result.splitlines()[0]


def test_the_threshold_is_exceeded_not_reached(job, judge):
    job.script("rows.py")
    rows = job.files(20)
    for number in (3, 4):
        (job.data / f"raises{number}.txt").write_text("")
    options = ("--mini-batch-size", 1, "--run-max-try", 2)
    status = judge(job.run(*options, "--error-threshold", 2), rows)
    assert status["failures"]["RUN_EXCEPTION"] == 2
    run = job.run(*options, "--error-threshold", 1, "--fresh")
    judge(run, job.rows("parallel_run_step.txt.partial"), 3)
    assert "2 items failed, error_threshold is 1 (RUN_EXCEPTION 2)" in run.err
    error = (job.output / "logs" / "user" / "error.txt").read_text()
    assert "ValueError: cannot read raises3.txt, score.py:" in error


def test_init_that_fails_everywhere_is_exit_code_4_with_its_traceback(job, judge):
    job.script("bad_init.py")
    job.files(3)
    run = job.run()
    status = judge(run, [], 4)
    assert "OSError: no model here" in run.err
    assert "score.py:" in run.err
    assert 'raise OSError("no model here")' in run.err
    assert status["items"]["failed"] == 0


@pytest.mark.parametrize(
    ("script", "words"), [("x = 1\n", "run("), ("def run(mini_batch)\n", "SyntaxError")]
)
def test_a_script_that_cannot_work_is_exit_code_2(job, judge, script, words):
    (job.folder / "score.py").write_text(script)
    job.files(3)
    run = job.run()
    judge(run, None, 2)
    assert words in run.err
    assert job.records("dispatched") == []


def test_an_empty_input_is_exit_code_2(job, judge):
    job.script("rows.py")
    run = job.run()
    judge(run, None, 2)
    assert str(job.data) in run.err
    assert "no" in run.err


def test_a_rerun_of_a_complete_run_does_nothing_and_says_so(job, judge):
    job.script("rows.py")
    rows = job.files(20)
    judge(job.run(), rows)
    before = (job.output / "parallel_run_step.txt").stat()
    again = job.run()
    judge(again, rows)
    assert "complete already, nothing to do" in again.err
    after = (job.output / "parallel_run_step.txt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_fresh_moves_the_old_run_aside(job, judge):
    job.script("rows.py")
    rows = job.files(20)
    judge(job.run(), rows)
    (job.data / "f000.txt").write_text("new\n")
    run = job.run("--fresh")
    judge(run, ["f000.txt:new", *rows[1:]])
    assert f"{job.output}.old-1" in run.err
    old = job.folder / "out.old-1" / "parallel_run_step.txt"
    assert sorted(rows) == sorted(old.read_text().splitlines())


def test_a_folder_that_is_not_ours_is_exit_code_2(job, judge):
    job.script("rows.py")
    job.files(3)
    job.output.mkdir()
    (job.output / "thesis.txt").write_text("mine")
    run = job.run()
    judge(run, None, 2)
    assert "not empty" in run.err
    assert os.listdir(job.output) == ["thesis.txt"]


def test_summary_only_leaves_no_rows(job, judge):
    job.script("rows.py")
    job.files(20)
    run = job.run("--output-action", "summary_only")
    assert run.process.returncode == 0
    job.nothing_left()
    job.judged += 1
    code, status = job.status()
    assert (code, status["state"]) == (0, "complete")
    assert status["items"] == {"total": 20, "succeeded": 20, "failed": 0}
    assert not list(job.output.glob("parallel_run_step*"))


def test_a_data_frames_header_stands_once_at_the_top(job, judge):
    pytest.importorskip("pandas")
    job.script("frames.py")
    job.files(20)
    (job.folder / "score.settings.json").write_text("{}")
    (job.folder / "parallel_run_step.settings.json").write_text(
        '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "header": true}}}'
    )
    run = job.run("--mini-batch-size", 3, "--append-row-file-name", "Table.csv")
    assert run.process.returncode == 0, run.err
    job.nothing_left()
    job.judged += 1
    with (job.output / "Table.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "length"]
    assert sorted(rows) == [[f"f{number:03d}.txt", "8.0"] for number in range(20)]
    assert job.status()[1]["rows"] == 20


JOB = """
name: every-key
description: all keys that this version knows
entry_script: score.py
source_directory: code
inputs: {images: data}
input_type: files
side_inputs: {labels: labels.txt}
outputs: {extra: extra}
arguments: ["--labels", "${{side_inputs.labels}}", "--scale", "${{parameters.scale}}", "--extra",
            "${{outputs.extra}}", "$[[--absent ${{inputs.absent}}]]"]
parameters: {scale: 1}
output: "{name}"
output_action: Append_Row
append_row_file_name: Rows.txt
append_row: {to_csv: {sep: " ", header: false}}
ordered: false
row_escape: true
with_source: false
strict_rows: true
mini_batch_size: 4
partition_keys: null
partition_format: null
error_threshold: 5
mini_batch_error_threshold: 5
allowed_failed_percent: 50
run_max_try: 2
run_invocation_timeout: 30
task_overhead_timeout: 60
init_timeout: 60
init_max_try: 2
first_task_creation_timeout: 60
progress_update_timeout: 120
time_limit: null
workers: 4
slots_per_rank: 2
min_workers: 1
max_restarts: 2
crash_limit: 2
worker_memory_limit: null
speculation: false
durability: process
storage_wait: 10
logging_level: DEBUG
resource_monitor_interval: 60
profiling_module: null
model: null
engine_arguments: true
environment: {python: null}
environment_variables: {GREETING: "hello there"}
table: {}
slurm: {}
"""


def test_a_job_file_with_every_key(job, judge):
    job.output = job.folder / "every-key"
    job.files(20)
    (job.folder / "code").mkdir()
    job.script("every_key.py")
    (job.folder / "score.py").rename(job.folder / "code" / "score.py")
    names = [f"f{number:03d}.txt" for number in range(20)]
    labels = "".join(f"{name} label{number}\n" for number, name in enumerate(names))
    (job.folder / "labels.txt").write_text(labels)
    (job.folder / "job.yaml").write_text(JOB)
    run = job.run("job.yaml", "--set", "parameters.scale=7")
    rows = [f"hello there label{number} 7" for number in range(20)]
    status = judge(run, rows, name="Rows.txt")
    assert status["mini_batches"]["done"] == 5
    seen = list(
        itertools.chain.from_iterable(
            path.read_text().split() for path in (job.folder / "extra").iterdir()
        )
    )
    assert sorted(seen) == [str(job.data / name) for name in names]


def test_a_script_of_another_interpreter_that_has_nothing_of_ours(job, judge):
    job.script("rows.py")
    rows = job.files(20)
    bare = job.folder / "bare"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=60
    )
    (job.folder / "job.yaml").write_text(
        "entry_script: score.py\ninputs: data\noutput: out\nworkers: 2\n"
        "environment: {python: bare/bin/python}\n"
    )
    judge(job.run("job.yaml"), rows)


# --------------------------------------------------------------------------- real digits

DIGITS, TRAINED = 1000, 500


@pytest.fixture(scope="session")
def digits(request, tmp_path_factory):
    """Real MNIST as PNG files, fetched once and kept in pytest's cache, if it has one."""
    cache = getattr(request.config, "cache", None)
    work = Path(cache.mkdir("mnist") if cache else tmp_path_factory.mktemp("mnist"))
    wheel = next((EXAMPLES / "mnist" / "work").glob("*.whl"), None)
    if wheel is not None and not (work / wheel.name).exists():
        os.link(wheel, work / wheel.name)
    subprocess.run(
        [sys.executable, "prepare.py", "--pngs-only", str(DIGITS), "--work", str(work)],
        cwd=EXAMPLES / "mnist",
        check=True,
        timeout=100,
        stdout=subprocess.DEVNULL,
    )
    return work


def test_real_digits_are_told_apart(job, judge, digits):
    job.script("nearest_centroid.py")
    png, labels = digits / "png", digits / "labels.txt"
    known = dict(line.split() for line in labels.read_text().splitlines())
    wanted = [f"{number:05d}.png" for number in range(TRAINED, DIGITS)]
    (job.folder / "list.txt").write_text("".join(f"{png / name}\n" for name in wanted))
    run = job.run(
        *("--input", "@list.txt", "--mini-batch-size", 50, "--"),
        *("--labels", labels, "--digits", png, "--train", TRAINED),
    )
    assert run.process.returncode == 0, run.err
    told = dict(row.split(": ") for row in job.rows())
    judge(run, [f"{name}: {told[name]}" for name in wanted])
    right = sum(told[name] == known[name] for name in wanted)
    assert 0.7 < right / len(wanted) < 1


# --------------------------------------------------------------------------- stopping by signals


def test_one_interrupt_drains_and_the_same_command_completes(job, judge):
    job.script("gated.py")
    rows = job.files(60)
    options = ("--mini-batch-size", 1)
    run = job.start(*options)
    job.wait_for_rows(20)
    run.process.send_signal(signal.SIGINT)
    job.wait_for_state("draining")
    assert run.process.poll() is None
    job.open_gate()
    run.wait()
    done = sum(record["rows"] for record in job.records("committed"))
    status = judge(run, rows[:done], 75)
    assert 20 <= done < 60
    assert status["reason"]
    judge(job.run(*options), rows)


def test_a_second_interrupt_stops_at_once(job, judge):
    job.script("gated.py")
    rows = job.files(60)
    options = ("--mini-batch-size", 1)
    run = job.start(*options)
    job.wait_for_rows(20)
    run.process.send_signal(signal.SIGINT)
    job.wait_for_state("draining")
    run.process.send_signal(signal.SIGINT)
    run.wait()
    assert run.process.returncode == 75
    assert run.took_s < 20
    assert "^C once more stops at once" in run.err
    job.nothing_left()
    committed = sum(record["rows"] for record in job.records("committed"))
    assert f"{committed} succeeded, 0 failed" in run.err, "the launcher counts for the dead"
    result = (job.output / "logs" / "job_result.txt").read_text()
    assert result.startswith("The job was interrupted and can be resumed (exit code 75): ")
    job.open_gate()
    judge(job.run(*options), rows)


# --------------------------------------------------------------------------- who may go on


def test_a_second_run_in_a_held_folder_is_exit_code_2(job, judge):
    job.script("gated.py")
    rows = job.files(60)
    run = job.start("--mini-batch-size", 1)
    job.wait_for_rows(20)
    second = job.start("--mini-batch-size", 1)
    assert second.wait() == 2, second.err
    holder = run.process.pid  # its launcher: rank 0 alone would be started again
    assert f"pid {holder}" in second.err
    assert f"{job.output}: run held" in second.err
    assert "Running" not in second.err
    job.open_gate()
    run.wait()
    judge(run, rows)


def test_a_changed_script_is_exit_code_5_unless_it_is_accepted(job, judge):
    job.script("gated.py")
    rows = job.files(60)
    run = job.start("--mini-batch-size", 1)
    job.wait_for_rows(20)
    run.kill_group()
    job.open_gate()
    with (job.folder / "score.py").open("a") as file:
        file.write("# changed\n")
    refused = job.run("--mini-batch-size", 1)
    assert refused.process.returncode == 5, refused.err
    assert "cannot resume: the entry script" in refused.err
    assert "--accept-changes keeps committed rows, --fresh starts over" in refused.err
    judge(job.run("--mini-batch-size", 1, "--accept-changes"), rows)
