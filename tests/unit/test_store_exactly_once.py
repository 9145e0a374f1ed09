"""Crashes, zombies and damage: in the end every row stands once, or the resume refuses.

A small master drives the real store: it commits the rows of MINI_BATCHES mini-batches in groups,
says "complete" and publishes. What is tested is the store, so one launcher starts all epochs.
"""

import os
import random
import shutil
import zlib
from pathlib import Path

import pytest

from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.records import Committed, Dispatched, Ended, Header, Listed, Opened
from mpirun_infer.errors import InferError, ResumeError, StorageError
from mpirun_infer.store import lock, publish, recover
from mpirun_infer.store.commit import CommitLimits, Committer
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.run_folder import RunFolder

MINI_BATCHES = 7
HEADER = b"name,digit\n"
LIMITS = CommitLimits(group_s=60, advisory_s=60)


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch):
    """These tests kill processes, not machines: a sync would only take time."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)


class CrashError(Exception):
    """The process is gone: nothing it would have done after this happens."""


class Watched(Disk):
    """Calls `before(n)` before its nth call, and tears the write of the call at which it raises."""

    def __init__(self, before=lambda _number: None):
        self.number = 0
        self.before = before

    def _step(self):
        self.number += 1
        self.before(self.number)

    def create(self, path):
        self._step()
        return super().create(path)

    def pwritev(self, fd, buffers, offset):
        try:
            self._step()
        except CrashError:
            data = b"".join(bytes(buffer) for buffer in buffers)
            os.pwrite(fd, data[: len(data) // 2], offset)
            raise
        return super().pwritev(fd, buffers, offset)

    def copy_range(self, source, target, count, source_at, at):
        self._step()
        return super().copy_range(source, target, min(count, 5), source_at, at)

    def fdatasync(self, _fd):
        self._step()

    def fsync_folder(self, _path):
        self._step()

    def truncate(self, fd, length):
        self._step()
        super().truncate(fd, length)

    def link(self, source, target):
        self._step()
        super().link(source, target)

    def rename(self, source, target, folder_fd=None):
        self._step()
        super().rename(source, target, folder_fd)

    def unlink(self, path):
        self._step()
        super().unlink(path)


class Master:
    """One epoch; a crash leaves it as it is."""

    def __init__(self, output, disk=None, *, header=False):
        self.folder = RunFolder(str(output), "rows.txt")
        self.folder.prepare()
        self.disk = disk or Watched()
        self.header = header
        self.ledger = Ledger()
        self.lock = lock.acquire(self.folder, launch="L")
        self.committer = None

    def begin(self):
        publish.retire(self.folder, range(1, self.lock.epoch), disk=self.disk)
        self.recovered = recover.replay(self.folder, self.ledger.apply, takeover=True)
        if self.recovered.complete:
            return
        opened = Opened(
            version=1,
            run_id="r",
            epoch=self.lock.epoch,
            fingerprint={},
            accepted=self.recovered.segments,
            started_at="",
            host="",
            pid=0,
            launch="L",
        )
        self.committer = Committer(self.folder, self.lock, opened, disk=self.disk, limits=LIMITS)

    def commit(self, numbers):
        """One group."""
        records, rows = [], []
        for number in numbers:
            if self.ledger.is_final(number):
                continue
            end = self.committer._submitted_end + sum(map(len, rows))
            if self.header and self.ledger.header is None:
                record = Header(offset=end, length=len(HEADER), crc=zlib.crc32(HEADER))
                records.append(record)
                self.ledger.header = record
                rows.append(HEADER)
                end += len(HEADER)
            row = b"%d: row of epoch %d\n" % (number, self.lock.epoch)
            records += [
                Dispatched(worker=0, incarnation=1, tries=((number, 1),)),
                Committed(
                    mini_batch=number,
                    try_number=1,
                    worker=0,
                    incarnation=1,
                    items=(number, number + 1),
                    offset=end,
                    length=len(row),
                    rows=1,
                    crc=zlib.crc32(row),
                    run_s=0.0,
                ),
            ]
            rows.append(row)
        self._durable(records, rows)

    def _durable(self, records, rows=()):
        self.committer.submit(records, rows)
        self.committer.flush()
        done = 0
        while done < len(records):
            done += len(self.committer.poll())

    def end(self, state="complete"):
        rows_end = self.committer.segment.rows_end
        self._durable(
            [
                Listed(mini_batches=MINI_BATCHES, items=MINI_BATCHES, unusable=0, manifest_bytes=0),
                Ended(state=state, exit_code=0, reason="", rows_end=rows_end),
            ]
        )

    def _all(self):
        segments = self.recovered.segments
        if self.committer is not None:
            self.committer.close()
            segments = (*segments, self.committer.segment)
        # Where the header stands is what a replay says, for the live master as well.
        header = recover.replay(self.folder, lambda _record: None).header
        return segments, header

    def publish(self):
        publish.publish(self.folder, self.lock, *self._all(), disk=self.disk)

    def keep(self):
        publish.keep_partial(self.folder, self.lock, *self._all(), disk=self.disk)

    def close(self):
        if self.committer is not None:
            self.committer.close(abandon=True)
        self.lock.close()

    def work(self):
        """All that is left to do, in groups of three."""
        self.begin()
        if self.committer is not None:
            for start in range(0, MINI_BATCHES, 3):
                self.commit(range(start, min(start + 3, MINI_BATCHES)))
            self.end()
        self.publish()


def complete(output, **options):
    master = Master(output, **options)
    try:
        master.work()
    finally:
        master.close()


def numbers(text):
    return sorted(int(line.partition(b":")[0]) for line in text.splitlines())


def expect_exact(output, *, header=False):
    text = (output / "rows.txt").read_bytes()
    if header:
        assert text.startswith(HEADER)
        assert text.count(HEADER) == 1
        text = text.removeprefix(HEADER)
    assert list(range(MINI_BATCHES)) == numbers(text)
    hidden = output / ".mpirun_infer"
    assert [p.name for p in output.iterdir() if p.is_file()] == ["rows.txt"]
    assert list((hidden / "rows").iterdir()) == []


def crash_at(number):
    def before(now):
        if now >= number:
            raise CrashError

    return before


def run_until_crash(output, number, **options):
    """False when the run was through before its nth step."""
    master = Master(output, Watched(crash_at(number)), **options)
    try:
        master.work()
    except (CrashError, InferError):
        return True
    finally:
        master.close()
    return False


@pytest.mark.parametrize("header", [False, True])
def test_a_crash_at_any_step_and_a_rerun_leave_every_row_once(tmp_path, header):
    steps = 0
    for number in range(1, 200):
        output = tmp_path / str(number)
        crashed = run_until_crash(output, number, header=header)
        complete(output, header=header)
        expect_exact(output, header=header)
        if not crashed:
            break
        steps = number
    assert steps >= 30


def test_crashes_at_any_two_steps_leave_every_row_once(tmp_path):
    chance = random.Random(4)
    for number in range(1, 60):
        output = tmp_path / str(number)
        run_until_crash(output, number, header=True)
        for _ in range(3):
            run_until_crash(output, chance.randrange(1, 60), header=True)
        complete(output, header=True)
        expect_exact(output, header=True)
        shutil.rmtree(output)


def test_a_rerun_of_a_complete_run_changes_nothing(tmp_path):
    complete(tmp_path / "out")
    before = (tmp_path / "out" / "rows.txt").stat()
    complete(tmp_path / "out")
    after = (tmp_path / "out" / "rows.txt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    expect_exact(tmp_path / "out")


def test_one_segment_is_published_without_a_copy_and_readable_as_the_umask_says(tmp_path):
    disk = Watched()
    disk.copy_range = None
    old = os.umask(0o027)
    try:
        complete(tmp_path / "out", disk=disk)
    finally:
        os.umask(old)
    assert (tmp_path / "out" / "rows.txt").stat().st_mode & 0o777 == 0o640


# --------------------------------------------------------------------------- zombies


@pytest.mark.parametrize("successor", ["completes", "fails", "only begins"])
def test_a_master_stopped_at_any_step_changes_nothing_after_a_takeover(tmp_path, successor):
    """It stops before its nth step, another takes over, and then it goes on as if nothing was."""
    woken = 0
    for number in range(1, 200):
        output = tmp_path / str(number)
        masters = []

        def takeover(now, number=number, output=output, masters=masters):
            if now != number:
                return
            other = Master(output)
            masters.append(other)
            if successor == "completes":
                other.work()
            else:
                other.begin()
                if other.committer is not None and successor == "fails":
                    other.commit(range(4))
                    other.end("failed")
                    other.keep()

        zombie = Master(output, Watched(takeover))
        try:
            zombie.work()
        except (StorageError, ResumeError):
            woken += 1
        finally:
            zombie.close()
            for master in masters:
                master.close()
        if masters and successor == "completes":
            assert list(range(MINI_BATCHES)) == numbers((output / "rows.txt").read_bytes())
        if masters and successor == "fails" and masters[0].committer is not None:
            assert not (output / "rows.txt").exists()
        complete(output)
        expect_exact(output)
        if not masters:
            break
    assert woken >= 20


def test_a_zombie_whose_rename_comes_after_a_takeover_finds_nothing_to_rename(tmp_path):
    output = tmp_path / "out"
    others = []

    class Stopped(Watched):
        def rename(self, source, target, folder_fd=None):
            others.append(Master(output))
            others[0].begin()
            super().rename(source, target, folder_fd)

    zombie = Master(output, Stopped())
    with pytest.raises(StorageError, match=r"another master took over .* while epoch 1 published"):
        zombie.work()
    assert not (output / "rows.txt").exists()
    zombie.close()
    others[0].publish()
    others[0].close()
    expect_exact(output)


def test_records_and_rows_of_a_zombie_do_not_count(tmp_path):
    """Its look at the lock came just before the takeover, its write long after."""
    output = tmp_path / "out"
    zombie = Master(output)
    zombie.begin()
    zombie.commit(range(2))
    other = Master(output)
    other.begin()
    zombie.lock.superseded = lambda: False
    zombie.commit(range(2, 7))
    zombie.end()
    with pytest.raises(StorageError):
        zombie.publish()
    zombie.close()
    other.commit(range(2, 5))
    other.close()
    complete(output)
    expect_exact(output)


def test_a_run_moved_aside_is_not_published_into_its_place(tmp_path):
    output = tmp_path / "out"
    fresh = []

    class Stopped(Watched):
        def rename(self, source, target, folder_fd=None):
            zombie.lock.release()
            RunFolder(str(output), "rows.txt").move_aside()
            fresh.append(Master(output))
            fresh[0].begin()
            fresh[0].commit(range(1))
            super().rename(source, target, folder_fd)

    zombie = Master(output, Stopped())
    with pytest.raises(StorageError, match="another master took over"):
        zombie.work()
    zombie.close()
    assert (tmp_path / "out.old-1" / "rows.txt").exists()
    assert not (output / "rows.txt").exists()
    fresh[0].close()
    complete(output)
    expect_exact(output)


@pytest.mark.parametrize("deed", ["removed", "moved"])
def test_who_changed_the_folder_is_not_called_another_master(tmp_path, deed):
    output = tmp_path / "out"
    master = Master(output)
    master.begin()
    master.commit(range(7))
    master.end()
    segments, header = master._all()
    if deed == "removed":
        os.unlink(master.folder.segment(1))
        told = r"somebody removed .*rows\.txt\.partial while epoch 1 published"
    else:
        output.rename(tmp_path / "elsewhere")
        told = "somebody moved the folder while epoch 1 published"
    with pytest.raises(StorageError, match=told):
        publish.publish(master.folder, master.lock, segments, header)
    master.close()


# --------------------------------------------------------------------------- failed runs


def test_a_failed_run_in_two_epochs_keeps_all_rows_in_partial_and_can_go_on(tmp_path):
    output = tmp_path / "out"
    first = Master(output, header=True)
    first.begin()
    first.commit(range(2))
    first.close()
    second = Master(output, header=True)
    second.begin()
    second.ledger.header = second.recovered.header.header
    second.commit(range(2, 4))
    second.end("failed")
    second.keep()
    second.close()
    text = (output / "rows.txt.partial").read_bytes()
    assert numbers(text.removeprefix(HEADER)) == [0, 1, 2, 3]
    assert [p.name for p in output.iterdir() if p.is_file()] == ["rows.txt.partial"]
    third = Master(output, header=True)
    third.begin()
    assert third.recovered.last_ended.state == "failed"
    third.commit(range(7))
    third.end()
    third.publish()
    third.close()
    expect_exact(output, header=True)


def test_a_failed_run_in_one_epoch_is_already_where_it_should_be(tmp_path):
    master = Master(tmp_path / "out")
    master.begin()
    master.commit(range(2))
    master.end("failed")
    master.keep()
    master.close()
    assert numbers((tmp_path / "out" / "rows.txt.partial").read_bytes()) == [0, 1]


def test_without_rows_the_segments_vanish(tmp_path):
    master = Master(tmp_path / "out")
    master.begin()
    master.end()
    master.committer.close()
    publish.discard(master.folder, master.lock)
    master.close()
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_file()] == []
    assert recover.replay(master.folder, lambda _record: None).complete


# --------------------------------------------------------------------------- damage


def two_epochs(output):
    first = Master(output)
    first.begin()
    first.commit(range(3))
    first.close()
    second = Master(output)
    second.begin()
    second.commit(range(3, 5))
    second.commit(range(5, 6))
    second.close()


def resume_or_refuse(output):
    """True: it was resumed, and is exact; False: it was refused, and nothing was published."""
    try:
        complete(output)
    except ResumeError:
        assert not (output / "rows.txt").exists()
        return False
    expect_exact(output)
    return True


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_journal_cut_at_any_byte_is_resumed_or_refused(tmp_path, epoch):
    two_epochs(tmp_path / "whole")
    name = Path(".mpirun_infer/journal") / f"{epoch:06d}.jsonl"
    size = (tmp_path / "whole" / name).stat().st_size
    resumed = []
    for cut in range(0, size, 13):
        output = tmp_path / "out"
        shutil.copytree(tmp_path / "whole", output)
        os.truncate(output / name, cut)
        resumed.append(resume_or_refuse(output))
        shutil.rmtree(output)
    # What the last epoch had in its journal may be done again; what it built on must be there.
    assert {epoch == 2} == set(resumed)


@pytest.mark.parametrize("epoch", [1, 2])
def test_flipped_bits_in_a_journal_are_survived_or_refused(tmp_path, epoch):
    two_epochs(tmp_path / "whole")
    name = Path(".mpirun_infer/journal") / f"{epoch:06d}.jsonl"
    data = (tmp_path / "whole" / name).read_bytes()
    chance = random.Random(epoch)
    for _ in range(150):
        output = tmp_path / "out"
        shutil.copytree(tmp_path / "whole", output)
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (output / name).write_bytes(flipped)
        resume_or_refuse(output)
        shutil.rmtree(output)


def test_rows_that_are_shorter_than_committed_are_refused(tmp_path):
    for epoch, name in ((1, ".mpirun_infer/rows/1"), (2, "rows.txt.partial.2")):
        output = tmp_path / str(epoch)
        two_epochs(output)
        os.truncate(output / name, (output / name).stat().st_size - 1)
        master = Master(output)
        with pytest.raises(ResumeError, match=r"bytes of rows were committed"):
            master.work()
        master.close()


def test_rows_that_are_gone_are_refused(tmp_path):
    two_epochs(tmp_path / "out")
    (tmp_path / "out" / "rows.txt.partial.2").unlink()
    master = Master(tmp_path / "out")
    with pytest.raises(ResumeError, match=r"partial\.2: is missing, \d+ bytes of committed rows"):
        master.work()
    master.close()


def test_rows_that_grew_are_cut_to_what_was_committed(tmp_path):
    two_epochs(tmp_path / "out")
    for name in (".mpirun_infer/rows/1", "rows.txt.partial.2"):
        with open(tmp_path / "out" / name, "ab") as file:
            file.write(b"0: a row that nobody committed\n")
    complete(tmp_path / "out")
    expect_exact(tmp_path / "out")


def test_changed_rows_of_the_last_epoch_are_refused(tmp_path):
    two_epochs(tmp_path / "out")
    path = tmp_path / "out" / "rows.txt.partial.2"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    master = Master(tmp_path / "out")
    with pytest.raises(ResumeError, match=r"the rows of mini-batch 3 \(bytes 0 to 18\)"):
        master.work()
    master.close()


def test_a_final_file_that_nobody_published_is_refused(tmp_path):
    two_epochs(tmp_path / "out")
    (tmp_path / "out" / "rows.txt").write_text("mine\n")
    master = Master(tmp_path / "out")
    with pytest.raises(ResumeError, match="the journal does not say that the run is complete"):
        master.work()
    master.close()
    assert (tmp_path / "out" / "rows.txt").read_text() == "mine\n"


def test_a_final_file_that_was_changed_is_told(tmp_path):
    complete(tmp_path / "out")
    with open(tmp_path / "out" / "rows.txt", "ab") as file:
        file.write(b"more\n")
    with pytest.raises(ResumeError, match="it was changed since the run was complete"):
        recover.replay(RunFolder(str(tmp_path / "out"), "rows.txt"), lambda _record: None)


def test_a_header_that_came_late_stands_at_the_top(tmp_path):
    output = tmp_path / "out"
    first = Master(output)
    first.begin()
    first.commit(range(2))
    first.header = True
    first.commit(range(2, 4))
    first.close()
    complete(output)
    expect_exact(output, header=True)


def test_replay_says_what_the_next_epoch_builds_on(tmp_path):
    two_epochs(tmp_path / "out")
    ledger = Ledger()
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    recovered = recover.replay(folder, ledger.apply)
    assert [(s.epoch, s.next_seq, s.rows_end) for s in recovered.segments] == [
        (1, 8, 54),
        (2, 8, 54),
    ]
    assert (
        recovered.mini_batches_known,
        ledger.counts.mini_batches_done,
        recovered.last_ended,
        recovered.run_id,
    ) == (6, 6, None, "r")
