"""The `mpirun-infer` command.

Owns the mapping of every exception to an exit code, and the process's exit.
Touches: standard output and error; a report file when the program itself is at fault.
Never:   imports MPI or a validator before a command needs it: `--help` is instant.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

import click

from mpirun_infer import __version__
from mpirun_infer.cli.bug_report import write_bug_report
from mpirun_infer.core.printable import printable_lines
from mpirun_infer.errors import ConfigError, ExitCode, InferError
from mpirun_infer.launch.environment import speaks

_COMMANDS = {
    "run": "Score the inputs of a job; run it again to go on where it was.",
    "status": "Say where a run stands.",
    "doctor": "Check this machine: Python, MPI, cores, GPUs, write access.",
}
_HIDDEN_COMMANDS = {"_rank": "rank"}


class _Program(click.Group):
    """The group of commands; a command's module is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS and cmd_name not in _HIDDEN_COMMANDS:
            return None
        name = _HIDDEN_COMMANDS.get(cmd_name, cmd_name)
        command = importlib.import_module(f"mpirun_infer.cli.{name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, *, value: bool) -> None:
    if value:
        click.echo(f"mpirun-infer {__version__}")
        ctx.exit()


program = _Program(
    "mpirun-infer",
    help="Score files with an entry script (init, run) over MPI: every row exactly once.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, param, value: _print_version(ctx, param, value=bool(value)),
            help="Print the version.",
        )
    ],
    no_args_is_help=True,
)


def main() -> NoReturn:
    """Run the command line and exit."""
    code = call(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a closed terminal or pipe; at exit it would turn the code into 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def call(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        result = program.main(args=list(arguments), prog_name="mpirun-infer", standalone_mode=False)
    except ConfigError as error:
        return _told(error, "\n".join(error.lines))
    except InferError as error:
        return _told(error, f"mpirun-infer: {error}")
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.OK
    except click.ClickException as error:
        return _told(error, f"mpirun-infer: {_usage_text(error)}")
    except click.Abort:
        return ExitCode.INCOMPLETE
    except Exception as error:  # noqa: BLE001 - the one place that turns a bug into a report
        return _told(error, write_bug_report(error, arguments))
    return int(result or 0)


def _told(error: Exception, text: str) -> int:
    """Tell an error, once however many ranks met it; returns the exit code."""
    if speaks(os.environ):
        sys.stdout.flush()
        click.echo(printable_lines(text), err=True)
    if isinstance(error, InferError):
        return error.exit_code
    return ExitCode.USAGE if isinstance(error, click.ClickException) else ExitCode.BUG


def _usage_text(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption):
        near = get_close_matches(error.option_name, error.possibilities or (), n=1)
        hint = f"did you mean {near[0]}?" if near else "see mpirun-infer run --help"
        return f"{error.option_name}: unknown option; {hint}"
    return error.format_message()
