"""The simulated network keeps the promises of the real one, and breaks only what it is told to."""

import random
import sys
from pathlib import Path

import pytest

from mpirun_infer.transport.base import Backoff, Received
from mpirun_infer.transport.memory import MemoryNetwork

sys.path.insert(0, str(Path(__file__).parent.parent / "mpi"))
from transport_suite import PROGRAMS, RANKS, Mailbox


def network(size=3, latency_s=lambda: 0.01):
    return MemoryNetwork(size, latency_s)


def headers(arrivals):
    return [bytes(arrival.header) for arrival in arrivals]


@pytest.mark.parametrize("latency", ["none", "steady", "wild"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_conformance(program, latency):
    dice = random.Random(5)
    latency_s = {"none": lambda: 0.0, "steady": lambda: 0.01, "wild": lambda: dice.expovariate(9)}
    net = network(RANKS, latency_s[latency])
    waiting = [program(Mailbox(net.transport(rank))) for rank in range(RANKS)]
    while waiting:
        assert net.now < 1000, "it hangs"
        for one in list(waiting):
            try:
                next(one)
            except StopIteration:
                waiting.remove(one)
        net.now += 0.01


def test_a_message_arrives_when_its_time_has_come():
    net = network()
    net.transport(1).send(0, b"a", b"rows")
    assert net.transport(0).poll() == []
    assert net.next_arrival() == 0.01
    net.now = 0.01
    assert net.next_arrival() is None
    assert net.transport(0).poll() == [Received(1, b"a", b"rows")]
    assert net.transport(0).poll() == []


def test_later_ones_of_a_pair_do_not_overtake_but_those_of_others_do():
    delays = iter([5.0, 0.1, 0.2])
    net = network(latency_s=lambda: next(delays))
    net.transport(1).send(0, b"slow")
    net.transport(1).send(0, b"behind it")
    net.transport(2).send(0, b"of another")
    net.now = 1.0
    assert headers(net.transport(0).poll()) == [b"of another"]
    net.now = 5.0
    assert headers(net.transport(0).poll()) == [b"slow", b"behind it"]


def test_a_body_is_as_it_was_when_it_was_sent():
    net = network()
    body = bytearray(b"abc")
    net.transport(1).send(0, b"h", body)
    body[:] = b"xyz"
    net.now = 1.0
    assert bytes(net.transport(0).poll()[0].body) == b"abc"


def test_a_dead_rank_hears_and_says_nothing_more():
    net = network()
    net.transport(1).send(0, b"under way")
    net.transport(2).send(0, b"of another")
    net.transport(0).send(1, b"to the dead")
    net.kill(1)
    net.transport(1).send(0, b"after death")
    net.transport(0).send(1, b"to the dead")
    net.now = 1.0
    assert headers(net.transport(0).poll()) == [b"of another"]
    assert net.transport(1).poll() == []


def test_nothing_is_ever_unsent():
    transport = network().transport(2)
    assert (transport.rank, transport.size) == (2, 3)
    transport.send(0, b"h", b"b" * 1_000_000)
    assert transport.unsent_bytes() == 0
    assert transport.flush(0.0)
    transport.close()


def test_backoff_spins_then_sleeps_ever_longer_up_to_its_limit():
    backoff = Backoff(spins=2, max_s=0.002)
    waits = [backoff.next_s() for _ in range(12)]
    assert waits[:2] == [0.0, 0.0]
    assert waits[2:6] == pytest.approx([20e-6, 40e-6, 80e-6, 160e-6])
    assert waits[-1] == 0.002
    backoff.reset()
    assert backoff.next_s() == 0.0
    assert Backoff(spins=0, max_s=0.05).next_s() > 0
