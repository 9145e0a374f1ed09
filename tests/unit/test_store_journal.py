"""The journal: what is written is read; what is torn ends it; what is damaged is told."""

import json
import os
import zlib

import pytest

from mpirun_infer.core.records import (
    Committed,
    Dispatched,
    Ended,
    Failed,
    Header,
    Listed,
    Opened,
    Segment,
    TryFailed,
)
from mpirun_infer.errors import ResumeError
from mpirun_infer.model import FailureKind
from mpirun_infer.store import journal

OPENED = Opened(
    version=1,
    run_id="r",
    epoch=2,
    fingerprint={"script": "ab"},
    accepted=(Segment(1, 5, 100),),
    started_at="2026-11-22T14:00:00Z",
    host="n1",
    pid=7,
    launch="x",
)
COMMITTED = Committed(
    mini_batch=123456,
    try_number=1,
    worker=123,
    incarnation=1,
    items=(1234560, 1234570),
    offset=123456789,
    length=1234,
    rows=10,
    crc=4294967295,
    run_s=0.01234567,
)
RECORDS = (
    OPENED,
    Listed(mini_batches=3, items=30, unusable=0, manifest_bytes=99),
    Dispatched(worker=0, incarnation=1, tries=((0, 1), (1, 1))),
    Header(offset=0, length=5, crc=1),
    COMMITTED,
    TryFailed(mini_batch=1, try_number=1, worker=0, incarnation=1, kind=FailureKind.RUN_TIMEOUT),
    Failed(
        mini_batch=1,
        try_number=2,
        worker=0,
        incarnation=1,
        items=(10, 20),
        kind=FailureKind.PROCESS_EXIT,
        error="SIGSEGV",
    ),
    Ended(state="complete", exit_code=0, reason="", rows_end=5),
)


def lines(records=RECORDS, *, group=3):
    return [
        journal.encode(seq, record, synced=seq - 1 if seq > 1 and (seq - 1) % group == 0 else None)
        for seq, record in enumerate(records, 1)
    ]


def read(path):
    reading = journal.read(str(path))
    return [record for _, record in reading], reading


def is_torn(reading):
    """Something follows the good part."""
    return reading.good_bytes < os.path.getsize(reading.path)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(b"".join(lines()))
    records, reading = read(path)
    expected = [*RECORDS]
    expected[4] = read_back(COMMITTED, run_s=0.012346)
    assert expected == records
    assert (len(RECORDS) + 1, path.stat().st_size, False) == (
        reading.next_seq,
        reading.good_bytes,
        is_torn(reading),
    )


def read_back(record, **changes):
    import msgspec

    return msgspec.structs.replace(record, **changes)


def test_a_line_is_json_with_number_type_and_sum_and_short():
    line = journal.encode(123456, COMMITTED)
    fields = json.loads(line)
    assert (
        fields["type"],
        fields["seq"],
        fields["try"],
        fields["run_s"],
    ) == ("committed", 123456, 1, 0.012346)
    summed = line[: line.index(b',"sum"')]
    assert f"{zlib.crc32(summed):08x}" == fields["sum"]
    assert len(line) <= 205


def test_text_that_is_no_utf8_is_escaped():
    record = read_back(RECORDS[6], error="no such file: \udcff\n")
    fields = json.loads(journal.encode(1, record))
    assert (fields["type"], fields["error"]) == ("failed", "no such file: \\udcff\n")


def test_a_cut_at_every_byte_leaves_the_whole_lines_before_it(tmp_path):
    data = b"".join(lines())
    ends = [0]
    for line in lines():
        ends.append(ends[-1] + len(line))
    path = tmp_path / "j"
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        records, reading = read(path)
        whole = sum(end <= cut for end in ends) - 1
        assert (whole, ends[whole], cut > ends[whole]) == (
            len(records),
            reading.good_bytes,
            is_torn(reading),
        )


def test_every_flipped_bit_ends_the_good_part_or_is_told(tmp_path):
    data = b"".join(lines())
    whole, _ = read_bytes(tmp_path, data)
    told = torn = 0
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            try:
                records, reading = read_bytes(tmp_path, flipped)
            except ResumeError:
                told += 1
            else:
                torn += 1
                assert is_torn(reading)
                assert whole[: len(records)] == records
                assert len(records) < len(whole)
    # Groups are 3, 3 and 2 records: the last one may be torn, the others were synced. A newline
    # that is gone takes the first line of the last group, and its mark, with it.
    last_group = sum(map(len, lines()[6:])) + 1
    assert (8 * (len(data) - last_group), 8 * last_group) == (told, torn)


def read_bytes(tmp_path, data):
    path = tmp_path / "j"
    path.write_bytes(bytes(data))
    return read(path)


def test_a_group_torn_in_its_middle_is_no_damage(tmp_path):
    parts = lines()
    # Records 4 to 6 were one unsynced write whose first block never reached the disk.
    torn = b"".join(parts[:3]) + bytes(len(parts[3])) + parts[4] + parts[5]
    records, reading = read_bytes(tmp_path, torn)
    assert (len(records), is_torn(reading)) == (3, True)


def test_damage_names_the_file_and_the_byte(tmp_path):
    parts = lines()
    with pytest.raises(ResumeError, match=rf"j: damaged at byte {len(parts[0])}: record 2 "):
        read_bytes(tmp_path, b"".join([parts[0], b"x" * len(parts[1]), *parts[2:]]))


def test_a_missing_line_ends_the_good_part(tmp_path):
    parts = lines(group=100)
    records, reading = read_bytes(tmp_path, b"".join(parts[:2] + parts[3:]))
    assert (len(records), is_torn(reading)) == (2, True)


def sealed(text):
    return text + b',"sum":"%08x"}\n' % zlib.crc32(text)


@pytest.mark.parametrize(
    "line", [b'{"seq":2,"type":"teleported"', b'{"seq":2,"type":"committed","mini_batch":1']
)
def test_a_record_of_a_later_version_is_refused(tmp_path, line):
    with pytest.raises(ResumeError, match=r"record 2 is unknown to this version"):
        read_bytes(tmp_path, lines()[0] + sealed(line))


def test_a_journal_of_a_later_version_is_refused(tmp_path):
    with pytest.raises(ResumeError, match=r"it is of format 2"):
        read_bytes(tmp_path, journal.encode(1, read_back(OPENED, version=2)))


def test_garbage_and_nothing_hold_no_records(tmp_path):
    for data in (b"", b"\0" * 5000, b"\n\n\n", b"{}\n", bytes(range(256)) * 20):
        records, _ = read_bytes(tmp_path, data)
        assert records == []


def test_reading_stops_at_the_accepted_end(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(b"".join(lines()[:4]) + b"zombie\n")
    reading = journal.read(str(path), stop_seq=5)
    assert (len(list(reading)), reading.next_seq) == (4, 5)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_damage_and_does_not_hold_us(tmp_path, make):
    path = tmp_path / "000001.jsonl"
    make(path)
    with pytest.raises(ResumeError, match=r"000001\.jsonl: damage: is no file; restore"):
        list(journal.read(str(path)))
