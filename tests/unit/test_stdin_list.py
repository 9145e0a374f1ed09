"""Standard input as a list: kept once, and listed as it was meant."""

import io
import os
import pty

import pytest

from mpirun_infer.config import JobConfig
from mpirun_infer.errors import UsageError
from mpirun_infer.inputs.listing import list_items
from mpirun_infer.launch import stdin_list
from mpirun_infer.launch.stdin_list import kept_list, reads_stdin, spool


@pytest.fixture
def kept(tmp_path):
    return str(tmp_path / "stdin.list")


def job(kept):
    return JobConfig.model_validate(
        {
            "entry_script": "/s.py",
            "inputs": {"a": "@" + kept, "b": "/in"},
            "output": "/out",
            "start_folder": "/start/here",
        }
    )


def listed(kept):
    return [item.path for item in list_items([("a", "@" + kept)])]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (b"/x\n/y\n", [b"/x", b"/y"]),
        (b"a\n/y\nb/c", [b"/start/here/a", b"/y", b"/start/here/b/c"]),
        (b"a\r\n\r\n/y\r\n", [b"/start/here/a", b"/y"]),
        (b"\xef\xbb\xbfa\n", [b"/start/here/a"]),
        (b"a\0/b\nb\0", [b"/start/here/a", b"/b\nb"]),
        (b"/a\0c\nd", [b"/a", b"/start/here/c\nd"]),
        (b"\n\n\xff\n", [b"/start/here/\xff"]),
    ],
)
@pytest.mark.parametrize("block", [1 << 20, 5])
def test_relative_entries_start_at_the_current_folder(kept, monkeypatch, text, paths, block):
    if block == 5 and b"\0" not in text[:5] and b"\0" in text:
        pytest.skip("what separates entries is seen in the first block")
    monkeypatch.setattr(stdin_list, "_BLOCK_BYTES", block)
    spool(job(kept), kept, io.BytesIO(text))
    assert paths == listed(kept)


def test_it_is_kept_once(kept, tmp_path):
    spool(job(kept), kept, io.BytesIO(b"/x\n/y\n"))
    spool(job(kept), kept, io.BytesIO(b"/z\n"))
    spool(job(kept), kept, None)
    assert listed(kept) == [b"/x", b"/y"]
    assert os.listdir(tmp_path) == ["stdin.list"]


def test_a_job_without_it_reads_nothing(kept, tmp_path):
    other = str(tmp_path / "other.list")
    assert reads_stdin(job(kept), kept)
    assert not reads_stdin(job(other), kept)
    spool(job(other), kept, None)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (lambda: None, "standard input is closed"),
        (lambda: os.fdopen(pty.openpty()[1], "rb"), "standard input is a terminal"),
        (lambda: io.BytesIO(b""), "standard input holds no paths"),
        (lambda: io.BytesIO(b"\n\n"), "standard input holds no paths"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_to_read_is_said_and_not_kept(kept, tmp_path, stream, message):
    with pytest.raises(UsageError, match=message):
        spool(job(kept), kept, stream())
    assert os.listdir(tmp_path) == []


def test_it_is_kept_in_the_run_folder():
    assert kept_list("/out", "rows.txt") == "/out/.mpirun_infer/stdin.list"
