"""The committer: durable in order, patient with a full disk, done with a broken one."""

import errno
import os
import threading
import zlib
from pathlib import Path

import pytest
from waiting import wait_until

from mpirun_infer.core.records import Committed, Dispatched, Ended, Header, Listed, Opened
from mpirun_infer.errors import InferError, StorageError
from mpirun_infer.store import journal, lock
from mpirun_infer.store.commit import CommitLimits, Committer
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.run_folder import RunFolder

FAST = CommitLimits(group_s=0.001, advisory_s=0.05, space_look_s=0.001)
DEADLINE_S = 20


def opened(epoch):
    return Opened(
        version=1,
        run_id="r",
        epoch=epoch,
        fingerprint={},
        accepted=(),
        started_at="",
        host="",
        pid=1,
        launch="",
    )


def committed(number, offset, rows, **changes):
    fields = {
        "mini_batch": number,
        "try_number": 1,
        "worker": 0,
        "incarnation": 1,
        "items": (number, number + 1),
        "offset": offset,
        "length": len(rows),
        "rows": 1,
        "crc": zlib.crc32(rows),
        "run_s": 0.5,
    }
    return Committed(**{**fields, **changes})


class Notes(Disk):
    """Notes what is done; `refuse` may raise instead."""

    def __init__(self, refuse=lambda _call, _number: None):
        self.calls = []
        self.refuse = refuse

    def _note(self, call):
        self.calls.append(call)
        self.refuse(call, self.calls.count(call))

    def pwritev(self, fd, buffers, offset):
        self._note("write")
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, fd):
        self._note("sync")
        super().fdatasync(fd)

    def truncate(self, fd, length):
        self._note("truncate")
        super().truncate(fd, length)


class Bench:
    def __init__(self, path, disk=None, **options):
        self.folder = RunFolder(str(path), "rows.txt")
        self.folder.prepare()
        self.lock = lock.acquire(self.folder, launch="L")
        self.notices = []
        self.committer = Committer(
            self.folder,
            self.lock,
            opened(self.lock.epoch),
            disk=disk,
            notice=lambda level, text: self.notices.append((level, text)),
            **{"limits": FAST, **options},
        )

    def until(self, count):
        """Records until so many are durable."""
        records = []

        def enough():
            records.extend(self.committer.poll())
            return len(records) >= count

        wait_until(enough, f"{count} records", DEADLINE_S, pause_s=0.0005)
        return records

    def error(self):
        def failed():
            try:
                self.committer.poll()
            except InferError as error:
                return error
            return None

        return wait_until(failed, "an error", DEADLINE_S, pause_s=0.0005)

    def rows(self):
        with open(self.folder.segment(self.lock.epoch), "rb") as file:
            return file.read()

    def journal(self):
        return [r for _, r in journal.read(self.folder.journal_segment(self.lock.epoch))]


@pytest.fixture
def bench(tmp_path):
    benches = []

    def make(disk=None, **options):
        benches.append(Bench(tmp_path / "out", disk, **options))
        return benches[-1]

    yield make
    for made in benches:
        made.committer.close(abandon=True)
        made.lock.close()


def test_rows_and_records_are_on_disk_when_told(bench):
    b = bench()
    first = committed(0, 0, b"one\n")
    second = [Dispatched(worker=0, incarnation=1, tries=((1, 1),)), committed(1, 4, b"two\n")]
    b.committer.submit([first], [b"one\n"])
    b.committer.submit(second, [memoryview(b"tw"), b"o\n"])
    assert [first, *second] == b.until(3)
    assert b.rows() == b"one\ntwo\n"
    assert [opened(1), first, *second] == b.journal()
    assert (
        b.committer.segment.epoch,
        b.committer.segment.next_seq,
        b.committer.segment.rows_end,
    ) == (1, 5, 8)


def test_files_are_private(bench):
    b = bench()
    assert os.stat(b.folder.segment(1)).st_mode & 0o777 == 0o600
    assert os.stat(b.folder.journal_segment(1)).st_mode & 0o777 == 0o600


def test_a_header_is_part_of_the_rows(bench):
    b = bench()
    header = Header(offset=0, length=4, crc=zlib.crc32(b"a,b\n"))
    record = committed(0, 4, b"1,2\n")
    b.committer.submit([header, record], [b"a,b\n", b"1,2\n"])
    assert [header, record] == b.until(2)
    assert b.rows() == b"a,b\n1,2\n"


def test_rows_are_synced_before_their_records_are_written(bench):
    disk = Notes()
    b = bench(disk, sync_manifest=lambda: disk.calls.append("manifest"))
    before = len(disk.calls)
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    b.until(1)
    assert disk.calls[before:] == ["write", "sync", "manifest", "write", "sync"]


def test_many_results_share_one_pair_of_syncs(bench):
    disk = Notes()
    b = bench(disk, limits=CommitLimits(group_s=30, advisory_s=30))
    before = disk.calls.count("sync")
    for number in range(100):
        b.committer.submit([committed(number, number, b"x")], [b"x"])
    assert b.committer.poll() == []
    b.committer.flush()
    assert len(b.until(100)) == 100
    assert disk.calls.count("sync") - before == 2


def test_a_full_group_does_not_wait(bench):
    b = bench(limits=CommitLimits(group_bytes=1000, group_s=30))
    b.committer.submit([committed(0, 0, b"x" * 1000)], [b"x" * 1000])
    assert len(b.until(1)) == 1


def test_what_is_advisory_opens_a_group_late_and_rides_with_others(bench):
    b = bench(limits=CommitLimits(group_s=0.001, advisory_s=30))
    dispatched = Dispatched(worker=0, incarnation=1, tries=((0, 1),))
    b.committer.submit([dispatched])
    assert b.committer.poll() == []
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    assert dispatched == b.until(2)[0]


def test_close_writes_what_is_queued(bench):
    b = bench(limits=CommitLimits(group_s=30))
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    b.committer.submit([Ended(state="complete", exit_code=0, reason="", rows_end=1)])
    b.committer.close()
    assert len(b.committer.poll()) == 2
    assert b.committer.poll() == []


def test_abandoning_writes_nothing_more(bench):
    b = bench(limits=CommitLimits(group_s=30))
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    b.committer.close(abandon=True)
    assert (b.committer.poll(), b.rows()) == ([], b"")


def test_process_durability_syncs_nothing(bench):
    disk = Notes()
    b = bench(disk, durability="process")
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    b.until(1)
    assert disk.calls.count("sync") == 0
    assert b"synced" not in Path(b.folder.journal_segment(1)).read_bytes()


def test_offsets_and_lengths_that_do_not_fit_are_refused(bench):
    b = bench()
    with pytest.raises(InferError, match="rows at 7, but 0 is the end"):
        b.committer.submit([committed(0, 7, b"x")], [b"x"])
    with pytest.raises(InferError, match="2 bytes of rows, but records that name 1"):
        b.committer.submit([committed(0, 0, b"x")], [b"xy"])


def test_rows_that_were_mixed_up_on_the_way_are_not_committed(bench):
    b = bench()
    b.committer.submit([committed(0, 0, b"aa"), committed(1, 2, b"bb")], [b"a", b"ab", b"x"])
    error = b.error()
    assert "rows of mini-batch 1 do not match" in str(error)
    assert [opened(1)] == b.journal()


def test_the_queue_says_when_it_is_full(bench):
    gate = threading.Event()

    def refuse(call, number):
        if call == "write" and number > 1:
            gate.wait(DEADLINE_S)

    b = bench(Notes(refuse), limits=CommitLimits(group_s=0, queue_bytes_max=100))
    assert b.committer.has_room
    b.committer.submit([committed(0, 0, b"x" * 100)], [b"x" * 100])
    assert (b.committer.has_room, b.committer.queued_bytes) == (False, 100)
    gate.set()
    b.until(1)
    assert (b.committer.has_room, b.committer.queued_bytes) == (True, 0)


def test_short_writes_are_completed(bench):
    class Short(Disk):
        def pwritev(self, fd, buffers, offset):
            return super().pwritev(fd, [bytes(buffers[0])[:3]], offset)

    b = bench(Short())
    b.committer.submit([committed(0, 0, b"hello world")], [b"hello", b" world"])
    b.until(1)
    assert b.rows() == b"hello world"
    assert len(b.journal()) == 2


def no_space(first, last):
    """The nth writes find no space, half done."""

    class Full(Notes):
        def pwritev(self, fd, buffers, offset):
            self._note("write")
            number = self.calls.count("write")
            if first <= number <= last:
                os.pwrite(fd, bytes(buffers[0])[:2], offset)
                raise OSError(errno.ENOSPC, "No space left on device")
            return Disk.pwritev(self, fd, buffers, offset)

    return Full()


@pytest.mark.parametrize("first", [2, 3])
def test_no_space_is_waited_for_and_leaves_no_trace(bench, first):
    disk = no_space(first, first + 4)
    b = bench(disk)
    b.committer.submit([committed(0, 0, b"hello")], [b"hello"])
    assert len(b.until(1)) == 1
    assert b.rows() == b"hello"
    assert len(b.journal()) == 2
    assert disk.calls.count("truncate") == 5
    assert [level for level, _ in b.notices] == ["warning", "info"]


def test_no_space_for_too_long_is_the_end(bench):
    b = bench(no_space(2, 10**9), storage_wait_s=0.01)
    b.committer.submit([committed(0, 0, b"hello")], [b"hello"])
    text = str(b.error())
    assert text.startswith("storage: no space left on /")
    assert text.endswith("wanted) after 0 s; free some, run the same command again")
    assert b.rows() == b""


@pytest.mark.parametrize("number", [2, 3])
def test_a_failed_sync_is_never_retried(bench, number):
    def refuse(call, count):
        if call == "sync" and count >= number:
            raise OSError(errno.EIO, "Input/output error")

    disk = Notes(refuse)
    b = bench(disk)
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    b.committer.submit([committed(1, 1, b"y")], [b"y"])
    assert isinstance(b.error(), StorageError)
    assert isinstance(b.error(), StorageError)
    b.committer.close()
    assert (number, "sync") == (disk.calls.count("sync"), disk.calls[-1])


def test_no_space_from_a_sync_is_never_retried(bench):
    def refuse(call, count):
        if call == "sync" and count == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    disk = Notes(refuse)
    b = bench(disk)
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    assert isinstance(b.error(), StorageError)
    assert (disk.calls.count("sync"), disk.calls.count("truncate")) == (2, 0)


def test_a_manifest_that_cannot_be_synced_is_the_end(bench):
    def sync():
        raise StorageError("storage: manifest: Input/output error")

    b = bench(sync_manifest=sync)
    b.committer.submit([Listed(mini_batches=0, items=0, unusable=0, manifest_bytes=0)])
    assert isinstance(b.error(), StorageError)
    assert [opened(1)] == b.journal()


def test_what_was_durable_is_told_before_the_error(bench):
    def refuse(call, count):
        if call == "sync" and count == 4:
            raise OSError(errno.EIO, "Input/output error")

    b = bench(Notes(refuse))
    first = committed(0, 0, b"x")
    b.committer.submit([first], [b"x"])
    b.committer.flush()
    wait_until(lambda: b.committer.segment.rows_end, "the first rows")
    b.committer.submit([committed(1, 1, b"y")], [b"y"])
    b.committer.close()
    assert [first] == b.committer.poll()
    with pytest.raises(StorageError):
        b.committer.poll()


def test_a_master_that_was_superseded_commits_nothing_more(bench):
    b = bench()
    lock.acquire(b.folder, launch="L").close()
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    assert "another master took over" in str(b.error())
    assert (b"", [opened(1)]) == (b.rows(), b.journal())


def test_files_that_are_there_already_are_not_touched(bench, tmp_path):
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    folder.prepare()
    Path(folder.segment(1)).write_text("precious")
    with pytest.raises(StorageError, match="is there already"):
        bench()
    assert Path(folder.segment(1)).read_text() == "precious"


@pytest.mark.parametrize("name", ["segment", "journal_segment"])
@pytest.mark.parametrize("deed", ["cut", "removed"])
def test_a_file_that_somebody_changes_meanwhile_is_told(bench, name, deed):
    """Writing on at the old end would leave NUL bytes where rows were."""
    b = bench()
    b.committer.submit([committed(0, 0, b"one\n")], [b"one\n"])
    b.until(1)
    path = getattr(b.folder, name)(1)
    size = os.path.getsize(path)
    if deed == "cut":
        os.truncate(path, 2)
    else:
        os.unlink(path)
    b.committer.submit([committed(1, 4, b"two\n")], [b"two\n"])
    error = b.error()
    assert isinstance(error, StorageError)
    told = f"has 2 bytes, {size:,} were written: somebody changed" if deed == "cut" else "removed"
    assert path in str(error)
    assert told in str(error)
    if deed == "cut":
        assert os.path.getsize(path) == 2


def test_a_master_whose_folder_was_moved_says_so(bench):
    b = bench()
    os.rename(b.folder.output, f"{b.folder.output}.moved")
    b.committer.submit([committed(0, 0, b"x")], [b"x"])
    assert f"{b.folder.output}: somebody moved the folder; this master stops" in str(b.error())
