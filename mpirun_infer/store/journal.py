r"""The journal: one record a line, numbered and summed, readable with `tail` and `jq`.

Owns the bytes of a journal segment. A line is one JSON object

    {"seq":11,"synced":10,"type":"committed",...,"sum":"1a2b3c4d"}

where `sum` is the CRC-32 (hex) of all bytes before `,"sum":`, `seq` counts from 1 in each segment,
and `synced` (on the first line of each group written after a sync) says that all records up to that
number were durable by then.
Touches: reads journal files (`store.commit` writes them).
Never:   repairs a file; guesses at a record.

Where the good part ends. A crash leaves a good beginning and at worst a torn last group, in which
later blocks may have reached the disk without earlier ones. So the first bad line ends the good
part. Only if a later, valid line says that the bad one had been synced is it damage, and told.
Losing the records of a torn group is safe: the rows they would have named do not exist then.
"""

import os
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from mpirun_infer.core.printable import encodable
from mpirun_infer.core.records import Committed, Opened, Record
from mpirun_infer.errors import InferError, ResumeError

FORMAT_VERSION = 1
LINE_BYTES_MAX = 16 << 20

_SUM_MARK = b',"sum":"'
_SUM_BYTES = len(_SUM_MARK) + 8 + len(b'"}\n')
_SEQ_MARK = b'{"seq":'
_SYNCED_MARK = b'"synced":'

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(seq: int, record: Record, *, synced: int | None = None) -> bytes:
    """The line of one record, newline included."""
    if type(record) is Committed:
        record = msgspec.structs.replace(record, run_s=round(record.run_s, 6))
    try:
        body = _encoder.encode(record)
    except UnicodeEncodeError:
        # Error texts may hold what was no UTF-8 once; JSON has no room for it.
        body = _encoder.encode(_encodable(msgspec.to_builtins(record)))
    if synced is None:
        line = b'{"seq":%d,%b' % (seq, body[1:-1])
    else:
        line = b'{"seq":%d,"synced":%d,%b' % (seq, synced, body[1:-1])
    line = b'%b,"sum":"%08x"}\n' % (line, zlib.crc32(line))
    if len(line) > LINE_BYTES_MAX:
        raise InferError(f"a journal record of {len(line):,} bytes is over {LINE_BYTES_MAX:,}")
    return line


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


class Reading:
    """One pass over a segment: iterate it, then ask where it ended.

    Attributes:
        good_bytes: length of the good part read so far.
        next_seq: number the next record would have.
    """

    def __init__(self, path: str, *, stop_seq: int | None = None) -> None:
        """With `stop_seq` only the records before that number are looked at."""
        self.path = path
        self.good_bytes = 0
        self.next_seq = 1
        self._stop_seq = stop_seq

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Raises ResumeError on damage, and on what another version wrote."""
        with self._open() as file:
            readline = file.readline
            crc32 = zlib.crc32
            decode = _decoder.decode
            while self._stop_seq is None or self.next_seq < self._stop_seq:
                line = readline(LINE_BYTES_MAX)
                if not line:
                    return
                good = line[:-_SUM_BYTES]
                if line[-_SUM_BYTES:] != b',"sum":"%08x"}\n' % crc32(good) or not good.startswith(
                    b'{"seq":%d,' % self.next_seq
                ):
                    self._end(file, line)
                    return
                try:
                    record = decode(line)
                except msgspec.DecodeError as error:
                    raise self._foreign(str(error)) from error
                if type(record) is Opened and record.version != FORMAT_VERSION:
                    raise self._foreign(f"it is of format {record.version}")
                seq = self.next_seq
                self.next_seq += 1
                self.good_bytes += len(line)
                yield seq, record

    def _open(self) -> BinaryIO:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ResumeError(
                f"{self.path}: damage: is no file; restore it from a copy, or start over: --fresh"
            )
        return open(fd, "rb", buffering=1 << 20)

    def _seq(self, good: bytes) -> int:
        """The number a line carries, or -1."""
        if not good.startswith(_SEQ_MARK):
            return -1
        try:
            return int(good[len(_SEQ_MARK) : good.index(b",")])
        except ValueError:
            return -1

    def _end(self, file: BinaryIO, line: bytes) -> None:
        """A bad line: a torn tail, unless a later line knows better."""
        while line:
            good = line[:-_SUM_BYTES]
            if line[-_SUM_BYTES:] == b',"sum":"%08x"}\n' % zlib.crc32(good):
                after_seq = good[good.find(b",") + 1 :]
                if self._seq(good) >= self.next_seq and after_seq.startswith(_SYNCED_MARK):
                    synced = int(after_seq[len(_SYNCED_MARK) : after_seq.index(b",")])
                    if synced >= self.next_seq:
                        raise ResumeError(
                            f"{self.path}: damaged at byte {self.good_bytes:,}: record "
                            f"{self.next_seq:,} is not readable, but it had been written safely "
                            "(later records are there); restore the file from a copy, or start "
                            "over: --fresh"
                        )
            line = file.readline(LINE_BYTES_MAX)

    def _foreign(self, why: str) -> ResumeError:
        return ResumeError(
            f"{self.path}: record {self.next_seq:,} is unknown to this version, which reads "
            f"format {FORMAT_VERSION} ({why}); resume with the version that wrote it, or start "
            "over: --fresh"
        )


def read(path: str, *, stop_seq: int | None = None) -> Reading:
    """The records of a segment in order; see `Reading`."""
    return Reading(path, stop_seq=stop_seq)
