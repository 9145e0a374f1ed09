"""Publishing on a file system that takes its time: the run still shows that it is alive."""

import threading
import zlib

import msgspec
import pytest
from waiting import wait_until

from mpirun_infer.core.records import Committed, Ended, Opened
from mpirun_infer.errors import HeldError
from mpirun_infer.roles.background import in_background
from mpirun_infer.store import lock, publish
from mpirun_infer.store.commit import CommitLimits, Committer
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.run_folder import RunFolder

ROW = b"0: a row\n"
HERE = lock.host_facts()
AWAY = msgspec.structs.replace(HERE, host="n2", boot_id="another")


class Slow(Disk):
    """Every call that publishing makes waits until it is let go on."""

    def __init__(self):
        self.go_on = threading.Event()
        self.waiting = False

    def _wait(self):
        self.waiting = True
        assert self.go_on.wait(20)

    def link(self, source, target):
        self._wait()
        super().link(source, target)

    def fdatasync(self, fd):
        self._wait()
        super().fdatasync(fd)

    def fsync_folder(self, path):
        self._wait()
        super().fsync_folder(path)

    def rename(self, source, target, folder_fd=None):
        self._wait()
        super().rename(source, target, folder_fd)


@pytest.fixture
def ended(tmp_path):
    """A run of one row that is complete but not published."""
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    folder.prepare()
    held = lock.acquire(folder, launch="L", facts=AWAY)
    opened = Opened(
        version=1,
        run_id="r",
        epoch=1,
        fingerprint={},
        accepted=(),
        started_at="",
        host="",
        pid=0,
        launch="L",
    )
    committer = Committer(folder, held, opened, limits=CommitLimits(group_s=0.0))
    row = Committed(
        mini_batch=0,
        try_number=1,
        worker=0,
        incarnation=1,
        items=(0, 1),
        offset=0,
        length=len(ROW),
        rows=1,
        crc=zlib.crc32(ROW),
        run_s=0.0,
    )
    last = Ended(state="complete", exit_code=0, reason="", rows_end=len(ROW))
    committer.submit([row], [ROW])
    committer.submit([last])
    committer.close()
    yield folder, held, committer.segment
    held.close()


def test_a_master_that_publishes_slowly_looks_alive_and_is_not_taken_over(ended):
    folder, held, segment = ended
    disk = Slow()
    seen = []

    def meanwhile():
        held.beat()
        if disk.waiting and not seen:
            seen.append(acquire_elsewhere())
            disk.go_on.set()

    def acquire_elsewhere():
        """Another host watches the lock for a while, in which the master beats on."""
        with pytest.raises(HeldError) as caught:
            lock.acquire(folder, launch="other", clock=clock, sleep=clock.sleep)
        return str(caught.value)

    clock = Clock(held.beat)
    in_background(lambda: publish.publish(folder, held, [segment], disk=disk), meanwhile)
    assert "run held" in seen[0]
    with open(folder.final, "rb") as file:
        assert file.read() == ROW


class Clock:
    """Sleeping moves it, and `meanwhile` happens."""

    def __init__(self, meanwhile):
        self.now = 0.0
        self._meanwhile = meanwhile

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self._meanwhile()


def test_a_master_taken_over_while_its_disk_stalled_publishes_nothing(ended):
    folder, held, segment = ended
    disk = Slow()
    done = []

    def stalled():
        try:
            publish.publish(folder, held, [segment], disk=disk)
        except Exception as error:
            done.append(error)

    thread = threading.Thread(target=stalled)
    thread.start()
    wait_until(lambda: disk.waiting)
    clock = Clock(lambda: None)  # it does not beat: its whole node stands still
    successor = lock.acquire(folder, launch="other", clock=clock, sleep=clock.sleep)
    publish.retire(folder, [1])
    disk.go_on.set()
    thread.join()
    assert "another master took over" in str(done[0])
    publish.publish(folder, successor, [segment])
    successor.close()
    with open(folder.final, "rb") as file:
        assert file.read() == ROW
