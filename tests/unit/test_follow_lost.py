"""A terminal that is gone must not end the run that it shows."""

import io

import msgspec
import pytest
from rich.console import Console

from mpirun_infer.model import Notice, Status
from mpirun_infer.watch.follow import Follower


class Gone(io.StringIO):
    """A stream whose other end is gone."""

    def __init__(self, error, *, terminal):
        super().__init__()
        self._error = error
        self._terminal = terminal

    def write(self, _):
        raise self._error

    def flush(self):
        raise self._error

    def isatty(self):
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("error", [OSError(5, "EIO"), BrokenPipeError(32, "EPIPE")])
def test_it_falls_silent(tmp_path, error, terminal):
    status, events = tmp_path / "status.json", tmp_path / "events"
    console = Console(file=Gone(error, terminal=terminal), force_terminal=terminal)
    with Follower(str(status), str(events), console) as follower:
        events.write_bytes(msgspec.json.encode(Notice(at="", level="error", text="no")) + b"\n")
        status.write_bytes(msgspec.json.encode(Status(state="running")))
        follower.turn()
        follower.say("warning", "lost")
        status.write_bytes(msgspec.json.encode(Status(state="complete", exit_code=0, rows=7)))
        assert follower.finish(0, "").rows == 7
