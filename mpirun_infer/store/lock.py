"""Who may write: one file per epoch in `.mpirun_infer/lock/`, and none is ever deleted.

Owns the epoch numbers. To take epoch n+1 is to create the file `n+1` exclusively; whoever does has
superseded all earlier epochs for good, whether they are dead, stopped or cut off.
Touches: the lock folder; /proc, to see whether a holder lives.
Never:   trusts a wall clock, `flock`, or that a holder that looks dead is dead: what a woken holder
         may still do harmlessly is the matter of `store.publish` and `store.recover`.

Whether the holder of the newest epoch lives:
    it wrote "released"                       no
    same launcher as ours                     no: that launcher starts one epoch after the other
    same boot, same PID namespace             its PID exists with the same start time
    elsewhere                                 its counter moves while we watch (monotonic clock)
"""

import contextlib
import os
import re
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from mpirun_infer.errors import HeldError, InferError, ResumeError, UsageError
from mpirun_infer.model import launch_pid
from mpirun_infer.store import lock_file
from mpirun_infer.store.host import HostFacts, host_facts, pid_start
from mpirun_infer.store.lock_file import LockFile
from mpirun_infer.store.own_file import NO_SPACE, no_room

OBSERVE_S = 30.0
BEAT_S = 2.0
EPOCH_MAX = 1_000_000_000
_EPOCH = re.compile(r"[1-9][0-9]*")
_LOOK_S = 0.5


class LockPlace(Protocol):
    """What a lock needs to know of a run folder."""

    output: str
    lock_dir: str


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who has the newest epoch.

    `alive` is None when it cannot be known without watching for a while.
    """

    epoch: int
    launch: str
    released: bool
    alive: bool | None


class Lock:
    """An epoch that is ours. One thread at a time may call `beat`."""

    def __init__(self, epoch: int, folder_fd: int) -> None:
        self.epoch = epoch
        self._folder_fd = folder_fd
        self._counter = 0
        self._state = lock_file.HELD

    @property
    def folder_fd(self) -> int:
        """The lock folder, open: it stays ours even when the run is moved aside."""
        return self._folder_fd

    def superseded(self) -> bool:
        """Whether a later epoch has begun, or the run folder is gone.

        The folder is opened anew each time: over NFS that is what makes new names visible.
        """
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._folder_fd)
        except OSError:
            return True
        try:
            return _exists(fd, self.epoch + 1) or not _exists(fd, self.epoch)
        except OSError:
            # What cannot be looked up must not be relied on.
            return True
        finally:
            os.close(fd)

    def why_lost(self, place: LockPlace) -> str:
        """Why this epoch may write nothing more at `place`, in words; empty: it may."""
        if not self.superseded():
            try:
                here = os.path.samestat(os.fstat(self._folder_fd), os.stat(place.lock_dir))
            except FileNotFoundError:
                here = False
            except OSError:
                here = True  # a fault of the moment; a write will tell
            return "" if here else "somebody moved the folder"
        try:
            if _exists(self._folder_fd, self.epoch + 1):
                return f"another master took over (epoch {self.epoch + 1} has begun)"
            if _exists(self._folder_fd, self.epoch):
                return f"another master may have taken over ({place.lock_dir} cannot be read)"
        except OSError as error:
            return f"another master may have taken over ({place.lock_dir}: {error.strerror})"
        return "somebody removed the folder, or files in its .mpirun_infer"

    def beat(self) -> None:
        """A sign of life for other hosts; failures are ignored: at worst we look dead."""
        self._counter += 1
        self._rewrite()

    def release(self) -> None:
        """Say that this epoch ended by decision: a successor need not watch for signs of life."""
        self._state = lock_file.RELEASED
        self._rewrite()

    def close(self) -> None:
        """Give back the descriptor; the lock file stays."""
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def _rewrite(self) -> None:
        with contextlib.suppress(OSError):
            # Opened each time: closing is what sends it to an NFS server.
            fd = os.open(str(self.epoch), os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._folder_fd)
            try:
                os.pwrite(fd, lock_file.head(self._counter, self._state), 0)
            finally:
                os.close(fd)


def _exists(folder_fd: int, epoch: int) -> bool:
    try:
        os.stat(str(epoch), dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def acquire(
    place: LockPlace,
    *,
    launch: str,
    facts: HostFacts | None = None,
    observe_s: float = OBSERVE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lock:
    """Take the next epoch; HeldError when the newest one's holder lives."""
    facts = facts or host_facts()
    try:
        folder_fd = os.open(place.lock_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_lock(place, "opened", error) from error
    try:
        while True:
            newest = _newest(place, folder_fd)
            if newest:
                _expect_free(place, folder_fd, newest, launch, facts, observe_s, clock, sleep)
            content = LockFile(
                counter="0" * lock_file.COUNTER_DIGITS,
                state=lock_file.HELD,
                epoch=newest + 1,
                launch=launch,
                facts=facts,
            )
            if lock_file.create(folder_fd, content):
                # Of two acquirers the slower one finds the winner's file in the next round.
                return Lock(content.epoch, folder_fd)
    except OSError as error:
        os.close(folder_fd)
        raise _no_lock(place, "locked", error) from error
    except BaseException:
        os.close(folder_fd)
        raise


def _no_lock(place: LockPlace, what: str, error: OSError) -> InferError:
    if error.errno in NO_SPACE:
        return no_room(place.output, error)
    return UsageError(f"{place.lock_dir}: cannot be {what}: {error.strerror}")


def _newest(place: LockPlace, folder_fd: int) -> int:
    """The highest epoch, 0 if there is none; ResumeError when no run can have come so far."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        names = [name for name in os.listdir(fd) if _EPOCH.fullmatch(name)]
    finally:
        os.close(fd)
    newest = max(map(int, names), default=0)
    if newest > EPOCH_MAX:
        raise ResumeError(
            f"{place.lock_dir}/{newest}: damage: no run has had so many launches; remove the file"
        )
    return newest


# --------------------------------------------------------------------------- who holds it


def _lives(content: LockFile, facts: HostFacts) -> bool | None:
    """None: only watching can tell."""
    if content.state == lock_file.RELEASED:
        return False
    holder = content.facts
    if not holder.boot_id or holder.boot_id != facts.boot_id:
        return None
    if holder.pid_namespace != facts.pid_namespace:
        return None
    return pid_start(holder.pid) == holder.pid_start


def _watch(
    folder_fd: int,
    epoch: int,
    observe_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> bool:
    """Whether the counter moves, the file becomes readable, or (False) nothing happens."""
    first = lock_file.read(folder_fd, epoch)
    began = clock()
    while clock() - began < observe_s:
        sleep(min(_LOOK_S, observe_s))
        now = lock_file.read(folder_fd, epoch)
        if now is None:
            continue
        if now.state == lock_file.RELEASED:
            return False
        if first is None or now.counter != first.counter:
            return True
    return False


def _expect_free(
    place: LockPlace,
    folder_fd: int,
    epoch: int,
    launch: str,
    facts: HostFacts,
    observe_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    content = lock_file.read(folder_fd, epoch)
    if content is not None and launch and content.launch == launch:
        return
    alive = None if content is None else _lives(content, facts)
    here = alive is not None
    if alive is None:
        alive = _watch(folder_fd, epoch, observe_s, clock, sleep)
        content = lock_file.read(folder_fd, epoch)
    if alive:
        raise HeldError(_held_text(place, content, here=here))


def _held_text(place: LockPlace, content: LockFile | None, *, here: bool) -> str:
    if content is None:
        return f"{place.output}: run held by another process; wait for it"
    facts = content.facts
    # Rank 0 alone would be started again: whoever launched it is meant.
    pid = launch_pid(content.launch, facts.host) or facts.pid
    seen = "alive now" if here else "alive less than 2 s ago"
    if facts.slurm_job_id:
        holder = f"job {facts.slurm_job_id} on {facts.host}"
        cure = f"cancel it: scancel {facts.slurm_job_id}"
    else:
        holder = facts.host
        cure = f"stop it: kill {pid}" + ("" if here else f" on {facts.host}")
    by = "by" if facts.slurm_job_id else "on"
    return f"{place.output}: run held {by} {holder} (pid {pid}, {seen}); wait, or {cure}"


def expect_free(place: LockPlace, *, launch: str) -> None:
    """HeldError when the newest epoch's holder is known to live; takes and watches nothing."""
    try:
        folder_fd = os.open(place.lock_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        epoch = _newest(place, folder_fd)
        content = lock_file.read(folder_fd, epoch) if epoch else None
        others = content is not None and content.launch != launch
        if content is not None and others and _lives(content, host_facts()):
            raise HeldError(_held_text(place, content, here=True))
    finally:
        os.close(folder_fd)


def peek(
    place: LockPlace,
    *,
    observe_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Holder | None:
    """Who has the newest epoch, without taking anything; None when nobody ever had one.

    `observe_s` is how long a holder on another host may be watched.
    """
    try:
        folder_fd = os.open(place.lock_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        epoch = _newest(place, folder_fd)
        content = lock_file.read(folder_fd, epoch) if epoch else None
        if content is None:
            return None
        alive = _lives(content, host_facts())
        if alive is None and observe_s > 0:
            alive = _watch(folder_fd, epoch, observe_s, clock, sleep)
    finally:
        os.close(folder_fd)
    return Holder(
        epoch=content.epoch,
        launch=content.launch,
        released=content.state == lock_file.RELEASED,
        alive=alive,
    )
