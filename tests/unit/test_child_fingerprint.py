"""What changes the hash of an entry script, and what does not."""

import os

import pytest

from mpirun_infer.child import fingerprint
from mpirun_infer.child.fingerprint import source_hash


@pytest.fixture
def source(tmp_path):
    (tmp_path / "score.py").write_text("def run(m): return m")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "config.yaml").write_text("a: 1")
    return tmp_path


def hashed(source):
    return source_hash(str(source / "score.py"), str(source))


def test_it_is_the_same_every_time(source):
    assert hashed(source) == hashed(source)
    assert len(hashed(source)) == 64


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("score.py", "def run(m): return 1"),
        ("pkg/__init__.py", "#"),
        ("pkg/new.py", ""),
        ("pkg/config.yaml", "a: 2"),
        ("pkg/scan.so", "x"),
    ],
)
def test_code_and_settings_count(source, name, text):
    before = hashed(source)
    (source / name).write_text(text)
    assert before != hashed(source)


@pytest.mark.parametrize(
    "name",
    ["scores.csv", "pkg/debug.log", "pkg/__pycache__/x.py", ".git/x.py", "image.png", "a.json"],
)
def test_what_scripts_write_beside_themselves_does_not_count(source, name):
    before = hashed(source)
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text("x")
    assert before == hashed(source)


def test_an_output_folder_inside_the_source_does_not_count(source):
    before = hashed(source)
    (source / "out" / ".mpirun_infer").mkdir(parents=True)
    (source / "out" / "job.yaml").write_text("x")
    assert before == hashed(source)


def test_a_large_library_counts_by_its_size(source):
    library = source / "pkg" / "scan.so"
    library.write_bytes(b"a" * (fingerprint.BYTES_MAX + 1))
    before = hashed(source)
    library.write_bytes(b"b" * (fingerprint.BYTES_MAX + 1))
    assert before == hashed(source)
    library.write_bytes(b"b" * (fingerprint.BYTES_MAX + 2))
    assert before != hashed(source)


def test_a_name_cannot_pose_as_content(source):
    before = hashed(source)
    (source / "pkg" / "config.yaml").rename(source / "config.yaml")
    assert before != hashed(source)


def test_without_a_source_directory_only_the_script_counts(source):
    before = source_hash(str(source / "score.py"), None)
    (source / "pkg" / "__init__.py").write_text("#")
    assert before == source_hash(str(source / "score.py"), None)
    assert before != source_hash(str(source / "pkg" / "__init__.py"), None)


def test_what_cannot_be_read_is_no_error(source):
    os.mkfifo(source / "pipe.py")  # opening it would wait for a writer
    (source / "dangling.py").symlink_to("nowhere")
    assert hashed(source) == hashed(source)


def test_folders_of_data_are_not_walked_through(source, monkeypatch):
    monkeypatch.setattr(fingerprint, "ENTRIES_MAX", 3)
    (source / "data").mkdir()
    before = hashed(source)
    for number in range(4):
        (source / "data" / f"{number}.py").write_text("x")
    assert before == hashed(source)
