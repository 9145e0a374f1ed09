"""What `run` does: the job from file and options, then the launcher or a rank.

Owns how options become overrides, and the choice between launching and being launched.
Touches: the environment, standard error; `launch` and `roles` do the work.
Never:   parses a job on a rank other than 0.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from mpirun_infer.cli.bug_report import set_events_file
from mpirun_infer.config import JobConfig, is_identifier
from mpirun_infer.errors import UsageError
from mpirun_infer.launch.environment import is_a_rank
from mpirun_infer.launch.job_file import Override, set_override
from mpirun_infer.launch.resolve import argument_warnings, load_job
from mpirun_infer.launch.run_options import RunOptions
from mpirun_infer.launch.stdin_list import kept_list, reads_stdin
from mpirun_infer.parameters import OPTIONS
from mpirun_infer.store.run_folder import RunFolder


def run_job(given: Mapping[str, Any], *, script_arguments: Sequence[str] | None) -> int:
    """Run a job; returns the exit code."""
    options = RunOptions(fresh=given["fresh"], accept_changes=given["accept_changes"])

    def load(stdin_list: str | None = None) -> JobConfig:
        job = load_job(
            given["job_file"],
            list(overrides(given, script_arguments)),
            current_folder=_current_folder(),
            environ=os.environ,
            now_text=time.strftime("%Y%m%d-%H%M%S", time.gmtime()),
            stdin_list=stdin_list,
        )
        set_events_file(RunFolder(job.output, job.append_row_file_name).events_file)
        for line in argument_warnings(job):
            click.echo(f"warning: {line}", err=True)
        return job

    if is_a_rank(os.environ):
        if given["dry_run"]:
            raise UsageError("--dry-run runs in the foreground; call it without mpiexec")
        return _be_a_rank(load, options)
    if given["dry_run"]:
        from mpirun_infer.launch.dry_run import dry_run

        return dry_run(load, sys.stdin.buffer if sys.stdin else None)
    job = load()
    from mpirun_infer.launch import supervise_run

    return int(supervise_run.run(job, options))


def _be_a_rank(load: Callable[[], JobConfig], options: RunOptions) -> int:
    """Under a user's mpiexec; only rank 0 makes the order, and so only it reads the job."""
    from mpirun_infer.model import LaunchOrder, launch_name
    from mpirun_infer.roles import rank_main

    def make_order() -> LaunchOrder:
        job = load()
        if reads_stdin(job, kept_list(job.output, job.append_row_file_name)):
            raise UsageError("input @-: ranks of mpiexec have no standard input; give @list")
        return LaunchOrder(
            job=job.as_json(),
            launch=launch_name(socket.gethostname(), os.getpid(), time.time_ns()),
            fresh=options.fresh,
            accept_changes=options.accept_changes,
            speaks=True,
        )

    return int(rank_main.under_user_mpiexec(make_order))


def overrides(
    given: Mapping[str, Any], script_arguments: Sequence[str] | None
) -> Iterator[Override]:
    """The values of the command line, weakest first: `--set`, then options, then `--`."""
    for text in given["set_texts"]:
        yield set_override(text)
    for row in OPTIONS:
        if given[row.name] is not None:
            label = row.option if given[row.name] is not False else f"--no-{row.option[2:]}"
            yield Override(label, (row.name,), given[row.name])
    inputs = [_named(text) for text in given["input_texts"]]
    if inputs:
        yield Override("--input", ("inputs",), inputs)
    for text in given["side_input_texts"]:
        name, equals, path = text.partition("=")
        wrong = not equals or not is_identifier(name)
        problem = "NAME=PATH is wanted, as in labels=labels.txt" if wrong else ""
        yield Override("--side-input", ("side_inputs", name), path, problem)
    if script_arguments is not None:
        yield Override("--", ("arguments",), list(script_arguments))


def _named(text: str) -> dict[str, str]:
    """`NAME=PATH` or a path; a path that exists and holds an equals sign is a path."""
    name, equals, path = text.partition("=")
    if equals and is_identifier(name) and not os.path.lexists(text):
        return {"name": name, "path": path}
    return {"name": text, "path": text}


def _current_folder() -> str:
    """The shell's name of the current folder when it is true (symlinks as the user sees them)."""
    named = os.environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samefile(named, "."):
            return named
    except OSError:
        pass
    try:
        return os.getcwd()
    except OSError:
        raise UsageError("the current folder is gone; cd to another one") from None
