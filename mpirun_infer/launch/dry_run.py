"""`--dry-run`: the first mini-batch in the foreground, with everything a rank would give it.

Owns this one mini-batch; nothing is committed.
Touches: one runner (through a zygote, as on a rank), the terminal, a temporary folder.
Never:   starts MPI; writes into the run folder.
"""

import os
import sys
import tempfile
import time

import click

from mpirun_infer.config import JobConfig
from mpirun_infer.core.entry_plan import build_plan
from mpirun_infer.core.messages import Outcome, Ready, Result, Retired
from mpirun_infer.core.printable import printable, printable_lines
from mpirun_infer.core.seats import assign_seats
from mpirun_infer.core.wording import failure_line
from mpirun_infer.errors import ExitCode, UsageError
from mpirun_infer.inputs.listing import Found, list_items
from mpirun_infer.model import MiniBatch
from mpirun_infer.store.run_folder import make_script_folders
from mpirun_infer.supervise.placement import node_facts
from mpirun_infer.supervise.poller import READ, Poller
from mpirun_infer.supervise.source_hash import source_hash
from mpirun_infer.supervise.spawner import Exited, Spawner, SpawnFailed
from mpirun_infer.supervise.supervisor import State, Supervisor

TURN_S = 0.05


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
        return os.path.join(self._folder, f"process{process:03d}")

    def folders(self, process: int) -> dict[str, str]:
        """All in the temporary folder: a dry run leaves nothing behind."""
        return {
            "output_dir": self._folder,
            "log_dir": self._folder,
            "working_dir": self._folder,
            "metrics": os.path.join(self._folder, f"metrics{process}.jsonl"),
            "entry_log": os.path.join(self._folder, f"entry{process}.log"),
        }


def dry_run(job: JobConfig) -> int:
    """Run it; the exit code is 0 when the mini-batch succeeded, 3 when not, 2 or 4 for init()."""
    mini_batch = _first_mini_batch(job)
    make_script_folders(job.outputs.values())
    facts = node_facts(os.environ)
    workers = job.workers_for(1) or len(facts.gpus) or len(facts.cores)
    plan = build_plan(
        job,
        run_id="dry-run",
        script_hash=source_hash(job.entry_script, job.source_directory),
        workers_per_node=workers,
        nodes=job.node_count or 1,
    )
    with tempfile.TemporaryDirectory(prefix="mpirun-infer-dry-run-") as folder:
        spawner = Spawner()
        poller = Poller()
        try:
            supervisor = Supervisor(
                assign_seats({1: facts}, 1)[1][0],
                plan,
                1,
                processes=range(1_000),
                spawner=spawner,
                poller=poller,
                desk=_Foreground(folder),
            )
            poller.register(spawner.fileno(), READ, lambda: _hear(spawner, supervisor))
            return _drive(supervisor, poller, mini_batch)
        finally:
            poller.close()
            spawner.close()


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
            case _:
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
                case _:
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
