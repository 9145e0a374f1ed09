"""The run folder: ours or refused, and where everything is."""

import errno
import os
from pathlib import Path

import pytest

from mpirun_infer.errors import ResumeError, StorageError, UsageError
from mpirun_infer.store import wall
from mpirun_infer.store.run_folder import RunFolder, make_script_folders


@pytest.fixture
def folder(tmp_path):
    return RunFolder(str(tmp_path / "deep" / "out"), "rows.txt")


def test_prepare_makes_a_private_hidden_folder_and_may_be_repeated(folder):
    folder.prepare()
    folder.prepare()
    assert os.stat(folder.hidden).st_mode & 0o777 == 0o700
    assert folder.is_ours()


def test_an_empty_folder_may_be_used(folder):
    os.makedirs(folder.output)
    folder.prepare()
    assert folder.is_ours()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(folder):
    os.makedirs(folder.output)
    Path(folder.output, "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty, and not the output of an earlier run"):
        folder.prepare()
    with pytest.raises(UsageError, match="so --fresh does not move it"):
        folder.move_aside()
    assert os.listdir(folder.output) == ["thesis.tex"]


def test_a_crash_while_the_marker_was_made_is_no_reason_to_refuse(folder):
    os.makedirs(folder.hidden, mode=0o700)
    Path(folder.hidden, "version.4711").touch()
    folder.prepare()
    assert folder.is_ours()


def test_a_hidden_folder_that_is_a_link_is_refused(folder, tmp_path):
    other = RunFolder(str(tmp_path / "other"), "rows.txt")
    other.prepare()
    os.makedirs(folder.output)
    os.symlink(other.hidden, folder.hidden)
    with pytest.raises(UsageError, match="is a link or a file"):
        folder.prepare()


def test_a_hidden_folder_of_someone_else_is_refused(folder, monkeypatch):
    folder.prepare()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UsageError, match=r"belongs to user \d+, not to you \(12345\)"):
        folder.prepare()


def test_a_folder_of_a_later_version_is_refused(folder):
    folder.prepare()
    Path(folder.version_file).write_text("mpirun_infer run folder, version 2\n")
    with pytest.raises(ResumeError, match="this version knows version 1"):
        folder.prepare()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="cannot be used as the output folder"):
        RunFolder(str(tmp_path / "out"), "rows.txt").prepare()


def test_names_of_rows_and_records(folder):
    assert f"{folder.output}/rows.txt" == folder.final
    assert f"{folder.output}/rows.txt.partial" == folder.segment(1)
    assert f"{folder.output}/rows.txt.partial.12" == folder.segment(12)
    assert f"{folder.hidden}/rows/12" == folder.retired_segment(12)
    assert f"{folder.hidden}/journal/000012.jsonl" == folder.journal_segment(12)
    assert f"{folder.hidden}/manifest/000012.txt" == folder.manifest(12)


def test_names_of_logs(folder):
    logs = f"{folder.output}/logs"
    assert f"{logs}/user/stdout/n1/process007.stdout.txt" == folder.user_stdout("n1", 7)
    assert f"{logs}/user/stderr/n1/process007.stderr.txt" == folder.user_stderr("n1", 7)
    assert f"{logs}/user/entry_script_log/n1/process1234.log.txt" == folder.entry_script_log(
        "n1", 1234
    )
    assert f"{logs}/user/error/n1/process007.txt" == folder.user_error("n1", 7)
    assert f"{logs}/sys/n1/rank003.txt" == folder.rank_log("n1", 3)
    assert folder.relative(folder.error_summary) == "logs/user/error.txt"


def test_names_of_what_a_run_needs_besides(folder):
    assert f"{folder.hidden}/control/drain" == folder.drain_file
    assert f"{folder.hidden}/stdin.list" == folder.stdin_list
    assert f"{folder.hidden}/work/n1" == folder.node_work_folder("n1")
    assert f"{folder.hidden}/work/n1/process007" == folder.work_folder("n1", 7)


def test_names_from_the_lock_folder(folder):
    folder.prepare()
    held = os.open(folder.lock_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in (folder.assembled(3), folder.final, folder.partial):
            Path(path).touch()
            assert os.stat(folder.from_lock_dir(path), dir_fd=held).st_ino == os.stat(path).st_ino
    finally:
        os.close(held)


def test_what_is_left_over_when_the_rows_are_published(folder):
    folder.prepare()
    left = [
        folder.segment(1),
        folder.segment(3),
        folder.retired_segment(2),
        folder.assembled(2),
    ]
    others = [
        folder.final,
        folder.segment(4),
        folder.retired_segment(4),
        folder.assembled(4),
        f"{folder.final}.partial.x",
        f"{folder.output}/other.partial",
        f"{folder.rows_dir}/note",
    ]
    for path in left + others:
        Path(path).touch()
    assert sorted(folder.leftovers(3)) == sorted(left)


def test_a_node_name_never_leaves_the_folder(folder):
    assert f"{folder.hidden}/work/.._x/process000" == folder.work_folder("../x", 0)
    assert f"{folder.output}/logs/sys/.._.._x/rank000.txt" == folder.rank_log("../../x", 0)


def test_process_numbers_go_on_after_those_that_left_logs(folder):
    folder.prepare()
    assert folder.next_process_number() == 0
    for path in (folder.user_stdout("n1", 3), folder.user_error("n2", 11)):
        os.makedirs(os.path.dirname(path))
        Path(path).touch()
    assert folder.next_process_number() == 12


def test_moving_aside_takes_the_next_free_name(folder):
    assert folder.move_aside() == ""
    for number in (1, 2):
        folder.prepare()
        assert f"{folder.output}.old-{number}" == folder.move_aside()


def test_the_wall_clock_is_text():
    assert len(wall.now_text()) == 20
    assert wall.now_text()[-1] == "Z"


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["makedirs", "rename"])
def test_a_disk_that_is_full_before_the_start_is_a_storage_error(folder, monkeypatch, reason, call):
    def full(*args, **kwargs):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageError, match=r"storage: (no space left|quota is used up) on .*free"):
        folder.prepare()
    if call == "makedirs":
        with pytest.raises(StorageError, match="free some, run the same command again"):
            make_script_folders([f"{folder.output}/x"])


@pytest.mark.parametrize(
    ("reason", "words"), [(errno.ENOSPC, "no space left"), (errno.EIO, "Input/output error")]
)
def test_a_job_that_cannot_be_kept_is_a_storage_error(folder, monkeypatch, reason, words):
    folder.prepare()

    def fails(*args, **kwargs):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(StorageError, match=words):
        folder.keep_job("{}")


def test_a_run_that_cannot_be_looked_at_is_not_called_foreign(folder, monkeypatch):
    folder.prepare()
    real = os.stat

    def denied(path, *args, **kwargs):
        if path == folder.version_file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", denied)
    for deed in (folder.prepare, folder.move_aside):
        with pytest.raises(UsageError, match="version: cannot be read: permission denied"):
            deed()
