"""From a wait status to a failure that a person can act on.

Owns these words.
Touches: nothing.
Never:   decides who is blamed (`supervise.supervisor`).
"""

import os
import re
import signal

FRAME = re.compile(rb'File "([^"\n]+)", line (\d+)(?:,)? in (\S+)')
"""A line of faulthandler's dump."""

UNUSABLE_STATUS = 70
"""Of a runner that cannot speak to its rank any more (`child.runner`)."""

_PHASE_TEXT = {
    "import": "while it imported the entry script",
    "init": "in init()",
    "load": "while it loaded the mini-batch",
    "run": "in run()",
    "format": "while it formatted the rows",
    "shutdown": "in shutdown()",
}


def phase_text(phase: str) -> str:
    """`in run()` for `run`."""
    return _PHASE_TEXT.get(phase, "between two mini-batches")


def exit_text(status: int, phase: str) -> str:
    """`runner killed by SIGSEGV in run()` or `runner exited with status 0 in run()`."""
    where = phase_text(phase)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        hint = ""
        if number == signal.SIGKILL:
            hint = " (the kernel's out-of-memory killer, or someone's kill -9)"
        return f"runner killed by {name} {where}{hint}"
    code = os.waitstatus_to_exitcode(status)
    if code == UNUSABLE_STATUS:
        return (
            f"the runner's connection was closed or broken {where}: does the script close "
            "descriptors that it did not open?"
        )
    return f"runner exited with status {code} {where} (os._exit, or an exit in C code)"


def blamed_line(stderr_tail: bytes, script_folder: str) -> str:
    """`score.py:12` from the last stack dump in a runner's standard error, or an empty text.

    The innermost frame in the script's own folder is meant; else the innermost of all.
    """
    start = max(
        stderr_tail.rfind(b"Fatal Python error"),
        stderr_tail.rfind(b"Current thread "),
        stderr_tail.rfind(b"Stack (most recent call first)"),
    )
    if start < 0:
        return ""
    frames = FRAME.findall(stderr_tail, start)
    if not frames:
        return ""
    folder = os.fsencode(script_folder)
    own = [frame for frame in frames if os.path.dirname(frame[0]) == folder]
    path, line, _ = (own or frames)[0]
    return f"{os.fsdecode(os.path.basename(path))}:{line.decode()}"
