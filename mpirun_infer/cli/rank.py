"""The hidden command `_rank`: what our launcher has mpiexec start.

Owns nothing but the entry.
Touches: what `roles.rank_main` touches.
Never:   reads a job file; a rank gets the job from the launch file or from rank 0.
"""

import click


@click.command("_rank", hidden=True)
@click.option("--launch", required=True, metavar="FILE", help="The launch file.")
def command(launch: str) -> int:
    """Be a rank of a run that the launcher started."""
    from mpirun_infer.roles import rank_main

    return int(rank_main.main(launch))
