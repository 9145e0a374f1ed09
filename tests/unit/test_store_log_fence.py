"""What a master that was taken over must not write any more."""

from waiting import wait_until

from mpirun_infer.store.log_sink import LogSink


def test_nothing_is_written_once_another_master_rules(tmp_path):
    superseded = []
    sink = LogSink(root=str(tmp_path), fence=lambda: bool(superseded))
    status = tmp_path / "status.json"
    sink.replace(str(status), b"mine")
    wait_until(status.exists, "the first status")
    status.write_bytes(b"the successor's")
    superseded.append(True)
    sink.replace(str(status), b"mine again")
    sink.append(str(tmp_path / "events"), b"line\n")
    assert sink.close()
    assert status.read_bytes() == b"the successor's"
    assert not (tmp_path / "events").exists()
