"""`--dry-run`: the first mini-batch in the foreground, with everything a rank would give it.

Owns this one mini-batch; nothing is committed.
Touches: one runner (through a zygote, as on a rank), the terminal, a temporary folder, and the
         folders of the job's `outputs`, which the script may write to.
Never:   starts MPI; makes or writes the run folder. `--output=` in the script's arguments names it
         as ever; AZUREML_BI_OUTPUT_PATH and `EntryScript.output_dir` are in the temporary folder.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import BinaryIO

import click
import msgspec

from mpirun_infer.config import JobConfig
from mpirun_infer.core.entry_plan import build_plan
from mpirun_infer.core.messages import (
    Beat,
    Hello,
    Outcome,
    Ready,
    Released,
    Result,
    Retired,
    Returned,
)
from mpirun_infer.core.printable import printable, printable_lines
from mpirun_infer.core.seats import assign_seats
from mpirun_infer.core.wording import failure_line
from mpirun_infer.errors import ExitCode, UsageError
from mpirun_infer.inputs.listing import Found, list_items
from mpirun_infer.launch.stdin_list import spool
from mpirun_infer.launch.workers import expect_nodes, ranks_for, workers_wanted
from mpirun_infer.model import MiniBatch, RunnerPlan, Seat, nodes_of
from mpirun_infer.store.run_folder import make_script_folders
from mpirun_infer.supervise.placement import node_facts
from mpirun_infer.supervise.poller import READ, Poller
from mpirun_infer.supervise.source_hash import source_hash
from mpirun_infer.supervise.spawner import Exited, Spawner, SpawnFailed, Started
from mpirun_infer.supervise.supervisor import State, Supervisor

TURN_S = 0.05
_OUTPUT_VARIABLE = "AZUREML_BI_OUTPUT_PATH"


class _Foreground:
    """The supervisor's desk: what the script prints goes to the terminal."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def write(self, kind: str, process: int, data: bytes) -> None:
        """Show it."""
        del process
        stream = sys.stdout if kind == "stdout" else sys.stderr
        if kind != "error":  # stacks are shown with the outcome
            stream.buffer.write(data)
            stream.flush()

    def error_log(self, process: int) -> str:
        """There is none."""
        del process
        return ""

    def working_folder(self, process: int) -> str:
        """Private, and gone afterwards."""
        return os.path.join(self._folder, "work", f"process{process:03d}")

    def folders(self, process: int) -> dict[str, str]:
        """All in the temporary folder: a dry run leaves nothing behind."""
        return {
            "output_dir": _output_folder(self._folder),
            "log_dir": os.path.join(self._folder, "logs"),
            "working_dir": os.path.join(self._folder, "work"),
            "metrics": os.path.join(self._folder, "logs", f"metrics{process}.jsonl"),
            "entry_log": os.path.join(self._folder, "logs", f"entry{process}.log"),
        }


def dry_run(load: Callable[[str], JobConfig], stdin: BinaryIO | None) -> int:
    """Run it; the exit code is 0 when the mini-batch succeeded, 3 when not, 2 or 4 for init().

    `load` is told where the list on standard input will be kept.
    """
    with tempfile.TemporaryDirectory(prefix="mpirun-infer-dry-run-") as folder:
        kept = os.path.join(folder, "stdin.list")
        job = load(kept)
        expect_nodes(job, os.environ)
        spool(job, kept, stdin)
        mini_batch = _first_mini_batch(job)
        make_script_folders(job.outputs.values())
        os.mkdir(_output_folder(folder))
        seat, plan = _first_worker(job)
        if _OUTPUT_VARIABLE not in job.environment_variables:
            environment = plan.environment | {_OUTPUT_VARIABLE: _output_folder(folder)}
            plan = msgspec.structs.replace(plan, environment=environment)
        return _run(seat, plan, mini_batch, _Foreground(folder))


def _first_worker(job: JobConfig) -> tuple[Seat, RunnerPlan]:
    """What the first worker of a run on this node would get."""
    nodes = nodes_of(os.environ)
    workers_per_node = max(1, -(-workers_wanted(job, os.environ) // nodes))
    ranks = ranks_for(workers_per_node, job.slots_per_rank)
    facts = node_facts(os.environ)
    seats = assign_seats(dict.fromkeys(range(1, ranks + 1), facts), job.slots_per_rank)
    plan = build_plan(
        job,
        run_id="dry-run",
        script_hash=source_hash(job.entry_script, job.source_directory),
        workers_per_node=workers_per_node,
        nodes=nodes,
    )
    return seats[1][0], plan


def _run(seat: Seat, plan: RunnerPlan, mini_batch: MiniBatch, desk: _Foreground) -> int:
    spawner = Spawner()
    poller = Poller()
    try:
        supervisor = Supervisor(
            seat, plan, 1, processes=range(1_000), spawner=spawner, poller=poller, desk=desk
        )
        poller.register(spawner.fileno(), READ, lambda: _hear(spawner, supervisor))
        return _drive(supervisor, poller, mini_batch)
    finally:
        poller.close()
        spawner.close()


def _output_folder(folder: str) -> str:
    return os.path.join(folder, "output")


def _first_mini_batch(job: JobConfig) -> MiniBatch:
    """The first items of the first input that has any."""
    paths: list[bytes] = []
    index = 0
    for item in list_items([(entry.name, entry.path) for entry in job.inputs]):
        if not isinstance(item, Found):
            continue
        if paths and item.input_index != index:
            break
        index = item.input_index
        paths.append(item.path)
        if len(paths) == job.mini_batch_size:
            break
    if not paths:
        raise UsageError("the inputs hold no regular file; give a path that matches at least one")
    return MiniBatch(id=0, input_index=index, first_item=0, paths=tuple(paths))


def _hear(spawner: Spawner, supervisor: Supervisor) -> None:
    for event in spawner.poll():
        match event:
            case Exited():
                supervisor.exited(event)
            case SpawnFailed():
                supervisor.spawn_failed(event)
            case Started():
                pass


def _drive(supervisor: Supervisor, poller: Poller, mini_batch: MiniBatch) -> int:
    exit_code = int(ExitCode.INCOMPLETE)
    supervisor.start(time.monotonic())
    while supervisor.state is not State.CLOSED:
        poller.wait(TURN_S)
        supervisor.check(time.monotonic())
        for message, body in supervisor.take():
            match message:
                case Ready():
                    click.echo(f"init() done in {message.init_s:.2f} s", err=True)
                    supervisor.submit([(mini_batch, 1)])
                case Result():
                    exit_code = _tell(mini_batch, message.outcomes[0], bytes(body))
                    supervisor.release(time.monotonic(), at_once=False)
                case Retired():
                    click.echo(printable_lines(f"{message.reason}\n{message.detail}"), err=True)
                    code = ExitCode.USAGE if message.usage_error else ExitCode.NO_WORKER
                    exit_code = int(code)
                case Returned():  # the process died before run(): the next one is ready soon
                    pass
                case Hello() | Beat() | Released():  # a rank's own, not a supervisor's
                    pass
    return exit_code


def _tell(mini_batch: MiniBatch, outcome: Outcome, rows: bytes) -> int:
    if outcome.failure is not None:
        click.echo(printable(failure_line(mini_batch, 1, 1, outcome.failure, final=True)), err=True)
        click.echo(printable_lines(outcome.failure.detail), err=True)
        return int(ExitCode.FAILED)
    result = outcome.result
    if result is None:
        return int(ExitCode.BUG)
    sys.stdout.buffer.write(result.header + rows)
    sys.stdout.flush()
    click.echo(
        f"dry run: {mini_batch.items} items, {result.rows} rows, run() took {result.run_s:.3f} s; "
        "nothing was kept",
        err=True,
    )
    return int(ExitCode.OK)
