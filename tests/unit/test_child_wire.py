"""Frames cut in any way come out whole; what is no frame is refused; the page tells no lies."""

import json
import mmap
import os
import threading

import pytest

from mpirun_infer.child import wire

FRAMES = [
    ({"type": "hello", "python": "3.8.18"}, b""),
    ({"type": "run", "tries": [[0, 1, 0, 2]]}, b"/a\0/b\xff"),
    ({}, b"x" * 100_000),
    ({"text": "caf\u00e9 \udce9", "n": 1.5}, b"MIF1"),
]


def popped(reader):
    return [(header, bytes(body)) for header, body in iter(reader.pop, None)]


@pytest.mark.parametrize("piece", [1, 2, 3, 15, 16, 17, 1000, 1 << 20])
def test_frames_come_out_whole_however_they_are_cut(piece):
    data = b"".join(wire.encode(*frame) for frame in FRAMES)
    reader = wire.FrameReader(1 << 20)
    found = []
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
        found += popped(reader)
    assert found == FRAMES


def test_nothing_of_what_is_fed_is_kept():
    buffer = bytearray(wire.encode({"n": 1}, b"abc") + wire.encode({"n": 2}, b"defg")[:-1])
    reader = wire.FrameReader(100)
    reader.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    reader.feed(b"g")
    assert popped(reader) == [({"n": 1}, b"abc"), ({"n": 2}, b"defg")]


def test_a_frame_without_bytes_to_come_is_not_waited_for():
    reader = wire.FrameReader(0)
    reader.feed(wire.encode({}))
    assert reader.pop() == ({}, b"")
    assert reader.pop() is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"MIF2" + bytes(12), "begins with b'MIF2'"),
        (wire.HEAD.pack(wire.MAGIC, wire.HEADER_BYTES_MAX + 1, 0), "header of 67108865 bytes"),
        (wire.HEAD.pack(wire.MAGIC, 2, 101) + b"{}", "body of 101 bytes"),
        (wire.HEAD.pack(wire.MAGIC, 2, 1 << 63) + b"{}", "body of 9223372036854775808 bytes"),
        (wire.HEAD.pack(wire.MAGIC, 2, 0) + b"[]", "no JSON object"),
        (wire.HEAD.pack(wire.MAGIC, 1, 0) + b"{", "not JSON"),
        (wire.HEAD.pack(wire.MAGIC, 1, 0) + b"\xff", "not JSON"),
        (wire.HEAD.pack(wire.MAGIC, 200_000, 0) + b"[" * 200_000, "not JSON"),
    ],
)
@pytest.mark.parametrize("piece", [5, 1 << 20])
def test_what_is_no_frame_is_refused_after_the_good_ones(data, text, piece):
    data = wire.encode({"good": 1}) + data
    reader = wire.FrameReader(100)
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    assert reader.pop() == ({"good": 1}, b"")
    for _ in range(2):
        with pytest.raises(wire.WireError, match=text.replace("'", ".")):
            reader.pop()
    reader.feed(wire.encode({}))
    with pytest.raises(wire.WireError):
        reader.pop()


@pytest.mark.parametrize("size", [0, 10, wire._JOIN_BELOW_BYTES, 1 << 20])
def test_send_writes_the_same_bytes_as_encode_whatever_is_taken_at_once(size):
    body = os.urandom(size)
    written = bytearray()

    def writev(fd, parts):
        taken = b"".join(parts)[:7000]
        written.extend(taken)
        return len(taken)

    wire.send(9, {"type": "result"}, body, _writev=writev)
    assert bytes(written) == wire.encode({"type": "result"}, body)


def test_headers_are_ascii():
    data = wire.encode({"text": "\u00e9\udce9"})
    assert json.loads(data[16:].decode("ascii")) == {"text": "\u00e9\udce9"}


def test_the_page_keeps_what_was_written_last():
    page = mmap.mmap(-1, 4096)
    assert wire.read_page(page) == (0, 0, wire.IDLE, 0)
    wire.write_page(page, 7, 2, wire.RUN, lambda: 99)
    assert wire.read_page(page) == (7, 2, wire.RUN, 99)
    wire.write_page(page, wire.NO_MINI_BATCH, 0, wire.IDLE, lambda: 100)
    assert wire.read_page(page) == (-1, 0, wire.IDLE, 100)
    assert wire.PHASE_NAMES == ("idle", "import", "init", "load", "run", "format", "shutdown")


def test_a_page_whose_writer_died_is_torn_until_the_next_write():
    page = mmap.mmap(-1, 4096)
    wire.write_page(page, 7, 2, wire.RUN)

    def dies():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wire.write_page(page, 8, 1, wire.RUN, dies)
    assert wire.read_page(page) is None
    wire.write_page(page, 9, 1, wire.LOAD, lambda: 5)
    assert wire.read_page(page) == (9, 1, wire.LOAD, 5)


def test_a_reader_never_sees_two_writes_mixed():
    page = mmap.mmap(-1, 4096)
    wire.write_page(page, 1, 1, 1, lambda: 1)
    ended = threading.Event()

    def write():
        for number in range(1, 20_000):
            wire.write_page(page, number, number, number, lambda number=number: number)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    mixed = []
    while not ended.is_set():
        seen = wire.read_page(page)
        if seen is not None and len(set(seen)) != 1:
            mixed.append(seen)
    writer.join()
    assert mixed == []
