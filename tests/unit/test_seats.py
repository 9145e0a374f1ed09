"""Who sits where: shared masks are split, bindings honoured, GPUs dealt out."""

from mpirun_infer.core.seats import assign_seats, placement_lines
from mpirun_infer.model import NodeFacts


def facts(node="n1", cores=range(8), *, bound=False, gpus=()):
    return NodeFacts(
        node=node,
        cores=tuple(cores),
        explicitly_bound=bound,
        gpus=tuple(gpus),
        python="3.12.1",
        pid=1,
    )


def cores(seats):
    return {seat.worker: seat.cores for rows in seats.values() for seat in rows}


def gpus(seats):
    return {seat.worker: seat.gpu for rows in seats.values() for seat in rows}


def test_equal_masks_are_shared_out():
    seats = assign_seats({rank: facts() for rank in (1, 2, 3)}, 1)
    assert cores(seats) == {0: (0, 1), 1: (2, 3, 4), 2: (5, 6, 7)}
    assert [seats[rank][0].threads for rank in (1, 2, 3)] == [2, 3, 3]


def test_slots_share_the_cores_of_the_whole_node():
    seats = assign_seats({1: facts(), 2: facts()}, 2)
    assert cores(seats) == {0: (0, 1), 1: (2, 3), 2: (4, 5), 3: (6, 7)}
    assert {rank: [seat.worker for seat in rows] for rank, rows in seats.items()} == {
        1: [0, 1],
        2: [2, 3],
    }


def test_one_rank_has_the_node_to_itself():
    assert cores(assign_seats({1: facts()}, 1)) == {0: tuple(range(8))}
    assert cores(assign_seats({1: facts()}, 4)) == {0: (0, 1), 1: (2, 3), 2: (4, 5), 3: (6, 7)}


def test_masks_that_differ_are_honoured():
    seats = assign_seats({1: facts(cores=(0, 1)), 2: facts(cores=(4, 5, 6))}, 1)
    assert cores(seats) == {0: (0, 1), 1: (4, 5, 6)}


def test_an_explicit_binding_is_honoured():
    bound = facts(cores=(2, 3), bound=True)
    assert cores(assign_seats({1: bound, 2: bound}, 1)) == {0: (2, 3), 1: (2, 3)}
    assert cores(assign_seats({1: bound, 2: bound}, 2)) == {0: (2,), 1: (3,), 2: (2,), 3: (3,)}


def test_more_workers_than_cores_are_not_pinned():
    seats = assign_seats({rank: facts(cores=(0, 1)) for rank in (1, 2, 3)}, 1)
    assert cores(seats) == {0: (), 1: (), 2: ()}
    assert {seat.threads for rows in seats.values() for seat in rows} == {1}


def test_each_node_is_shared_by_its_own_ranks():
    seats = assign_seats({1: facts("a"), 2: facts("b"), 3: facts("a")}, 1)
    assert cores(seats) == {0: (0, 1, 2, 3), 1: tuple(range(8)), 2: (4, 5, 6, 7)}
    assert {rank: rows[0].node for rank, rows in seats.items()} == {1: "a", 2: "b", 3: "a"}


def test_every_worker_has_a_gpu():
    one = facts(gpus=("GPU-a", "GPU-b"))
    seats = assign_seats({1: one, 2: one, 3: facts("n2", gpus=("GPU-c",))}, 1)
    assert gpus(seats) == {0: "GPU-a", 1: "GPU-b", 2: "GPU-c"}
    assert seats[1][0].gpus_on_node == 2
    assert seats[3][0].gpus_on_node == 1


def test_fewer_gpus_than_workers_are_shared_in_turn():
    seats = assign_seats({1: facts(gpus=("a", "b")), 2: facts(gpus=("a", "b"))}, 2)
    assert gpus(seats) == {0: "a", 1: "b", 2: "a", 3: "b"}


def test_no_gpu():
    assert gpus(assign_seats({1: facts()}, 2)) == {0: None, 1: None}


def test_the_map():
    seats = assign_seats({1: facts(cores=(0, 1, 2, 5), gpus=("GPU-a",))}, 1)
    assert placement_lines(seats) == ["worker 0 on n1: cores 0-2,5, 4 threads, GPU GPU-a"]
    seats = assign_seats({rank: facts(cores=(3,)) for rank in (1, 2)}, 1)
    assert placement_lines(seats) == [
        "worker 0 on n1: any core, 1 thread",
        "worker 1 on n1: any core, 1 thread",
    ]


def test_the_map_is_bounded():
    seats = assign_seats({1: facts()}, 20)
    lines = placement_lines(seats, lines_max=4)
    assert len(lines) == 5
    assert lines[-1] == "... and 16 more workers"
