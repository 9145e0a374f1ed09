"""`mpirun-infer doctor`.

Owns the command and the shape of its lines.
Touches: standard output; `launch.checks` looks.
Never:   changes anything.
"""

import click

from mpirun_infer.errors import ExitCode


@click.command("doctor", short_help="Check this machine.")
@click.option("--run", "start_ranks", is_flag=True, help="Start 3 ranks and prove that they talk.")
def command(*, start_ranks: bool) -> int:
    """Check this machine: Python, MPI library and launcher, cores, GPUs, /dev/shm, write access.

    The exit code is 4 when MPI is unusable, else 0.
    """
    from mpirun_infer.launch.checks import Mark, check_machine

    code = ExitCode.OK
    for check in check_machine(start_ranks=start_ranks):
        cure = f"; {check.cure}" if check.cure else ""
        click.echo(f"{check.mark:<4}  {check.name:<12}  {check.text}{cure}")
        if check.mark is Mark.FAIL:
            code = ExitCode.NO_WORKER
    return code
