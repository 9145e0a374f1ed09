"""What earlier launches of a run may have left on this node: found by its mark, killed.

Owns the reading of `MPIRUN_INFER_RUN_ID=<run>.<epoch>` in /proc.
Touches: /proc; SIGKILL to processes of the same user that carry an *earlier* epoch of the same run.
Never:   touches the present epoch, another run, or anything unmarked.

The usual chain (launcher, rank, zygote, runner) leaves nothing behind. This is for what a script
detached from it, when the zygote itself was killed.
"""

import os
import signal
from contextlib import suppress

_MARK = b"MPIRUN_INFER_RUN_ID="


def sweep_earlier_epochs(run_id: str) -> list[int]:
    """Kill what carries an earlier epoch of `<run>.<epoch>`; the pids that were killed."""
    run, _, epoch_text = run_id.rpartition(".")
    prefix = _MARK + os.fsencode(run) + b"."
    killed = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue  # gone, or another user's
        for variable in variables:
            epoch = variable.removeprefix(prefix)
            if epoch != variable and epoch.isdigit() and int(epoch) < int(epoch_text):
                with suppress(OSError):
                    os.kill(int(name), signal.SIGKILL)
                    killed.append(int(name))
                break
    return killed
