"""`mpirun-infer run`: its options.

Owns the command line of a run: one option for every scalar parameter, from the table.
Touches: nothing; `cli.run_job` acts.
Never:   imports a validator or MPI: `run --help` is instant.
"""

from typing import Any

import click

from mpirun_infer.parameters import OPTIONS, Kind, Parameter

_HELP = """Score the inputs of a job.

JOB.yaml is the job file; options win over it, paths in it are relative to it. What follows --
replaces the arguments of the script. A run that was stopped or killed goes on where it was when
the same command is given again.
"""


class RunCommand(click.Command):
    """A command whose line ends at the first `--`; the rest belongs to the entry script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            end = args.index("--")
            ctx.meta["script_arguments"] = args[end + 1 :]
            args = args[:end]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        del ctx
        return ["[JOB.yaml]", "[OPTIONS]", "[-- SCRIPT ARGUMENTS]"]


def _option(row: Parameter) -> click.Option:
    """The option of a parameter. Values stay text: the job's own check says all errors at once."""
    if row.kind is Kind.FLAG:
        both = f"{row.option}/--no-{row.option.removeprefix('--')}"
        return click.Option([both, row.name], default=None, help=_help(row), hidden=row.later)
    metavar = row.metavar or "TEXT"
    return click.Option([row.option, row.name], metavar=metavar, help=_help(row), hidden=row.later)


def _help(row: Parameter) -> str:
    default = row.default
    if default is None:
        return f"{row.help} Required." if row.required else row.help
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"{row.help} [{text.removesuffix('.0')}]"


def _run(**options: Any) -> int:
    from mpirun_infer.cli.run_job import run_job

    context = click.get_current_context()
    return run_job(options, script_arguments=context.meta.get("script_arguments"))


command = RunCommand(
    "run",
    help=_HELP,
    short_help="Score the inputs of a job.",
    callback=_run,
    params=[
        click.Argument(["job_file"], required=False, metavar="[JOB.yaml]"),
        click.Option(
            ["--input", "input_texts"],
            multiple=True,
            metavar="[NAME=]PATH",
            help="A folder, file, glob or @list to score; repeatable. Replaces the file's inputs.",
        ),
        click.Option(
            ["--side-input", "side_input_texts"],
            multiple=True,
            metavar="NAME=PATH",
            help="Reference data, for ${{side_inputs.NAME}} in arguments; repeatable.",
        ),
        *map(_option, OPTIONS),
        click.Option(
            ["--set", "set_texts"],
            multiple=True,
            metavar="KEY=VALUE",
            help="Set any key of the job, dotted, the value read as YAML; repeatable.",
        ),
        click.Option(
            ["--fresh"], is_flag=True, help="Move the old run folder aside and start over."
        ),
        click.Option(
            ["--dry-run"], is_flag=True, help="Run one mini-batch in the foreground, keep nothing."
        ),
        click.Option(
            ["--accept-changes"],
            is_flag=True,
            help="Keep committed rows although the script or its arguments changed.",
        ),
    ],
)
