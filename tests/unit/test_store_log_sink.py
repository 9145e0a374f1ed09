"""The log sink: never blocks, never raises, counts what it loses."""

import os
import threading

from waiting import wait_until

from mpirun_infer.store import log_sink
from mpirun_infer.store.log_sink import LogSink


def test_appends_keep_their_order_and_make_folders(tmp_path):
    sink = LogSink()
    path = tmp_path / "a" / "b" / "log.txt"
    for number in range(1000):
        sink.append(str(path), b"%d\n" % number)
    assert sink.close()
    assert list(range(1000)) == [int(line) for line in path.read_text().split()]
    assert (sink.losses.dropped, sink.losses.failed) == (0, 0)


def test_no_file_without_a_byte(tmp_path):
    sink = LogSink()
    sink.append(str(tmp_path / "log.txt"), b"")
    sink.close()
    assert os.listdir(tmp_path) == []


def test_replace_leaves_the_newest_and_no_draft(tmp_path):
    sink = LogSink()
    for number in range(100):
        sink.replace(str(tmp_path / "deep" / "status.json"), b"%d" % number)
    sink.close()
    assert (tmp_path / "deep" / "status.json").read_bytes() == b"99"
    assert os.listdir(tmp_path / "deep") == ["status.json"]


def test_a_file_stops_at_its_limit_and_says_so(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"12345")
    sink = LogSink()
    for _ in range(3):
        sink.append(str(path), b"abcd", bytes_max=10)
    sink.close()
    text = path.read_bytes()
    assert text.startswith(b"12345abcda\n[mpirun_infer: 10 bytes reached")
    assert text.count(b"reached") == 1


def test_failures_are_counted_not_raised(tmp_path):
    (tmp_path / "file").touch()
    sink = LogSink()
    sink.append(str(tmp_path / "file" / "log.txt"), b"x")
    sink.replace(str(tmp_path / "file" / "status"), b"x")
    sink.close()
    assert sink.losses.failed == 2
    assert str(tmp_path / "file") in sink.losses.last_error


def test_a_stalled_file_system_costs_lines_not_time(tmp_path, monkeypatch):
    gate = threading.Event()
    real = log_sink._append

    def stalled(path, data):
        gate.wait(20)
        real(path, data)

    monkeypatch.setattr(log_sink, "_append", stalled)
    sink = LogSink(entries_max=10, bytes_max=1000)
    path = str(tmp_path / "log.txt")
    sink.append(path, b"first\n")
    wait_until(lambda: not sink._appends)
    for _ in range(20):
        sink.append(path, b"x\n")
    sink.append(path, b"y" * 1000)
    assert sink.losses.dropped == 11
    assert not sink.close(timeout_s=0.01)
    gate.set()
    assert sink.close()
    assert (tmp_path / "log.txt").read_bytes() == b"first\n" + b"x\n" * 10


def test_requests_in_the_control_folder_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(log_sink, "CONTROL_LOOK_S", 0.001)
    sink = LogSink(control_dir=str(tmp_path))
    assert frozenset() == sink.control_requests()
    (tmp_path / "drain").touch()
    wait_until(lambda: sink.control_requests() == {"drain"})
    sink.close()


def test_nothing_is_taken_after_close(tmp_path):
    sink = LogSink()
    sink.close()
    sink.append(str(tmp_path / "x"), b"x")
    sink.replace(str(tmp_path / "x"), b"x")
    assert sink.losses.dropped == 2


def test_folders_are_made_below_the_root(tmp_path):
    sink = LogSink(root=str(tmp_path))
    sink.append(str(tmp_path / "a" / "b" / "log.txt"), b"x")
    sink.replace(str(tmp_path / "status"), b"y")
    sink.close()
    assert (tmp_path / "a" / "b" / "log.txt").read_bytes() == b"x"
    assert (tmp_path / "status").read_bytes() == b"y"
    assert sink.losses.failed == 0


def test_a_root_that_is_gone_is_not_made_again(tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    sink = LogSink(root=str(root))
    root.rename(tmp_path / "elsewhere")
    sink.append(str(root / "logs" / "log.txt"), b"x")
    sink.append(str(root / "log.txt"), b"x")
    sink.append(str(tmp_path / "other" / "log.txt"), b"x")
    sink.replace(str(root / ".hidden" / "status"), b"x")
    sink.close()
    assert sink.losses.failed == 4
    assert os.listdir(tmp_path) == ["elsewhere"]
    assert os.listdir(tmp_path / "elsewhere") == []
