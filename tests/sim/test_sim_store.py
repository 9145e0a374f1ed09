"""The same jobs over the real store: files, committing thread, resume, publishing.

The thread is the system's: a seed does not play exactly the same twice.
"""

import os
import time
from random import Random

import pytest
from sim_rank import NEVER
from simulator import opened, play

from mpirun_infer.core.records import Ended
from mpirun_infer.store import lock, publish
from mpirun_infer.store.commit import CommitLimits, Committer
from mpirun_infer.store.recover import HeaderPlace, replay
from mpirun_infer.store.run_folder import RunFolder

SEEDS = int(os.environ.get("MPIRUN_INFER_SIM_STORE_SEEDS", "25"))
WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch):
    """These tests kill masters, not machines: a sync would only take time."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)


class Commits:
    """The real committer; now and then it is waited for, as virtual time does not pass for it."""

    def __init__(self, committer, random):
        self._committer = committer
        self._random = random
        self._outstanding = 0

    @property
    def has_room(self):
        return self._committer.has_room

    def submit(self, records, rows=()):
        self._outstanding += len(records)
        self._committer.submit(records, rows)

    def flush(self):
        self._committer.flush()

    def poll(self):
        durable = self._committer.poll()
        if self._outstanding > len(durable) and self._random.random() < 0.3:
            self._committer.flush()
            deadline = time.monotonic() + WITHIN_S
            while len(durable) < self._outstanding:
                assert time.monotonic() < deadline
                durable += self._committer.poll()
        self._outstanding -= len(durable)
        return durable

    def next_time(self):
        return NEVER


class RealStore:
    """A run folder, used as `roles.opening` and `roles.master_main` use it."""

    def __init__(self, output):
        self.folder = RunFolder(output, "rows.txt")

    def records(self):
        found = []
        replay(self.folder, found.append)
        return found

    def replay(self, apply):
        replay(self.folder, apply)

    def begin(self, apply):
        self.folder.prepare()
        self.lock = lock.acquire(self.folder, launch="one")
        publish.retire(self.folder, range(1, self.lock.epoch))
        self._recovered = replay(self.folder, apply, takeover=True)

    def open(self, job, clock, random):  # noqa: ARG002  other stores want them
        record = opened(self.lock.epoch, self._recovered.segments)
        limits = CommitLimits(group_bytes=random.choice((1, 200, 8 << 20)), group_s=60)
        self.committer = Committer(self.folder, self.lock, record, limits=limits)
        return record, Commits(self.committer, Random(random.random()))

    def crash(self, random):  # noqa: ARG002  as above
        """What waits in the queue is lost, what the thread is writing may be there or not."""
        self.committer.close(abandon=True)
        self.lock.close()

    def end(self, scheduler):
        self.committer.close()
        segments = (*self._recovered.segments, self.committer.segment)
        header = self._recovered.header
        if header is None and scheduler.ledger.header is not None:
            header = HeaderPlace(self.lock.epoch, scheduler.ledger.header)
        verdict = scheduler.ending.verdict
        if verdict.state == "complete":
            publish.publish(self.folder, self.lock, segments, header)
        elif verdict.exit_code == 3:
            publish.keep_partial(self.folder, self.lock, segments, header)
        self.lock.close()
        assert os.path.lexists(self.folder.final) == (verdict.state == "complete")

    def final_rows(self):
        with open(self.folder.final, "rb") as file:
            return file.read()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_row_exactly_once_through_the_real_store(seed, tmp_path):
    store = RealStore(str(tmp_path / "out"))
    state, _ = play(seed, store)
    last = store.records()[-1]
    assert isinstance(last, Ended)
    assert last.state == state
