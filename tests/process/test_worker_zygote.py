"""A worker rank and its zygote, when somebody kills or stops the zygote."""

import os
import signal
import time

import msgspec
import pytest

from mpirun_infer.core.messages import Release, encode
from mpirun_infer.errors import ExitCode
from mpirun_infer.roles.worker import Worker
from mpirun_infer.supervise.placement import node_facts
from mpirun_infer.supervise.spawner import Spawner, ZygoteLostError
from mpirun_infer.transport.base import Received

LAUNCHER_ALLOWS_S = 5.0


class Master:
    """The transport of a rank whose master says what it was told to say, once."""

    rank = 1
    size = 2

    def __init__(self, *messages):
        self._messages = [Received(0, memoryview(encode(one)), memoryview(b"")) for one in messages]
        self.heard = []

    def send(self, _peer, header, body=b""):
        self.heard.append((msgspec.msgpack.decode(header), body))

    def poll(self):
        messages, self._messages = self._messages, []
        return messages

    def flush(self, _timeout_s):
        return True

    def unsent_bytes(self):
        return 0


@pytest.fixture
def spawner():
    spawner = Spawner()
    yield spawner
    spawner.close()


def test_a_rank_without_a_zygote_ends_so_that_the_launcher_starts_anew(spawner):
    os.kill(spawner._process.pid, signal.SIGKILL)
    worker = Worker(Master(), spawner, node_facts(os.environ))
    with pytest.raises(ZygoteLostError, match="the zygote is gone") as caught:
        worker.run()
    assert caught.value.exit_code == ExitCode.INCOMPLETE


def test_a_rank_that_was_released_needs_no_zygote(spawner):
    os.kill(spawner._process.pid, signal.SIGKILL)
    Worker(Master(Release(at_once=False)), spawner, node_facts(os.environ)).run()


def test_a_stopped_zygote_goes_on_when_its_rank_is_released(spawner):
    os.kill(spawner._process.pid, signal.SIGSTOP)
    Worker(Master(Release(at_once=False)), spawner, node_facts(os.environ)).run()
    started = time.monotonic()
    spawner._socket.close()
    assert spawner._process.wait(LAUNCHER_ALLOWS_S) == 0
    assert time.monotonic() - started < LAUNCHER_ALLOWS_S


def test_a_stopped_zygote_holds_up_nobody():
    spawner = Spawner()
    os.kill(spawner._process.pid, signal.SIGSTOP)
    started = time.monotonic()
    spawner.close()
    assert time.monotonic() - started < LAUNCHER_ALLOWS_S
    assert spawner._process.returncode == 0


def test_nor_does_one_that_will_not_go_on(monkeypatch):
    spawner = Spawner()
    os.kill(spawner._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(spawner, "wake", lambda: None)
    started = time.monotonic()
    spawner.close()
    assert time.monotonic() - started < LAUNCHER_ALLOWS_S
    assert spawner._process.returncode == -signal.SIGKILL
