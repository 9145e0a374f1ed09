"""The report of an error of our own.

Owns what such a report holds: versions, command line, stack, the run's last events.
Touches: a new file in the current folder, or in the temporary folder.
Never:   raises; a second error must not hide the first.
"""

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata

_PACKAGES = ("mpirun-infer", "mpi4py", "msgspec", "pydantic", "ruamel.yaml", "rich", "click")
_EVENT_BYTES = 20_000

_context: dict[str, str] = {}


def set_events_file(path: str) -> None:
    """Name the file of the run's events; the last of them belong into a report."""
    _context["events"] = path


def write_bug_report(error: BaseException, arguments: Sequence[str]) -> str:
    """Write the report; returns the lines for the terminal."""
    text = _report(error, arguments)
    what = f"mpirun-infer: this is a bug of mpirun-infer: {type(error).__name__}: {error}"
    for folder_of in (os.getcwd, tempfile.gettempdir):
        try:
            path = os.path.join(folder_of(), f"mpirun-infer-bug-{os.getpid()}.txt")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.write(text)
        except OSError:
            continue
        return f"{what}\nmpirun-infer: please report it with {path}"
    return f"{what}\n{text}"


def _report(error: BaseException, arguments: Sequence[str]) -> str:
    lines = [
        "A report of mpirun-infer. Read it before you send it: it holds paths and arguments.",
        f"python {platform.python_version()} {sys.executable}",
        f"platform {platform.platform()}",
        *(f"{name} {_version(name)}" for name in _PACKAGES),
        f"command line {list(arguments)!r}",
        "",
        *traceback.format_exception(error),
        *_last_events(),
    ]
    return "\n".join(lines) + "\n"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _last_events() -> list[str]:
    path = _context.get("events")
    if path is None:
        return []
    try:
        with open(path, "rb") as events:
            events.seek(max(0, os.path.getsize(path) - _EVENT_BYTES))
            tail = events.read(_EVENT_BYTES)
    except OSError as error:
        return [f"no events: {error}"]
    return ["last events:", tail.decode("utf-8", "backslashreplace")]
