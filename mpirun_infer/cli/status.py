"""`mpirun-infer status`.

Owns the command; its exit code is the run's.
Touches: standard output; the run folder through `watch`, its lock through `store`.
Never:   writes anything.
"""

import os

import click

_ANY_NAME = "parallel_run_step.txt"
"""The rows' file is of no interest here."""


@click.command("status", short_help="Say where a run stands.")
@click.argument("output", metavar="OUTPUT")
@click.option("--json", "as_json", is_flag=True, help="Print the status as one JSON object.")
def command(output: str, *, as_json: bool) -> int:
    """Say where the run in the folder OUTPUT stands.

    The exit code is the run's; 75 while it runs, and when it was interrupted and can go on.
    """
    import msgspec

    from mpirun_infer.core.printable import printable
    from mpirun_infer.core.progress import summary_lines
    from mpirun_infer.watch.read import exit_code, read_status

    status = read_status(output, _is_alive)
    if as_json:
        click.echo(msgspec.json.encode(status))
    else:
        workers = status.workers
        counts = f"{workers.ready} of {workers.total} ready, {workers.busy} busy"
        lines = [*summary_lines(status), f"  {'workers':<13}  {counts}, {workers.lost} lost"]
        click.echo("\n".join(map(printable, lines)).encode())
    return exit_code(status)


def _is_alive(hidden: str) -> bool:
    """Whether the master lives; one on another host is watched until its heartbeat moves."""
    from mpirun_infer.store.lock import OBSERVE_S, peek
    from mpirun_infer.store.run_folder import RunFolder

    place = RunFolder(os.path.dirname(hidden), _ANY_NAME)
    holder = peek(place, observe_s=OBSERVE_S)
    return holder is not None and not holder.released and holder.alive is True
