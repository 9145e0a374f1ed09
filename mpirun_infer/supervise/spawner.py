"""The rank's handle on its zygote, the only process that starts runners.

Owns: starting the zygote (before MPI_Init), its socket, requests and events.
Touches: one child process and one socket.
Never:   forks after MPI_Init; knows what a runner does.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mpirun_infer.errors import IncompleteError

SEND_BUFFER_BYTES = 4 << 20
DATAGRAM_BYTES_MAX = 1 << 20
LEAVE_TIMEOUT_S = 3.0
"""For the zygote, from the end of its socket; the launcher gives a rank 5 s in all."""

GONE = "the zygote is gone (killed from outside?); this rank can start no more runners"


class Started(msgspec.Struct, frozen=True, tag_field="event", tag="started"):
    """The runner's process exists."""

    token: int
    pid: int


class SpawnFailed(msgspec.Struct, frozen=True, tag_field="event", tag="spawn_failed"):
    """There is no process: its folder, its interpreter or a limit is in the way."""

    token: int
    error: str


class Exited(msgspec.Struct, frozen=True, tag_field="event", tag="exited"):
    """The runner is gone and its tree is swept; `status` is a wait status.

    `killed`: what else of the tree had to be killed; `left`: what is still there, stuck in the
    kernel.
    """

    token: int
    pid: int
    status: int
    killed: list[int] = []
    left: list[int] = []


ZygoteEvent = Started | SpawnFailed | Exited

decode_event = msgspec.json.Decoder(ZygoteEvent).decode


class ZygoteLostError(IncompleteError):
    """Raised when the zygote is gone: this rank cannot start runners any more."""


class _TooLargeError(Exception):
    """Raised when a request does not fit in a datagram."""

    def __init__(self, size: int) -> None:
        super().__init__(f"environment and arguments of {size} bytes are too large")


class Spawner:
    """Starts its zygote when made; make it before MPI is initialised."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        ours.setblocking(False)  # noqa: FBT003
        program = Path(__file__).parent.parent / "child" / "zygote.py"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(program), str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        self._socket = ours

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def spawn(
        self,
        token: int,
        argv: Sequence[str],
        *,
        env: dict[str, str],
        cwd: str,
        cores: Sequence[int],
        fds: Sequence[int],
    ) -> None:
        """Ask for a runner; `fds` are its protocol socket, page, stdout and stderr, in this order.

        They are the caller's to close afterwards. `Started` or `SpawnFailed` answers.
        """
        request = {
            "op": "spawn",
            "token": token,
            "argv": list(argv),
            "env": env,
            "cwd": cwd,
            "cores": list(cores),
        }
        try:
            self._request(request, fds)
        except _TooLargeError as error:
            self._request({"op": "refuse", "token": token, "error": str(error)})

    def signal(self, token: int, number: int) -> None:
        """Send a signal to the runner itself."""
        self._request({"op": "signal", "token": token, "signal": number})

    def kill(self, token: int) -> None:
        """SIGKILL the runner and everything that it started; `Exited` answers."""
        self.wake()
        self._request({"op": "kill", "token": token})

    def poll(self) -> list[ZygoteEvent]:
        """What has happened; raises ZygoteLostError when the zygote is gone."""
        events: list[ZygoteEvent] = []
        while True:
            try:
                datagram = self._socket.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return events
            except OSError as error:
                raise ZygoteLostError(f"the zygote's socket failed: {error}") from error
            if not datagram:
                raise ZygoteLostError(GONE)
            events.append(decode_event(datagram))

    def wake(self) -> None:
        """Let a zygote go on that somebody has stopped: it is needed now."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Let the zygote kill what is left and end; waits for it, but not for ever."""
        self._socket.close()
        self.wake()
        try:
            self._process.wait(LEAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _request(self, request: dict[str, object], fds: Sequence[int] = ()) -> None:
        data = json.dumps(request).encode("ascii")
        if len(data) > DATAGRAM_BYTES_MAX:
            raise _TooLargeError(len(data))
        try:
            socket.send_fds(self._socket, [data], list(fds))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ZygoteLostError(GONE) from error
        except OSError as error:  # the kernel allows less than we do
            if error.errno != errno.EMSGSIZE:
                raise
            raise _TooLargeError(len(data)) from error
