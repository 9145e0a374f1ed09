"""Where a run stands, read from its folder.

Owns the reading of status.json and the ruling that a run whose master is dead is interrupted.
Touches: `<output>/.mpirun_infer/status.json`, for reading.
Never:   asks a process or writes; whether a master lives is the caller's `is_alive`.
"""

import os
from collections.abc import Callable

import msgspec

from mpirun_infer.errors import ExitCode, UsageError
from mpirun_infer.model import Status

HIDDEN = ".mpirun_infer"
LIVE_STATES = ("starting", "running", "draining")


def read_status(output: str, is_alive: Callable[[str], bool]) -> Status:
    """The status of the run in `output`; `is_alive` is asked about the hidden folder.

    Raises:
        UsageError: there is no run, or its status cannot be read.
    """
    hidden = os.path.join(output, HIDDEN)
    if not os.path.isdir(hidden):
        raise UsageError(f"{output}: no run is here; give the output folder of a run")
    status = _read(hidden)
    if status.state not in LIVE_STATES or is_alive(hidden):
        return status
    status = _read(hidden)  # it may have ended between the first look and the question
    if status.state in LIVE_STATES:
        status.state = "interrupted"
        status.exit_code = int(ExitCode.INCOMPLETE)
        status.reason = "the master is gone; give the same command again to go on"
        status.eta_s = None
    return status


def exit_code(status: Status) -> int:
    """The exit code of a status: the run's; 75 while it runs."""
    return int(ExitCode.INCOMPLETE) if status.exit_code is None else status.exit_code


def _read(hidden: str) -> Status:
    path = os.path.join(hidden, "status.json")
    try:
        with open(path, "rb") as source:
            return msgspec.json.decode(source.read(), type=Status)
    except FileNotFoundError:
        return Status(state="starting", output=os.path.dirname(hidden))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: is damaged or of another version ({error})") from None
