"""Rows as they came, held against the sums that the runners made.

Owns the check that nothing was mixed up between a runner and the commit.
Touches: nothing.
Never:   copies rows.
"""

import zlib
from collections.abc import Iterator, Sequence

from mpirun_infer.core.events import Buffer
from mpirun_infer.core.records import Committed, Header, Record
from mpirun_infer.errors import InferError


def _pieces(rows: Sequence[Buffer], lengths: Sequence[int]) -> Iterator[Iterator[memoryview]]:
    """The bytes of each length in turn, across the borders of the buffers.

    Each piece must be used up before the next one is asked for.
    """
    buffers = iter(rows)
    rest = memoryview(b"")

    def piece(length: int) -> Iterator[memoryview]:
        nonlocal rest
        while length:
            if not rest.nbytes:
                rest = memoryview(next(buffers)).cast("B")
            part, rest = rest[:length], rest[length:]
            length -= part.nbytes
            yield part

    for length in lengths:
        yield piece(length)


def check_sums(records: Sequence[Record], rows: Sequence[Buffer]) -> None:
    """The rows are those that the runner summed: nothing was mixed up on the way."""
    named = [r for r in records if isinstance(r, Committed | Header) and r.length]
    pieces = _pieces(rows, [record.length for record in named])
    for record, piece in zip(named, pieces, strict=True):
        crc = 0
        for part in piece:
            crc = zlib.crc32(part, crc)
        if crc != record.crc:
            what = f"mini-batch {record.mini_batch}" if isinstance(record, Committed) else "header"
            raise InferError(
                f"rows of {what} do not match the checksum made in the runner ({crc:08x} instead "
                f"of {record.crc:08x}): nothing of them was committed"
            )
