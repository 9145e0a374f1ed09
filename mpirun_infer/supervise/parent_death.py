"""No process of ours outlives its parent.

Owns the parent-death signal of ranks and of mpiexec; the programs of `child/` ask for their own.
Touches: the calling process.
Never:   runs Python code of weight: it is called between fork and exec, too.
"""

import ctypes
import os
import signal

from mpirun_infer.errors import ExitCode

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here: not between fork and exec


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies; exit if that has happened already.

    `parent` is the pid that the caller knows its parent by, so that a death before this call is
    noticed as well; without it the parent is the present one.
    """
    parent = os.getppid() if parent is None else parent
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ExitCode.INCOMPLETE)
