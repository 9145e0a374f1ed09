"""What /proc knows of processes: parents, sessions, environments.

Owns the reading of these.
Touches: /proc, read only.
Never:   imports anything of ours; kills.
"""

import os


def stat_of(pid):
    """(state, parent, session, start time) of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def environment_of(pid):
    """The environment that a process was started with; empty when it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def live_processes():
    """{pid: (state, parent, session, start time)} of all processes."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = stat_of(int(name))
            if stat is not None:
                found[int(name)] = stat
    return found


def with_descendants(seeds, processes):
    """The seeds and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid, (_, parent, _, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found = set()
    waiting = list(seeds)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found
