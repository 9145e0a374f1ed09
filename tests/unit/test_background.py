"""Rank 0's work on files: the main thread stays free, and hears of the end."""

from threading import Event

import pytest

from mpirun_infer.roles import background
from mpirun_infer.roles.background import in_background


def test_the_main_thread_goes_on_until_the_work_is_done(monkeypatch):
    monkeypatch.setattr(background, "LOOK_S", 0.001)
    signs = []
    enough = Event()

    def meanwhile():
        signs.append(1)
        if len(signs) == 3:
            enough.set()

    def work():
        assert enough.wait(20), "nobody gave signs of life meanwhile"
        return "published"

    assert in_background(work, meanwhile) == "published"
    assert len(signs) >= 3


def test_what_the_work_raises_is_raised_in_the_main_thread():
    def work():
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        in_background(work, lambda: None)


def test_an_error_of_the_main_thread_is_its_own(monkeypatch):
    monkeypatch.setattr(background, "LOOK_S", 0.001)
    over = Event()

    def meanwhile():
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            in_background(lambda: over.wait(20), meanwhile)
    finally:
        over.set()
