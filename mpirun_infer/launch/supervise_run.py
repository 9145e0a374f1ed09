"""A run as its launcher sees it: start the ranks, watch, start again, decide the exit code.

Owns: how many ranks, the launch order, the watch over mpiexec, relaunches, signals.
Touches: the run folder (control/, the lock and journal for reading), one mpiexec at a time, the
         terminal through `watch`.
Never:   initialises MPI; believes mpiexec's exit code. Rank 0's last words count, else the journal.
"""

import contextlib
import os
import socket
import sys
import time

import click
from rich.console import Console

from mpirun_infer.config import JobConfig
from mpirun_infer.core.printable import printable_lines
from mpirun_infer.errors import ExitCode
from mpirun_infer.launch.epilogue import finish_for_the_dead
from mpirun_infer.launch.mpiexec import argv, find_launcher
from mpirun_infer.launch.ranks import LaunchOutcome, Ranks
from mpirun_infer.launch.run_options import RunOptions
from mpirun_infer.launch.signals import StopRequests
from mpirun_infer.launch.stdin_list import spool
from mpirun_infer.launch.workers import expect_nodes, ranks_for, workers_wanted
from mpirun_infer.model import LaunchOrder, launch_name
from mpirun_infer.store import lock
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.watch.follow import Follower

BACKOFF_MAX_S = 30.0


def run(job: JobConfig, options: RunOptions) -> int:
    """Run the job to its end; returns the exit code."""
    expect_nodes(job, os.environ)
    launcher = find_launcher()
    console = Console(stderr=True)
    folder = RunFolder(job.output, job.append_row_file_name)
    if options.fresh:
        aside = folder.move_aside()
        if aside:
            with contextlib.suppress(OSError):
                console.print(f"the old run was moved to {aside}", markup=False, highlight=False)
    folder.prepare()
    launch = launch_name(socket.gethostname(), os.getpid(), time.time_ns())
    lock.expect_free(folder, launch=launch)
    spool(job, folder.stdin_list, sys.stdin.buffer if sys.stdin else None)
    ranks = 1 + ranks_for(workers_wanted(job, os.environ), job.slots_per_rank)
    order = LaunchOrder(
        job=job.as_json(),
        launch=launch,
        accept_changes=options.accept_changes,
    )
    command = [sys.executable, "-P", "-m", "mpirun_infer", "_rank", "--launch"]
    with (
        StopRequests(folder.drain_file) as stops,
        Follower(folder.status_file, folder.events_file, console) as follower,
    ):
        outcome = _launch_until_decided(
            Ranks(folder, order, argv(launcher, ranks, command), stops),
            stops,
            follower,
            restarts_max=job.max_restarts,
        )
        # A summary of somebody else's launch would only confuse.
        holder = lock.peek(folder)
        ours = holder is not None and holder.launch == order.launch
        if ours and outcome.exit_code:
            finish_for_the_dead(folder, launch, exit_code=outcome.exit_code, reason=outcome.reason)
        shown = (ours and follower.has_news) or outcome.exit_code == 0
        status = follower.finish(outcome.exit_code, outcome.reason) if shown else None
    if outcome.reason and (status is None or status.reason != outcome.reason):
        with contextlib.suppress(OSError):  # nobody is there to read it
            click.echo(f"mpirun-infer: {printable_lines(outcome.reason)}", err=True)
    return outcome.exit_code


def _turn(follower: Follower, stops: StopRequests) -> None:
    if stops.take_news():
        follower.say(
            "warning",
            "stopping: no new work, what runs may end within 30 s, all is committed; ^C once more "
            "stops at once",
        )
    follower.turn()


def _launch_until_decided(
    ranks: Ranks, stops: StopRequests, follower: Follower, *, restarts_max: int
) -> LaunchOutcome:
    """Start the ranks, and again when they are lost: the journal knows where to go on."""
    restarts = 0
    while True:
        with ranks:
            outcome = ranks.watch(lambda: _turn(follower, stops))
        if not outcome.lost:
            return outcome
        if stops.drain:
            return LaunchOutcome(ExitCode.INCOMPLETE, f"{outcome.reason} while the run was to stop")
        if restarts == restarts_max:
            return LaunchOutcome(
                ExitCode.INCOMPLETE,
                f"{outcome.reason}; {restarts} restarts are used up (max_restarts); the same "
                f"command goes on from the journal\n{ranks.error_tail()}",
            )
        restarts += 1
        follower.say(
            "warning",
            f"{outcome.reason}; starting again from the journal (restart {restarts} of "
            f"{restarts_max})",
        )
        stops.wait(min(BACKOFF_MAX_S, 2.0 ** (restarts - 1)) if restarts > 1 else 0.0)
