"""The list of an `@-` input: standard input, kept in a file before anything reads it.

Owns its form: an entry a line or NUL-separated, as it came, relative ones made absolute.
Touches: standard input; one file.
Never:   reads it a second time: a resumed run has the kept one.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from mpirun_infer.config import JobConfig
from mpirun_infer.errors import UsageError
from mpirun_infer.store.run_folder import RunFolder

STDIN = "@-"
"""As it is written in a job."""

_BLOCK_BYTES = 1 << 20  # `inputs.listing` looks for a NUL in a first block of this size
_BOM = b"\xef\xbb\xbf"


def kept_list(output: str, append_row_file_name: str) -> str:
    """Where a run keeps the list."""
    return RunFolder(output, append_row_file_name).stdin_list


def reads_stdin(job: JobConfig, kept: str) -> bool:
    """Whether an input of the resolved job is the list `kept`."""
    return any(entry.path == "@" + kept for entry in job.inputs)


def spool(job: JobConfig, kept: str, stream: BinaryIO | None) -> None:
    """Keep the list, if the job wants one and there is none yet; `stream` None: it is closed.

    Raises:
        UsageError: there is nothing to read.
    """
    if not reads_stdin(job, kept) or os.path.exists(kept):
        return
    if stream is None or stream.isatty():
        what = "closed" if stream is None else "a terminal"
        raise UsageError(f"input @-: standard input is {what}; pipe a list of paths into it")
    draft = kept + ".new"
    with open(draft, "wb") as out:
        out.writelines(_absolute(stream, os.fsencode(job.start_folder)))
        out.flush()
        os.fsync(out.fileno())
        is_empty = out.tell() == 0
    if is_empty:
        os.unlink(draft)
        raise UsageError("input @-: standard input holds no paths; pipe a list of paths into it")
    os.rename(draft, kept)


def _absolute(stream: BinaryIO, folder: bytes) -> Iterator[bytes]:
    """Every entry with its separator; a relative one starts at `folder`, not where it is kept."""
    block = stream.read(_BLOCK_BYTES)
    end = b"\0" if b"\0" in block else b"\n"
    rest = block.removeprefix(_BOM)
    while rest:
        block = stream.read(_BLOCK_BYTES)
        whole, mark, rest = (rest + block).rpartition(end)
        if not block:
            whole, rest = whole + mark + rest, b""
        for entry in whole.split(end):
            if entry.strip(b"\r") and not entry.startswith(b"/"):
                yield os.path.join(folder, entry) + end
            elif entry:
                yield entry + end
