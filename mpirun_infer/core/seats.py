"""Where each worker sits: cores, threads and GPU, from what the ranks found on their nodes.

Owns the rule of placement.
Touches: nothing; `supervise.placement` finds the facts, the runner's spawner applies the seat.
Never:   overrides an explicit binding (Slurm's, or the user's).

Ranks of a node whose masks are equal share the cores evenly; masks that differ, or an explicit
binding, are honoured as they are. Worker i of a node takes entry i of the visible GPUs, round robin
when there are fewer GPUs than workers. More workers than cores: nobody is pinned, one thread each.
"""

from collections.abc import Mapping

from mpirun_infer.model import NodeFacts, Seat


def assign_seats(facts: Mapping[int, NodeFacts], slots_per_rank: int) -> dict[int, list[Seat]]:
    """Seats of every worker rank: rank -> one per slot; worker numbers follow the rank order."""
    seats: dict[int, list[Seat]] = {}
    nodes: dict[str, list[int]] = {}
    for rank in sorted(facts):
        nodes.setdefault(facts[rank].node, []).append(rank)
    for node, ranks in nodes.items():
        shared = len(ranks) > 1 and len({facts[rank].cores for rank in ranks}) == 1
        split = (shared or len(ranks) == 1) and not any(facts[r].explicitly_bound for r in ranks)
        workers_on_node = len(ranks) * slots_per_rank
        for position, rank in enumerate(ranks):
            rows = []
            for slot in range(slots_per_rank):
                index = position * slots_per_rank + slot
                own = facts[rank].cores
                if split:
                    cores = _share(own, index, workers_on_node)
                else:
                    cores = _share(own, slot, slots_per_rank)
                gpus = facts[rank].gpus
                rows.append(
                    Seat(
                        worker=(rank - 1) * slots_per_rank + slot,
                        cores=cores,
                        threads=max(1, len(cores)),
                        gpu=gpus[index % len(gpus)] if gpus else None,
                        gpus_on_node=len(gpus),
                        node=node,
                    )
                )
            seats[rank] = rows
    return seats


def _share(cores: tuple[int, ...], index: int, parts: int) -> tuple[int, ...]:
    """Part number `index` of `parts` nearly equal runs of neighbours; () when there are too few."""
    if parts > len(cores):
        return ()
    return cores[len(cores) * index // parts : len(cores) * (index + 1) // parts]


def placement_lines(seats: Mapping[int, list[Seat]], *, lines_max: int = 16) -> list[str]:
    """The map for the terminal, a line per worker."""
    rows = [seat for rank in sorted(seats) for seat in seats[rank]]
    lines = [
        f"worker {seat.worker} on {seat.node}: "
        + (f"cores {_ranges(seat.cores)}" if seat.cores else "any core")
        + f", {seat.threads} thread{'s' if seat.threads > 1 else ''}"
        + (f", GPU {seat.gpu}" if seat.gpu is not None else "")
        for seat in rows[:lines_max]
    ]
    if len(rows) > lines_max:
        lines.append(f"... and {len(rows) - lines_max} more workers")
    return lines


def _ranges(numbers: tuple[int, ...]) -> str:
    """`0-3,8` for (0, 1, 2, 3, 8)."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
