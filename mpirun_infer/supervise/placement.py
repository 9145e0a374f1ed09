"""What a rank finds on its node: host, cores, GPUs.

Owns the reading of affinity, cgroup quota and visible GPUs.
Touches: /proc, /sys, the environment.
Never:   decides who sits where (`core.seats`); starts a process.
"""

import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from mpirun_infer.model import NodeFacts

NVIDIA = Path("/proc/driver/nvidia/gpus")
CGROUP = Path("/sys/fs/cgroup")


def node_facts(environ: Mapping[str, str]) -> NodeFacts:
    """The facts of this process on this node."""
    return NodeFacts(
        node=platform.node() or "localhost",
        cores=usable_cores(),
        explicitly_bound=environ.get("SLURM_CPU_BIND_TYPE", "").startswith(("mask_cpu", "map_cpu")),
        gpus=visible_gpus(environ),
        python=platform.python_version(),
        pid=os.getpid(),
    )


def usable_cores(root: Path = CGROUP) -> tuple[int, ...]:
    """The affinity mask, cut to the whole cores that the cgroup's quota pays for."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    quota = cgroup_quota_cores(root)
    if quota is not None:
        cores = cores[: max(1, math.ceil(quota))]
    return cores


def cgroup_quota_cores(root: Path = CGROUP) -> float | None:
    """CPU quota of the cgroup in cores (v2, else v1), or None when there is no limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 else None


def visible_gpus(environ: Mapping[str, str], driver: Path = NVIDIA) -> tuple[str, ...]:
    """Entries for CUDA_VISIBLE_DEVICES: the launcher's list as it is, else the driver's UUIDs."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(part.strip() for part in listed.split(",") if part.strip() not in ("", "-1"))
    uuids = []
    try:
        folders = sorted(driver.iterdir())
    except OSError:
        return ()
    for folder in folders:
        try:
            text = (folder / "information").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "GPU UUID":
                uuids.append(value.strip())
    return tuple(uuids)
