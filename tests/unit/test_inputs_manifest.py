"""The manifest: what is written is read, what is torn is left out."""

import pytest

from mpirun_infer.core.events import ListingEnded
from mpirun_infer.errors import ResumeError
from mpirun_infer.inputs import manifest
from mpirun_infer.inputs.listing import Unusable
from mpirun_infer.model import MiniBatch

ENTRIES = (
    MiniBatch(id=0, input_index=0, first_item=0, paths=(b"/a", b"/with blank", b"/new\nline")),
    Unusable(0, b"/p\xffipe%", "not a regular file: a named pipe"),
    MiniBatch(id=1, input_index=1, first_item=3, paths=(b"/\xff\xfe\x01", b"/-x")),
)


def lines():
    return [*map(manifest.encode, ENTRIES), manifest.encode_end(2, 5, 1)]


def read(path):
    reading = manifest.read(str(path))
    return list(reading), reading


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"".join(lines()))
    entries, reading = read(path)
    assert list(ENTRIES) == entries
    assert ListingEnded(2, 5, 1, path.stat().st_size) == reading.totals
    assert path.stat().st_size == reading.good_bytes


def test_every_byte_of_a_path_survives(tmp_path):
    paths = tuple(b"/" + bytes([byte]) for byte in range(1, 256) if byte != 47)
    entry = MiniBatch(id=0, input_index=0, first_item=0, paths=paths)
    line = manifest.encode(entry)
    assert line.isascii()
    assert line.count(b"\n") == 1
    (tmp_path / "m").write_bytes(line)
    assert [entry] == read(tmp_path / "m")[0]


def test_a_cut_at_every_byte_leaves_whole_lines(tmp_path):
    data = b"".join(lines())
    ends = [sum(map(len, lines()[:count])) for count in range(5)]
    for cut in range(len(data)):
        (tmp_path / "m").write_bytes(data[:cut])
        entries, reading = read(tmp_path / "m")
        whole = sum(end <= cut for end in ends) - 1
        assert (list(ENTRIES[:whole]), ends[whole], None) == (
            entries,
            reading.good_bytes,
            reading.totals,
        )


def test_flipped_bits_end_the_good_part(tmp_path):
    data = b"".join(lines())
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 4
        (tmp_path / "m").write_bytes(flipped)
        entries, reading = read(tmp_path / "m")
        assert list(ENTRIES[: len(entries)]) == entries
        assert reading.totals is None


def test_lines_that_do_not_follow_end_the_good_part(tmp_path):
    (tmp_path / "m").write_bytes(lines()[2])
    assert read(tmp_path / "m")[0] == []


def test_a_complete_manifest_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "m"
    data = b"".join(lines())
    path.write_bytes(data)
    assert len(list(manifest.read_complete(str(path), len(data)))) == 3
    for broken in (data[:-1], data[:50] + b"x" + data[51:], b""):
        path.write_bytes(broken)
        with pytest.raises(ResumeError, match="damaged at byte"):
            list(manifest.read_complete(str(path), len(data)))
    path.unlink()
    with pytest.raises(ResumeError, match="damaged at byte 0"):
        list(manifest.read_complete(str(path), len(data)))
