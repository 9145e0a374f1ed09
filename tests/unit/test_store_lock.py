"""The lock: one holder an epoch, takeover of the dead only, and a loser that knows it."""

import errno
import os
import shutil
import threading

import msgspec
import pytest

from mpirun_infer.errors import HeldError, ResumeError, StorageError
from mpirun_infer.store import lock, lock_file, publish
from mpirun_infer.store.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    folder.prepare()
    return folder


HERE = lock.host_facts()
DEAD = msgspec.structs.replace(HERE, pid_start=HERE.pid_start + 1)
AWAY = msgspec.structs.replace(HERE, host="n2", boot_id="another", slurm_job_id="4711", pid=812)


class Clock:
    """Sleeping moves it; `on_sleep` happens meanwhile."""

    def __init__(self, on_sleep=lambda: None):
        self.now = 0.0
        self.on_sleep = on_sleep

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


def acquire(folder, facts=HERE, *, launch="", clock=None):
    clock = clock or Clock()
    return lock.acquire(folder, launch=launch, facts=facts, clock=clock, sleep=clock.sleep)


def test_the_first_epoch_is_1(folder):
    held = acquire(folder)
    assert (held.epoch, held.superseded()) == (1, False)


def test_a_live_holder_on_this_host_is_named(folder):
    acquire(folder, msgspec.structs.replace(HERE, slurm_job_id="4711"))
    with pytest.raises(HeldError) as caught:
        acquire(folder)
    assert (
        f"{folder.output}: run held by job 4711 on {HERE.host} (pid {os.getpid()}, alive now); "
        "wait, or cancel it: scancel 4711"
    ) == str(caught.value)


def test_a_dead_holder_is_taken_over_and_knows_it(folder):
    old = acquire(folder, DEAD)
    new = acquire(folder)
    assert (new.epoch, old.superseded(), new.superseded()) == (2, True, False)


def test_a_released_lock_is_free_at_once(folder):
    acquire(folder, AWAY).release()
    clock = Clock()
    assert (acquire(folder, clock=clock).epoch, clock.now) == (2, 0.0)


def test_the_same_launcher_need_not_wait(folder):
    acquire(folder, HERE, launch="L")
    assert acquire(folder, HERE, launch="L").epoch == 2


def test_a_holder_elsewhere_is_dead_when_its_counter_stands_still(folder):
    acquire(folder, AWAY)
    clock = Clock()
    assert acquire(folder, clock=clock).epoch == 2
    assert clock.now >= lock.OBSERVE_S


def test_a_holder_elsewhere_lives_while_its_counter_moves(folder):
    away = acquire(folder, AWAY)
    with pytest.raises(HeldError, match=r"run held by job 4711 on n2 \(pid 812, alive less than"):
        acquire(folder, clock=Clock(away.beat))


def test_another_pid_namespace_is_elsewhere(folder):
    acquire(folder, msgspec.structs.replace(DEAD, pid_namespace="pid:[1]"))
    clock = Clock()
    acquire(folder, clock=clock)
    assert clock.now >= lock.OBSERVE_S


def test_an_unreadable_lock_file_is_watched_first(folder):
    (open(os.path.join(folder.lock_dir, "1"), "w")).close()
    clock = Clock()
    assert acquire(folder, clock=clock).epoch == 2
    assert clock.now >= lock.OBSERVE_S


def test_of_many_at_once_one_wins(folder):
    acquire(folder, DEAD)
    won, lost = [], []
    barrier = threading.Barrier(8)

    def race():
        barrier.wait()
        try:
            won.append(acquire(folder))
        except HeldError:
            lost.append(1)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert won[0].epoch == 2
    assert sorted(os.listdir(folder.lock_dir)) == ["1", "2"]


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_the_file_is_made_exclusively(folder, monkeypatch, reason):
    def link(*args, **kwargs):
        raise OSError(reason, "no links here")

    monkeypatch.setattr(os, "link", link)
    acquire(folder, DEAD)
    assert acquire(folder).epoch == 2
    with pytest.raises(HeldError):
        acquire(folder)
    assert sorted(os.listdir(folder.lock_dir)) == ["1", "2"]


def test_a_link_that_failed_but_was_made_counts(folder, monkeypatch):
    real = os.link

    def link(*args, **kwargs):
        real(*args, **kwargs)
        raise FileExistsError(errno.EEXIST, "the answer was lost, the request repeated")

    monkeypatch.setattr(os, "link", link)
    assert acquire(folder).epoch == 1


def test_a_run_folder_that_is_gone_supersedes(folder):
    held = acquire(folder)
    os.unlink(os.path.join(folder.lock_dir, "1"))
    assert held.superseded()


def test_moving_aside_supersedes_whoever_wakes_up_later(folder):
    old = acquire(folder, DEAD)
    moved = folder.move_aside()
    assert (f"{folder.output}.old-1", False) == (moved, os.path.exists(folder.output))
    folder.prepare()
    new = acquire(folder)
    assert (new.epoch, old.superseded(), new.superseded()) == (1, True, False)


def test_moving_aside_is_refused_while_held(folder):
    acquire(folder)
    with pytest.raises(HeldError):
        folder.move_aside()
    assert os.path.exists(folder.output)


def test_peek_takes_nothing(folder):
    assert lock.peek(folder) is None
    held = acquire(folder)
    holder = lock.peek(folder)
    assert (holder.epoch, holder.launch, holder.alive, holder.released) == (1, "", True, False)
    held.release()
    assert (lock.peek(folder).alive, lock.peek(folder).released) == (False, True)
    acquire(folder, AWAY)
    assert lock.peek(folder).alive is None
    clock = Clock()
    assert lock.peek(folder, observe_s=30, clock=clock, sleep=clock.sleep).alive is False


@pytest.mark.parametrize("name", ["1000000001", "1" + 20 * "0"])
def test_a_number_that_no_run_can_reach_is_damage(folder, name):
    open(os.path.join(folder.lock_dir, name), "w").close()
    for deed in (
        lambda: acquire(folder),
        lambda: lock.peek(folder),
        lambda: lock.expect_free(folder, launch=""),
    ):
        with pytest.raises(ResumeError, match=f"/{name}: damage: .*remove the file"):
            deed()


@pytest.mark.parametrize("name", ["007", "\u0663", "0"])
def test_what_is_no_number_of_an_epoch_is_nobodys(folder, name):
    open(os.path.join(folder.lock_dir, name), "w").close()
    clock = Clock()
    assert (acquire(folder, clock=clock).epoch, clock.now) == (1, 0.0)


def test_a_lock_file_that_is_a_fifo_does_not_hold_us(folder):
    os.mkfifo(os.path.join(folder.lock_dir, "1"))
    assert acquire(folder).epoch == 2


def test_a_gap_of_many_epochs_costs_nothing(folder):
    """Only epochs that left files are retired."""
    open(os.path.join(folder.lock_dir, "1000000000"), "w").close()
    for epoch in (1, 3):
        open(folder.segment(epoch), "w").close()
    open(folder.assembled(3), "w").close()
    publish.retire(folder, range(1, 1_000_000_001))
    assert sorted(os.listdir(folder.rows_dir)) == ["1", "3"]


def test_a_full_disk_is_a_storage_error(folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock_file, "create", full)
    with pytest.raises(StorageError, match="no space left"):
        acquire(folder)


def take_over(folder):
    acquire(folder, launch="L")


def move(folder):
    os.rename(folder.output, f"{folder.output}.moved")


def remove(folder):
    shutil.rmtree(folder.output)


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (lambda _: None, ""),
        (take_over, "another master took over (epoch 2 has begun)"),
        (move, "somebody moved the folder"),
        (remove, "somebody removed the folder, or files in its .mpirun_infer"),
    ],
)
def test_why_an_epoch_may_write_no_more(folder, deed, words):
    held = acquire(folder, launch="L")
    deed(folder)
    assert held.why_lost(folder) == words
