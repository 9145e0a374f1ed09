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
_HOST_PID_NAMESPACE = "pid:[4026531836]"  # the kernel's own number for it
_LIBC = ctypes.CDLL(None)  # loaded here: not between fork and exec


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies; exit if that has happened already.

    `parent` is the pid that the caller knows its parent by, so that a death before this call is
    noticed as well; without it the parent is the present one, unless that is the host's init, which
    starts no ranks. (In a container pid 1 may well have started us.)
    """
    if parent is None:
        parent = os.getppid()
        if parent == 1 and _pid_namespace() == _HOST_PID_NAMESPACE:
            os._exit(ExitCode.INCOMPLETE)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ExitCode.INCOMPLETE)


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
