"""What tells a process from all others that ever were, on any host.

Owns the facts that a lock file carries.
Touches: /proc.
Never:   decides who lives (`store.lock` does).
"""

import os
import platform

import msgspec


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What tells this process from all others."""

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    pid_start: int
    slurm_job_id: str


def host_facts() -> HostFacts:
    """Of the calling process."""
    pid = os.getpid()
    return HostFacts(
        host=platform.node(),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        pid=pid,
        pid_start=pid_start(pid) or 0,
        slurm_job_id=os.environ.get("SLURM_JOB_ID", ""),
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def pid_start(pid: int) -> int | None:
    """Start time in clock ticks since boot; None when there is no such process, or a dead one."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in {"Z", "X"}:
        return None
    return int(fields[19])
