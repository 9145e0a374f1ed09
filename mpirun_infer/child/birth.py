"""How a forked child of the zygote turns into a runner.

Owns the order of what happens between fork and exec.
Touches: the process that it runs in, which is about to be replaced.
Never:   imports anything of ours; returns.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal

PRIVATE_FD_MIN = 100
PR_SET_PDEATHSIG = 1
OOM_SCORE = b"1000"

DEFAULT_IN_RUNNER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)
"""What the zygote ignores or handles; SIGUSR1 and SIGUSR2 stay ignored."""

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option, value):
    """Ask the kernel; see the manual page of the same name."""
    _libc.prctl(option, value, 0, 0, 0)


def to_bytes(text):
    """A string of a request as the kernel wants it."""
    return text.encode("utf-8", "surrogateescape")


def become_runner(request, fds, status_fd, zygote_pid):
    """In the forked child: turn into the runner; what goes wrong is told through `status_fd`."""
    step = "prepare"
    try:
        signal.set_wakeup_fd(-1)
        for number in DEFAULT_IN_RUNNER:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != zygote_pid:
            os._exit(1)  # the zygote died before the line above
        protocol_fd, page_fd = (to_private_fd(fd) for fd in fds[:2])
        os.dup2(fds[2], 1)
        os.dup2(fds[3], 2)
        close_all_but({0, 1, 2, protocol_fd, page_fd, status_fd})
        set_limits(request["cores"])
        step = f"enter the folder {request['cwd']!r}"
        folder = to_bytes(request["cwd"])
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
        step = f"start {request['argv'][0]!r}"
        argv = [to_bytes(part) for part in request["argv"]]
        argv += [b"%d" % protocol_fd, b"%d" % page_fd]
        env = {to_bytes(name): to_bytes(value) for name, value in request["env"].items()}
        os.execvpe(argv[0], argv, env)
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        os.write(status_fd, f"cannot {step}: {reason}".encode("utf-8", "replace")[:4000])
    finally:
        os._exit(127)


def to_private_fd(fd):
    """A copy that survives exec, out of the way of what the user's programs expect to be free."""
    for lowest in (PRIVATE_FD_MIN, 10):
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD, lowest)
        except OSError:
            continue  # a very low limit of open files
    raise OSError(0, "too few file descriptors allowed (ulimit -n)")


def close_all_but(kept):
    """Close every other descriptor."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


def set_limits(cores):
    """Cores, no core files, first choice of the kernel when memory runs out; none is a must."""
    if cores:
        with contextlib.suppress(OSError, ValueError):
            os.sched_setaffinity(0, cores)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(OOM_SCORE)
