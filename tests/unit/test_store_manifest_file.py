"""Our own manifest on a disk that is full, torn or broken, with the lister that fills it."""

import errno
import os
import threading
from pathlib import Path

import pytest
from waiting import wait_until

from mpirun_infer.errors import StorageError
from mpirun_infer.inputs import manifest
from mpirun_infer.inputs.lister import Earlier, Lister
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.manifest_file import ManifestFile
from mpirun_infer.store.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    folder.prepare()
    return folder


class Full(Disk):
    """Writes find no space, half done, while `full`; syncs are counted."""

    def __init__(self, *, full=True):
        self.full = full
        self.refused = 0
        self.syncs = 0

    def pwritev(self, fd, buffers, offset):
        if self.full:
            self.refused += 1
            os.pwrite(fd, bytes(buffers[0])[:2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, fd):
        self.syncs += 1
        super().fdatasync(fd)


def content(folder):
    return Path(folder.manifest(1)).read_bytes()


def test_a_file_that_is_there_is_never_opened(folder):
    Path(folder.manifest(1)).write_text("precious")
    with pytest.raises(StorageError, match="is there already"):
        ManifestFile(folder, 1)
    assert content(folder) == b"precious"


def test_no_space_is_waited_for_told_once_and_leaves_no_trace(folder):
    notices = []
    disk = Full()
    file = ManifestFile(
        folder,
        1,
        disk=disk,
        space_look_s=0.001,
        notice=lambda level, text: notices.append((level, text)),
    )
    thread = threading.Thread(target=file.append, args=(b"hello\n",))
    thread.start()
    wait_until(lambda: disk.refused >= 3)
    disk.full = False
    thread.join()
    file.close()
    assert content(folder) == b"hello\n"
    assert [level for level, _ in notices] == ["warning", "info"]
    assert notices[0][1].startswith("storage: no space left on /")
    assert notices[0][1].endswith("wanted); waiting for up to 600 s")


def test_no_space_for_too_long_is_the_end(folder):
    file = ManifestFile(folder, 1, disk=Full(), storage_wait_s=0)
    with pytest.raises(StorageError, match=r"no space left on .* after 0 s; free some"):
        file.append(b"x")
    file.close()
    assert content(folder) == b""


def test_a_wait_for_space_can_be_ended(folder):
    file = ManifestFile(folder, 1, disk=Full(), space_look_s=100)
    file.stop()
    with pytest.raises(StorageError, match="no space left"):
        file.append(b"x")
    file.close()


def test_syncs_happen_when_asked_for_and_only_when_something_is_new(folder):
    disk = Full(full=False)
    file = ManifestFile(folder, 1, disk=disk)
    file.sync()
    file.append(b"one\n")
    file.append(b"two\n")
    assert disk.syncs == 0
    file.sync()
    file.sync()
    assert disk.syncs == 1
    file.append(b"three\n")
    file.close()
    file.sync()
    assert disk.syncs == 1


def test_a_failed_sync_is_told(folder):
    class Broken(Disk):
        def fdatasync(self, _fd):
            raise OSError(errno.EIO, "Input/output error")

    file = ManifestFile(folder, 1, disk=Broken())
    file.append(b"x")
    with pytest.raises(StorageError, match="Input/output error"):
        file.sync()
    file.close()


class CrashError(Exception):
    """The process is gone."""


class Torn(Disk):
    """The nth call tears its write and ends everything."""

    def __init__(self, number):
        self.left = number

    def _step(self):
        self.left -= 1
        if self.left < 0:
            raise CrashError

    def create(self, path):
        self._step()
        return super().create(path)

    def pwritev(self, fd, buffers, offset):
        try:
            self._step()
        except CrashError:
            data = b"".join(map(bytes, buffers))
            os.pwrite(fd, data[: len(data) * 2 // 3], offset)
            raise
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, _fd):
        self._step()

    def fsync_folder(self, _path):
        self._step()


def listed(folder, data, epoch, disk):
    """Paths and ids that were handed out, by the epoch's lister; None: it crashed."""
    path = folder.manifest(epoch - 1)
    earlier = Earlier(path, None, 0) if os.path.exists(path) else None
    taken = []
    try:
        lister = Lister(
            [(name, f"{data}/{name}") for name in ("x", "y")],
            2,
            lambda: ManifestFile(folder, epoch, disk=disk),
            earlier=earlier,
        )
    except CrashError:
        return None, taken
    lister.start()
    lister._thread.join()
    ended = isinstance(lister._error.__cause__, CrashError) if lister._error else False
    taken += list(lister._queue)
    totals = None if ended else lister.finished or lister._totals
    lister.close()
    return totals, taken


def test_a_manifest_torn_at_any_step_loses_nothing_that_was_handed_out(tmp_path):
    data = tmp_path / "data"
    for name in ("x/0", "x/1", "x/2", "y/0", "y/1"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    os.mkfifo(data / "x" / "pipe")
    crashes = 0
    for number in range(100):
        folder = RunFolder(str(tmp_path / str(number)), "rows.txt")
        folder.prepare()
        totals, before = listed(folder, data, 1, Torn(number))
        if totals is None:
            crashes += 1
            totals, after = listed(folder, data, 2, Disk())
            # What was handed out keeps its number; the rest follows.
            assert before == after[: len(before)]
            reading = manifest.read(folder.manifest(2))
        else:
            after = before
            reading = manifest.read(folder.manifest(1))
        assert (totals.items, totals.unusable) == (5, 1)
        assert sorted(path for m in after for path in m.paths) == sorted(
            os.fsencode(str(data / name)) for name in ("x/0", "x/1", "x/2", "y/0", "y/1")
        )
        for _ in reading:
            pass
        assert reading.totals == totals
        if not crashes or crashes <= number:
            break
    assert crashes >= 5
