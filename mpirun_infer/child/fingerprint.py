"""The hash that tells whether an entry script has changed since the run began.

Owns what counts as "the script": its own bytes and the row settings beside it; under its
source_directory the bytes of every *.py file, of settings and of native libraries (of large ones
the size only).
Touches: those files, read only.
Never:   imports anything of ours. Runs under Python >= 3.8, with the same result everywhere.

Other files do not count: scripts write logs, tables and images beside themselves while they run.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat

FILES_MAX = 20_000
"""Files that count; a larger tree is hashed as far as that, in a fixed order."""

ENTRIES_MAX = 20_000
"""Of one folder; one that holds more is data, not code, and is skipped."""

HASHED_SUFFIXES = (
    b".py",
    b".yaml",
    b".yml",
    b".toml",
    b".ini",
    b".cfg",
    b".so",
    b".settings.json",
)
BYTES_MAX = 1 << 20
"""Of a file that is not Python and under the source_directory: a larger one counts by its size."""

SETTINGS_FILE = b"parallel_run_step.settings.json"
"""Beside the script: it says how data frames become rows."""

RUN_FOLDER_MARK = b".mpirun_infer"


def source_hash(script: str, source_directory: str | None) -> str:
    """SHA-256 in hex over the script and its source_directory (or None)."""
    digest = hashlib.sha256()
    _add_file(digest, b"", os.fsencode(script))
    settings = os.path.join(os.path.dirname(os.fsencode(script)), SETTINGS_FILE)
    if os.path.exists(settings):
        _add_file(digest, b"", settings)
    if source_directory:
        root = os.fsencode(source_directory)
        for relative, path in itertools.islice(_walk(root, b""), FILES_MAX):
            _add_file(digest, relative, path)
    return digest.hexdigest()


def _walk(folder, relative):
    """(relative path, path) of the files that count, in bytewise order."""
    try:
        with os.scandir(folder) as listing:
            entries = []
            for entry in listing:
                entries.append(entry)
                if len(entries) > ENTRIES_MAX:
                    return
    except OSError:
        return
    if relative and any(entry.name == RUN_FOLDER_MARK for entry in entries):
        return  # an output folder inside the source folder
    entries.sort(key=lambda entry: entry.name)
    for entry in entries:
        name = entry.name
        if _is_folder(entry):
            if not name.startswith(b".") and name != b"__pycache__":
                yield from _walk(entry.path, relative + name + b"/")
        elif name.endswith(HASHED_SUFFIXES):
            yield relative + name, entry.path


def _is_folder(entry):
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _add_file(digest, relative, path):
    """Length-prefixed, so that no two trees give the same stream."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            content = b"no regular file"  # opening a FIFO would wait for ever
        elif relative and not relative.endswith(b".py") and facts.st_size > BYTES_MAX:
            content = b"%d" % facts.st_size
        else:
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).digest()
    except OSError:
        content = b"unreadable"
    digest.update(b"%d:%s%d:%s" % (len(relative), relative, len(content), content))
