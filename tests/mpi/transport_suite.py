"""What every transport must do, as programs of three ranks; run here and by `mpiexec`.

A program is a generator: it gets a mailbox and yields whenever it waits, so that one loop can drive
one rank of a real world or all ranks of a pretended one. It takes just the messages that belong to
it: a rank that is ahead may already be sending those of the next program.
"""

import os
import random
import sys
from collections import deque

RANKS = 3
SIZES = (0, 1, 100, *range(16 * 1024 - 20, 16 * 1024 - 12), 16 * 1024 + 1, 70_000, 3_000_000)
"""Around the size at which a message no longer fits into one envelope, and far above."""


def pattern(sender, number, size):
    """Bytes that belong to this message alone."""
    return random.Random(1000 * sender + number).randbytes(size)


def head(sender, number, size=0):
    """A header; `size` makes it a long one."""
    return b"%d %d " % (sender, number) + b"h" * size


class Mailbox:
    """A transport, and what has arrived but was not asked for yet."""

    def __init__(self, transport):
        self.rank = transport.rank
        self.peers = [peer for peer in range(transport.size) if peer != self.rank]
        self.transport = transport
        self.arrived = {peer: deque() for peer in self.peers}

    def send(self, peer, header, body=b""):
        self.transport.send(peer, header, body)

    def look(self):
        for arrival in self.transport.poll():
            self.arrived[arrival.peer].append((bytes(arrival.header), bytes(arrival.body)))

    def next_of(self, peer, count):
        """The next `count` messages of a peer: (header, body)."""
        while len(self.arrived[peer]) < count:
            self.look()
            yield
        return [self.arrived[peer].popleft() for _ in range(count)]

    def sent(self):
        """Wait until nothing is under way from here."""
        while self.transport.unsent_bytes():
            self.look()
            yield


def small_ones_keep_their_order(box):
    """Rank 0 hears all; many more than there are posted receives."""
    count = 500
    if box.rank:
        for number in range(count):
            box.send(0, head(box.rank, number))
        return
    for sender in box.peers:
        found = yield from box.next_of(sender, count)
        assert found == [(head(sender, number), b"") for number in range(count)]


def all_sizes_arrive_whole_and_in_order(box):
    """Small ones wait behind large ones of the same sender, whatever the sizes."""
    sizes = random.Random(7).sample(SIZES * 3, 3 * len(SIZES))
    if box.rank:
        for number, size in enumerate(sizes):
            box.send(0, head(box.rank, number), pattern(box.rank, number, size))
        yield from box.sent()
        return
    for sender in box.peers:
        found = yield from box.next_of(sender, len(sizes))
        wanted = [(head(sender, n), pattern(sender, n, size)) for n, size in enumerate(sizes)]
        assert found == wanted


def long_headers(box):
    """A header may be longer than an envelope, with and without a body."""
    shapes = [(20_000, 0), (0, 0), (20_000, 20_000), (16 * 1024, 1), (2_000_000, 0)]
    if box.rank:
        for number, (long, size) in enumerate(shapes):
            box.send(0, head(box.rank, number, long), pattern(box.rank, number, size))
        yield from box.sent()
        return
    for sender in box.peers:
        found = yield from box.next_of(sender, len(shapes))
        assert found == [
            (head(sender, n, long), pattern(sender, n, size))
            for n, (long, size) in enumerate(shapes)
        ]


def any_buffer_is_a_body(box):
    """bytes, bytearray, memoryview and a slice of one; small and large."""
    kinds = (bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data + b"y")[1:-1])
    shapes = [(kind, size) for kind in kinds for size in (0, 9, 100_000)]
    if box.rank == 1:
        for number, (kind, size) in enumerate(shapes):
            box.send(0, head(1, number), kind(pattern(1, number, size)))
        yield from box.sent()
    elif box.rank == 0:
        found = yield from box.next_of(1, len(shapes))
        assert found == [
            (head(1, number), pattern(1, number, size)) for number, (_, size) in enumerate(shapes)
        ]


def everyone_talks_to_everyone(box):
    """All at once, in both directions, large and small."""
    count = 30
    for number in range(count):
        for peer in box.peers:
            size = SIZES[(number + peer) % len(SIZES)]
            box.send(peer, head(box.rank, number), pattern(box.rank, number, size))
        box.look()
        yield
    for peer in box.peers:
        found = yield from box.next_of(peer, count)
        sizes = [SIZES[(number + box.rank) % len(SIZES)] for number in range(count)]
        wanted = [(head(peer, n), pattern(peer, n, size)) for n, size in enumerate(sizes)]
        assert found == wanted
    yield from box.sent()


def questions_and_answers(box):
    """What was received may be answered at once; the master serves whoever asks."""
    count = 200
    if box.rank:
        for number in range(count):
            box.send(0, head(box.rank, number), pattern(box.rank, number, 50))
            found = yield from box.next_of(0, 1)
            assert found == [(head(box.rank, number), b"")]
        return
    served = dict.fromkeys(box.peers, 0)
    while min(served.values()) < count:
        box.look()
        for peer, arrived in box.arrived.items():
            while arrived and served[peer] < count:
                wanted = (head(peer, served[peer]), pattern(peer, served[peer], 50))
                assert arrived.popleft() == wanted
                box.send(peer, wanted[0])
                served[peer] += 1
        yield


def nothing_comes_of_itself(box):
    """At the end nothing is left over."""
    for _ in range(50):
        box.look()
        yield
    assert not any(box.arrived.values())
    assert box.transport.flush(5.0)
    assert box.transport.unsent_bytes() == 0


PROGRAMS = (
    small_ones_keep_their_order,
    all_sizes_arrive_whole_and_in_order,
    long_headers,
    any_buffer_is_a_body,
    everyone_talks_to_everyone,
    questions_and_answers,
    nothing_comes_of_itself,
)


def main():
    """One rank of a real world; rank 0 prints `ok` for each program that it has seen through."""
    from mpirun_infer.transport.mpi import MpiTransport

    transport = MpiTransport()
    assert transport.size == RANKS
    box = Mailbox(transport)
    for program in PROGRAMS:
        for _ in program(box):
            os.sched_yield()
        if transport.rank == 0:
            sys.stdout.write(f"ok {program.__name__}\n")
            sys.stdout.flush()
    transport.close()


if __name__ == "__main__":
    main()
