"""What `run` is asked beside the job.

Owns `RunOptions`.
Touches: nothing.
Never:   holds anything that changes the rows; that is the job's.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of the command that are no part of the job.

    Attributes:
        fresh: move the old run folder aside and start over.
        accept_changes: keep committed rows although the script or its arguments changed.
    """

    fresh: bool = False
    accept_changes: bool = False
