"""The texts under logs/."""

import csv
import io

import msgspec

from mpirun_infer.core.events import Tried
from mpirun_infer.model import (
    Failure,
    FailureKind,
    FirstFailure,
    MiniBatch,
    Status,
    TryResult,
)
from mpirun_infer.store import reports

MINI_BATCH = MiniBatch(id=5, input_index=0, first_item=50, paths=(b"/d/6.png", b"/d/7,\xff.png"))
DONE = Tried(
    mini_batch=MINI_BATCH,
    try_number=2,
    worker=1,
    node="n1",
    elapsed_s=1.5,
    at=9.0,
    ready_at=1.0,
    final=True,
    result=TryResult(rows=1, body_bytes=4, run_s=1.0, load_s=0.25, process=7),
)
FAILED = Tried(
    mini_batch=MINI_BATCH,
    try_number=3,
    worker=1,
    node="n1",
    elapsed_s=1.5,
    at=9.0,
    ready_at=1.0,
    final=True,
    failure=Failure(
        kind=FailureKind.PROCESS_EXIT,
        error="runner killed by SIGSEGV in run()",
        where="score.py:12",
        process=1,
        node="n1",
        log="logs/user/error/n1/process001.txt",
        detail="Traceback:\n  boom\udcff",
        run_s=0.5,
    ),
)


def row(line):
    return next(csv.reader(io.StringIO(line.decode())))


def test_a_done_mini_batch_is_a_line_of_its_table():
    line = row(reports.mini_batch_line(DONE, process_started_at="T"))
    assert len(reports.MINI_BATCH_COLUMNS) == len(line)
    assert line[:10] == ["5", "2", "n1:process007", "T", "2", "1", "1", "1.500", "1.250", "1.000"]
    assert line[10:] == ["RUN_DONE", "", "", "/d/6.png and 1 more"]


def test_a_failed_mini_batch_is_a_line_of_its_table():
    line = row(reports.mini_batch_line(FAILED))
    assert line[5:7] == ["0", "2"]
    assert line[10:13] == ["PROCESS_EXIT", "PROCESS_EXIT", "runner killed by SIGSEGV in run()"]


def test_every_kind_of_failure_has_a_known_status():
    known = {
        "RUN_TIMEOUT", "RUN_EXCEPTION", "LOAD_TIMEOUT", "LOAD_ERROR", "PROCESS_EXIT",
    }  # fmt: skip
    assert known == {reports._status(kind) for kind in FailureKind}


def test_the_header_is_the_one_people_know():
    assert reports.csv_line(reports.MINI_BATCH_COLUMNS).startswith(
        b"Mini-batch Id,Picked Count,Process,Process Start Time,Total,Succeeded,Failed,"
    )


def test_the_items_of_a_mini_batch_are_one_line():
    assert reports.items_text(MINI_BATCH) == "/d/6.png and 1 more"
    newline = msgspec.structs.replace(MINI_BATCH, paths=(b"/d/a\nb",))
    assert reports.items_text(newline) == "/d/a\\nb"


def test_a_result_begins_with_the_reason():
    status = Status(
        state="failed",
        exit_code=3,
        reason="12 items failed, error_threshold is 10",
        first_failure=FirstFailure(
            item="/d/6.png", mini_batch=5, try_number=3, error="SIGSEGV", log="l"
        ),
    )
    lines = reports.job_result(status, ["rows 9"]).decode().splitlines()
    assert lines[0] == "The job failed (exit code 3): 12 items failed, error_threshold is 10"
    assert lines[1] == "First failure: item /d/6.png: SIGSEGV; log l"
    assert lines[-1] == "rows 9"
    done = reports.job_result(Status(state="complete", exit_code=0), [])
    assert done.startswith(b"The job succeeded.\n")


def test_processes_add_up_to_nodes():
    first = reports.ProcessTotals(node="n1", process=1, started_at="T", ready_s=0.5)
    second = reports.ProcessTotals(node="n1", process=2, started_at="T", ready_s=0.5)
    first.add(DONE)
    second.add(FAILED)
    assert len(reports.process_table([first, second]).splitlines()) == 3
    assert row(reports.node_table([first, second]).splitlines()[1]) == [
        "n1", "2", "1", "1", "1", "3", "0.250", "1.500",
    ]  # fmt: skip
