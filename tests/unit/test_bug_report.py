"""The report of a bug of our own: it is written somewhere, and never raises itself."""

import os
import tempfile

import pytest

from mpirun_infer.cli import bug_report
from mpirun_infer.cli.bug_report import set_events_file, write_bug_report

NAME = f"mpirun-infer-bug-{os.getpid()}.txt"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    here, temporary = tmp_path / "here", tmp_path / "tmp"
    for place in (here, temporary):
        place.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(bug_report, "_context", {})
    return here, temporary


def error():
    try:
        raise ValueError("caf\u00e9 \udcff")
    except ValueError as error:
        return error


def test_it_holds_what_a_repair_needs(places):
    events = places[0] / "events"
    events.write_bytes(b"old\n" * 10_000 + b"the last \xff\n")
    set_events_file(str(events))
    told = write_bug_report(error(), ["run", "--x", "a b"])
    path = places[0] / NAME
    assert told.startswith("mpirun-infer: this is a bug of mpirun-infer: ValueError: caf\u00e9")
    assert told.endswith(str(path))
    text = path.read_text()
    for part in ("msgspec ", "'a b'", "Traceback", "caf\u00e9 \\udcff", "the last \\xff"):
        assert part in text
    assert len(text) < 25_000
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_not_there_does_not_hinder_it(places):
    set_events_file(str(places[0] / "none"))
    write_bug_report(error(), [])
    assert "no events: " in (places[0] / NAME).read_text()


def test_it_goes_elsewhere_when_it_must(places, monkeypatch):
    (places[0] / NAME).touch()
    assert write_bug_report(error(), []).endswith(str(places[1] / NAME))
    assert "Traceback" in write_bug_report(error(), [])  # both names are taken: on the terminal


def test_it_goes_elsewhere_when_the_current_folder_is_gone(places):
    places[0].rmdir()
    assert write_bug_report(error(), []).endswith(str(places[1] / NAME))


def test_it_goes_to_the_terminal_when_there_is_no_folder_at_all(places, monkeypatch):
    places[0].rmdir()

    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert "Traceback" in write_bug_report(error(), [])
