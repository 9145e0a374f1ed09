"""What an item is, and in which order items come."""

import os
import socket

import pytest

from mpirun_infer.errors import IncompleteError, UsageError
from mpirun_infer.inputs import listing
from mpirun_infer.inputs.listing import Found, Unusable, list_items
from mpirun_infer.store.run_folder import RunFolder


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def make(root, *names):
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT))


def found(path, root, **options):
    start = os.fsencode(root) + b"/"
    return [
        item.path.removeprefix(start)
        for item in list_items([("images", str(path))], **options)
        if isinstance(item, Found)
    ]


def unusable(path):
    return [
        (os.path.basename(item.path), item.reason)
        for item in list_items([("images", str(path))])
        if isinstance(item, Unusable)
    ]


def test_a_folder_gives_its_own_files_then_its_folders_sorted_bytewise(data):
    make(data, "b", "a", "Z", ".hidden", "é", "sub/2", "sub/10", "sub/deep/x", ".git/y")
    assert [
        b".hidden", b"Z", b"a", b"b", "é".encode(), b".git/y", b"sub/10", b"sub/2", b"sub/deep/x",
    ] == found(data, data)  # fmt: skip


def test_any_name_is_kept_as_it_is(data):
    names = [b"with\nnewline", b"-rf", b" blank ", b"\xff\xfe", b"a%20b", b"tab\t", b"\\", b'"']
    make(data, *names)
    assert sorted(names) == found(data, data)


def test_several_inputs_keep_their_order(data):
    make(data, "x/1", "y/1")
    items = list(list_items([("b", f"{data}/y"), ("a", f"{data}/x")]))
    assert [(i.input_index, os.path.basename(os.path.dirname(i.path))) for i in items] == [
        (0, b"y"),
        (1, b"x"),
    ]


def test_one_file_is_one_item(data):
    make(data, "only")
    assert found(data / "only", data) == [b"only"]


def test_a_large_folder_comes_in_parts_and_whole(data, monkeypatch):
    monkeypatch.setattr(listing, "SORT_MAX", 10)
    names = [f"{number:03d}" for number in range(35)]
    make(data, *names, "sub/x")
    items = found(data, data)
    assert [name.encode() for name in names] == sorted(items[:-1])
    assert items[-1] == b"sub/x"


def test_what_is_no_regular_file_is_told(data):
    make(data, "good")
    os.mkfifo(data / "pipe")
    os.symlink(data / "nowhere", data / "broken")
    os.symlink(data / "loop", data / "loop")
    os.symlink("/dev/null", data / "null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(data / "socket"))
        told = unusable(data)
    assert told == [
        (b"broken", "not a regular file: a broken link"),
        (b"loop", "not a regular file: a broken link"),
        (b"null", "not a regular file: a character device"),
        (b"pipe", "not a regular file: a named pipe"),
        (b"socket", "not a regular file: a socket"),
    ]
    assert found(data, data) == [b"good"]


def test_linked_folders_are_entered_once(data, tmp_path):
    make(data, "a/1", "b/2")
    make(tmp_path, "outside/3")
    os.symlink(data, data / "a" / "up")
    os.symlink(data / "b", data / "c")
    os.symlink(tmp_path / "outside", data / "d")
    os.symlink(tmp_path / "outside", data / "e")
    assert found(data, data) == [b"a/1", b"b/2", b"d/3"]


def test_linked_files_are_listed_once(data, tmp_path):
    make(data, "a/1", "z")
    make(tmp_path, "outside/2", "outside/3")
    os.symlink(data / "a" / "1", data / "inside")
    os.symlink("z", data / "beside")
    os.symlink(tmp_path / "outside" / "2", data / "link")
    os.symlink(tmp_path / "outside" / "2", data / "link again")
    assert found(data, data) == [b"link", b"z", b"a/1"]


def test_the_path_is_the_one_that_was_given(data, tmp_path):
    make(data, "1")
    os.symlink(data, tmp_path / "alias")
    assert [os.fsencode(tmp_path / "alias" / "1")] == found(tmp_path / "alias", "/nothing")


def test_a_folder_that_refuses_is_told(data, monkeypatch):
    make(data, "good", "closed/1")
    real = os.scandir

    def scandir(path):
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert unusable(data) == [(b"closed", "a folder that cannot be listed: Permission denied")]
    assert found(data, data) == [b"good"]


def test_a_failing_file_system_ends_the_listing(data, monkeypatch):
    make(data, "1")

    def scandir(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(IncompleteError, match="cannot be listed: Input/output error"):
        found(data, data)


@pytest.mark.parametrize("name", ["", "*.png", "@empty"])
def test_an_input_without_files_is_an_error(data, name):
    make(data / "list", "empty")
    path = f"@{data}/list/empty" if name == "@empty" else f"{data}/none/{name}"
    (data / "none").mkdir()
    with pytest.raises(UsageError) as caught:
        found(path, data)
    assert (
        f'input "images": {path} holds no files; give a folder, a glob or @list that matches at '
        "least one"
    ) == str(caught.value)


def test_an_input_that_is_not_there_is_an_error(data):
    for path in (f"{data}/nothing", f"@{data}/nothing"):
        with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
            found(path, data)


# --------------------------------------------------------------------------- globs


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", [b"1.png", b"\xc3\xa9.png"]),
        ("?.png", [b"1.png", b"\xc3\xa9.png"]),
        ("*", [b".h", b"1.png", b"2.txt", b"\xc3\xa9.png"]),
        ("[12].*", [b"1.png", b"2.txt"]),
        ("[!1].*", [b"2.txt", b"\xc3\xa9.png"]),
        ("a*/*.png", [b"aa/3.png", b"ab/4.png"]),
        ("a*/b/*", [b"aa/b/5.png"]),
        ("**/*.png", [b"1.png", b"\xc3\xa9.png", b"aa/3.png", b"aa/b/5.png", b"ab/4.png"]),
        ("aa/**", [b"aa/3.png", b"aa/b/5.png"]),
        ("**/b/*", [b"aa/b/5.png"]),
        ("**/**/5.png", [b"aa/b/5.png"]),
        ("a?/../*.txt", None),
    ],
)
def test_globs_match_files(data, pattern, expected):
    make(data, "1.png", "2.txt", ".h", "é.png", "aa/3.png", "ab/4.png", "aa/b/5.png", "c/6.txt")
    if expected is None:
        with pytest.raises(UsageError):
            found(data / pattern, data)
    else:
        assert expected == found(data / pattern, data)


def test_a_glob_names_what_matches_and_is_unusable(data):
    make(data, "a.png")
    os.symlink("nowhere", data / "b.png")
    os.symlink("nowhere", data / "b.txt")
    assert unusable(data / "*.png") == [(b"b.png", "not a regular file: a broken link")]


def test_a_link_is_kept_when_only_its_own_name_matches(data):
    make(data, "a.bin", "c.png")
    os.symlink("a.bin", data / "a.png")
    os.symlink("c.png", data / "d.png")
    assert found(data / "*.png", data) == [b"a.png", b"c.png"]


def test_a_name_with_brackets_that_exists_is_no_glob(data):
    make(data, "[1]/x", "1/y")
    assert found(data / "[1]", data) == [b"[1]/x"]


def test_globs_take_names_that_are_no_text(data):
    make(data, b"\xff.png")
    assert found(data / "*.png", data) == [b"\xff.png"]


# --------------------------------------------------------------------------- manifests


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"/a\n/b c\n\n/d", [b"/a", b"/b c", b"/d"]),
        (b"/a\r\n/b\r\n", [b"/a", b"/b"]),
        (b"/a\0/b\nc\0", [b"/a", b"/b\nc"]),
        (b"\xef\xbb\xbf/a\n", [b"/a"]),
        (b"x\n-y\n/\xff\n", [b"<here>/x", b"<here>/-y", b"/\xff"]),
        (b"/a\n/a\n", [b"/a", b"/a"]),
    ],
)
def test_manifests(data, content, expected):
    (data / "list").write_bytes(content)
    here = os.fsencode(data)
    assert [path.replace(b"<here>", here) for path in expected] == found(
        f"@{data}/list", "/nothing"
    )


def test_manifests_are_read_in_blocks(data, monkeypatch):
    monkeypatch.setattr(listing, "_BLOCK_BYTES", 7)
    for end in (b"\n", b"\0"):
        paths = [b"/%d" % number for number in range(200)]
        for last in (b"", end):
            (data / "list").write_bytes(end.join(paths) + last)
            assert paths == found(f"@{data}/list", "/nothing")


def test_a_nul_that_comes_late_is_told(data, monkeypatch):
    monkeypatch.setattr(listing, "_BLOCK_BYTES", 8)
    (data / "list").write_bytes(b"/a\n/b\n/c\n/d\n/e\n/f\n/g\0h\n/i\n")
    assert unusable(f"@{data}/list") == [(b"g?h", "not a path: it holds a NUL byte")]


# --------------------------------------------------------------------------- run folders


def test_a_run_folder_gives_rows_and_the_scripts_files_only(tmp_path):
    folder = RunFolder(str(tmp_path / "out"), "rows.txt")
    folder.prepare()
    make(
        folder.output, "rows.txt", "rows.txt.partial", "rows.txt.partial.3", "masks/1.png",
        "logs/user/x", "masks/logs/kept",
    )  # fmt: skip
    expected = [b"rows.txt", b"masks/1.png", b"masks/logs/kept"]
    assert expected == found(folder.output, folder.output)
    assert [b"out/" + name for name in expected] == found(tmp_path, tmp_path)
    assert expected == found(f"{folder.output}/**", folder.output)


def test_our_own_output_is_never_listed(data):
    make(data, "1", "out/rows.txt", "out/logs/x")
    assert found(data, data, exclude=[f"{data}/out", "/not/there"]) == [b"1"]
