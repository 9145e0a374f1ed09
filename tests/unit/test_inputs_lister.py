"""The lister: cuts, numbers, spools, and goes on where an earlier listing stopped."""

import os
import time

import pytest

from mpirun_infer.core.events import ListingEnded
from mpirun_infer.errors import IncompleteError, ResumeError, UsageError
from mpirun_infer.inputs import lister as lister_module
from mpirun_infer.inputs import listing, manifest
from mpirun_infer.inputs.lister import Earlier, Lister

DEADLINE_S = 20


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch):
    """These tests kill processes, not machines: a sync would only take time."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    for number in range(10):
        make(folder / "x" / f"{number}")
    for number in range(5):
        make(folder / "y" / f"{number}")
    os.mkfifo(folder / "x" / "5-pipe")
    return folder


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def inputs(data):
    return [("x", f"{data}/x"), ("y", f"{data}/y")]


class File:
    """`inputs.lister.Writer`, plainly."""

    def __init__(self, path):
        self.path = path
        self.synced = 0
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115  closed by close()

    @property
    def end(self):
        return os.path.getsize(self.path)

    def append(self, data):
        self._file.write(data)

    def sync(self):
        self.synced = self.end

    def stop(self):
        pass

    def close(self):
        self._file.close()


def writes(path):
    return lambda: File(path)


def drain(made):
    """Everything, and the totals."""
    made.start()
    taken, unusable = [], []
    deadline = time.monotonic() + DEADLINE_S
    try:
        while (totals := made.finished) is None:
            taken += made.take(3)
            unusable += made.unusable()
            assert time.monotonic() < deadline
        return taken, unusable, totals
    finally:
        made.close()


def short(mini_batches):
    return [
        (m.id, m.input_index, m.first_item, b" ".join(map(os.path.basename, m.paths)).decode())
        for m in mini_batches
    ]


WHOLE = [
    (0, 0, 0, "0 1 2 3"),
    (1, 0, 4, "4 5 6 7"),
    (2, 0, 8, "8 9"),
    (3, 1, 10, "0 1 2 3"),
    (4, 1, 14, "4"),
]


def test_mini_batches_never_mix_inputs_and_items_are_numbered(data, tmp_path):
    path = tmp_path / "m1"
    made = Lister(inputs(data), 4, writes(str(path)))
    taken, unusable, totals = drain(made)
    assert short(taken) == WHOLE
    assert [(u.input_index, os.path.basename(u.path)) for u in unusable] == [(0, b"5-pipe")]
    assert ListingEnded(5, 15, 1, path.stat().st_size) == totals
    reading = manifest.read(str(path))
    assert {*taken} == {e for e in reading if not isinstance(e, listing.Unusable)}
    assert totals == reading.totals


@pytest.mark.parametrize("size", [1, 2, 15, 1000])
def test_every_item_comes_once_at_any_size(data, tmp_path, size):
    taken, _, totals = drain(Lister(inputs(data), size, writes(str(tmp_path / "m"))))
    paths = [path for m in taken for path in m.paths]
    assert (len(paths), len(set(paths))) == (15, 15)
    assert totals.items == 15
    assert all(m.items <= size for m in taken)


def test_lines_are_written_before_mini_batches_are_handed_out(data, tmp_path, monkeypatch):
    path = tmp_path / "m"
    made = Lister(inputs(data), 1, writes(str(path)))
    real = made._add

    def add(mini_batch):
        assert manifest.encode(mini_batch) in path.read_bytes()
        real(mini_batch)

    monkeypatch.setattr(made, "_add", add)
    assert len(drain(made)[0]) == 15


def test_the_queue_is_bounded(data, tmp_path, monkeypatch):
    monkeypatch.setattr(lister_module, "MINI_BATCHES_MAX", 2)
    made = Lister(inputs(data), 1, writes(str(tmp_path / "m")))
    made.start()
    deadline = time.monotonic() + DEADLINE_S
    while len(made._queue) < 2:
        assert time.monotonic() < deadline
    assert (len(made._queue), made.finished) == (2, None)
    made.close()
    assert not made._thread.is_alive()


def test_a_complete_manifest_is_used_and_nothing_is_listed(data, tmp_path, monkeypatch):
    totals = drain(Lister(inputs(data), 4, writes(str(tmp_path / "m1"))))[2]
    monkeypatch.setattr(listing, "list_chunks", None)
    made = Lister(
        inputs(data),
        4,
        writes(str(tmp_path / "m2")),
        earlier=Earlier(str(tmp_path / "m1"), totals.manifest_bytes, 5),
        skip=lambda number: number in {0, 3},
    )
    taken, unusable, again = drain(made)
    assert [WHOLE[1], WHOLE[2], WHOLE[4]] == short(taken)
    assert (1, totals, False) == (len(unusable), again, (tmp_path / "m2").exists())
    made.sync()


def test_a_complete_manifest_that_is_damaged_is_refused(data, tmp_path):
    totals = drain(Lister(inputs(data), 4, writes(str(tmp_path / "m1"))))[2]
    os.truncate(tmp_path / "m1", totals.manifest_bytes - 5)
    earlier = Earlier(str(tmp_path / "m1"), totals.manifest_bytes, 5)
    with pytest.raises(ResumeError, match="damaged"):
        drain(Lister(inputs(data), 4, writes(str(tmp_path / "m2")), earlier=earlier))


def test_an_incomplete_manifest_cut_at_any_byte_goes_on(data, tmp_path):
    drain(Lister(inputs(data), 4, writes(str(tmp_path / "m1"))))
    whole = (tmp_path / "m1").read_bytes()
    everything = {path for mini_batch in manifest.read(str(tmp_path / "m1"))
                  if not isinstance(mini_batch, listing.Unusable)
                  for path in mini_batch.paths}  # fmt: skip
    for cut in range(0, len(whole) + 1, 7):
        (tmp_path / "m1").write_bytes(whole[:cut])
        kept = list(manifest.read(str(tmp_path / "m1")))
        path = tmp_path / f"m{cut}"
        made = Lister(
            inputs(data), 4, writes(str(path)), earlier=Earlier(str(tmp_path / "m1"), None, 0)
        )
        taken, unusable, totals = drain(made)
        paths = [path for m in taken for path in m.paths]
        assert (15, everything) == (len(paths), set(paths))
        assert (len(unusable), totals.unusable) == (1, 1)
        assert [*range(len(taken))] == [m.id for m in taken]
        again = list(manifest.read(str(path)))
        assert kept == again[: len(kept)]
        assert totals == read_totals(path)


def read_totals(path):
    reading = manifest.read(str(path))
    for _ in reading:
        pass
    return reading.totals


def test_files_that_came_or_went_meanwhile_are_listed_once(data, tmp_path):
    drain(Lister(inputs(data), 4, writes(str(tmp_path / "m1"))))
    whole = (tmp_path / "m1").read_bytes()
    # Kept: "0 1 2 3", the pipe, "4 5 6 7" (the pipe's line comes first: it is written at once).
    (tmp_path / "m1").write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    (data / "x" / "2").unlink()
    make(data / "x" / "00")
    make(data / "x" / "77")
    os.mkfifo(data / "x" / "0-pipe")
    made = Lister(
        inputs(data),
        4,
        writes(str(tmp_path / "m2")),
        earlier=Earlier(str(tmp_path / "m1"), None, 2),
    )
    taken, unusable, _ = drain(made)
    assert [*WHOLE[:2], (2, 0, 8, "00 77 8 9"), (3, 1, 12, "0 1 2 3"), (4, 1, 16, "4")] == short(
        taken
    )
    assert [os.path.basename(u.path) for u in unusable] == [b"5-pipe", b"0-pipe"]


def test_a_list_that_names_a_file_twice_means_it(tmp_path):
    (tmp_path / "list").write_bytes(b"/a\n/a\n/b\n/a\n")
    given = [("list", f"@{tmp_path}/list")]
    drain(Lister(given, 1, writes(str(tmp_path / "m1"))))
    for kept in range(4):
        whole = (tmp_path / "m1").read_bytes().splitlines(keepends=True)
        (tmp_path / f"k{kept}").write_bytes(b"".join(whole[:kept]))
        for changed in (b"/a\n/a\n/b\n/a\n", b"/new\n/a\n/a\n/b\n/a\n"):
            (tmp_path / "list").write_bytes(changed)
            made = Lister(
                given,
                1,
                writes(str(tmp_path / f"m-{kept}-{len(changed)}")),
                earlier=Earlier(str(tmp_path / f"k{kept}"), None, 0),
            )
            paths = sorted(path for m in drain(made)[0] for path in m.paths)
            assert sorted(changed.split()) == paths


def test_a_manifest_that_lost_what_the_journal_speaks_of_is_refused(data, tmp_path):
    drain(Lister(inputs(data), 4, writes(str(tmp_path / "m1"))))
    os.truncate(tmp_path / "m1", 20)
    with pytest.raises(ResumeError, match="holds 0 mini-batches, the journal speaks of 2"):
        Lister(
            inputs(data),
            4,
            writes(str(tmp_path / "m2")),
            earlier=Earlier(str(tmp_path / "m1"), None, 2),
        )


def test_the_earlier_manifest_is_never_written_to(data, tmp_path):
    drain(Lister(inputs(data), 4, writes(str(tmp_path / "m1"))))
    os.truncate(tmp_path / "m1", 200)
    before = (tmp_path / "m1").read_bytes()
    drain(
        Lister(
            inputs(data),
            4,
            writes(str(tmp_path / "m2")),
            earlier=Earlier(str(tmp_path / "m1"), None, 0),
        )
    )
    assert before == (tmp_path / "m1").read_bytes()


def test_what_ended_the_listing_comes_after_what_was_listed(data, tmp_path):
    made = Lister([("x", f"{data}/x"), ("none", f"{data}/none")], 4, writes(str(tmp_path / "m")))
    made.start()
    made._thread.join(DEADLINE_S)
    assert WHOLE[:3] == short(made.take(10))
    with pytest.raises(UsageError, match='input "none"'):
        made.take(10)
    assert made.finished is None
    made.close()


def test_a_failing_file_system_is_told(data, tmp_path, monkeypatch):
    def scandir(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(IncompleteError):
        drain(Lister(inputs(data), 4, writes(str(tmp_path / "m"))))


def test_sync_may_come_at_any_time(data, tmp_path):
    made = Lister(inputs(data), 4, writes(str(tmp_path / "m")))
    made.sync()
    drain(made)
    made.sync()
