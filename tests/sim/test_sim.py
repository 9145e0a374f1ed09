"""Whole jobs with seeded faults, hundreds of them; MPIRUN_INFER_SIM_SEEDS sets how many."""

import os

import pytest
from simulator import MemoryStore, play

SEEDS = int(os.environ.get("MPIRUN_INFER_SIM_SEEDS", "800"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_row_exactly_once_whatever_happens(seed):
    play(seed, MemoryStore())


def test_the_same_seed_plays_the_same():
    first, second = MemoryStore(), MemoryStore()
    assert play(4, first) == play(4, second)
    assert first.epochs == second.epochs
