"""The bytes of the output file, as the contract has them."""

import json
import sys
import zlib

import numpy as np
import pandas as pd
import pytest

from mpirun_infer.child import rows as room
from mpirun_infer.child.entry import MiniBatch

PATHS = ["/d/a.png", "/d/b.png"]


def rows(result, *, paths=PATHS, to_csv=None, limit=1 << 20, **options):
    to_csv = {**room.TO_CSV_DEFAULTS, **(to_csv or {})}
    return room.RowFormat(options, to_csv, limit).rows(result, paths, 10, 3)


def body(result, **options):
    return rows(result, **options).body


def golden_frame():
    return pd.DataFrame(
        {
            "f": [1.5, np.nan, 1 / 3],
            "i": [1, 2, 3],
            "s": ["a b", 'q"x', None],
            "t": ["line1\nline2", "", "x"],
            "b": [True, False, True],
            "d": [pd.Timestamp(2020, 1, 1), pd.Timestamp(2020, 1, 2, 3, 4, 5), pd.NaT],
        }
    )


GOLDEN = (
    '1.5 1 "a b" "line1\nline2" True "2020-01-01 00:00:00"\n 2 "q""x"  False '
    '"2020-01-02 03:04:05"\n0.3333333333333333 3  x True \n'
)


def test_the_golden_bytes_of_a_data_frame():
    found = rows(golden_frame())
    assert found.body.decode() == GOLDEN
    assert (found.count, found.header, found.crc) == (3, b"", zlib.crc32(GOLDEN.encode()))


def test_a_header_is_told_apart_from_the_rows():
    found = rows(golden_frame(), to_csv={"sep": ",", "header": True})
    assert found.header == b"f,i,s,t,b,d\n"
    assert found.body.startswith(b'1.5,1,a b,"line1\nline2",True,2020-01-01 00:00:00\n')
    assert found.crc == zlib.crc32(found.body)
    named = rows(pd.DataFrame({"a": [1]}), to_csv={"header": ["first"], "index": True})
    assert (named.header, named.body) == (b" first\n", b"0 1\n")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (["a", 1, 1.5, None, ("x", 2)], b"a\n1\n1.5\nNone\n('x', 2)\n"),
        (("a", "b"), b"a\nb\n"),
        (MiniBatch(PATHS), b"/d/a.png\n/d/b.png\n"),
        (["two\nlines"], b"two\nlines\n"),
        (["caf\u00e9 \udce9"], b"caf\xc3\xa9 \xe9\n"),
        ([np.float32(0.1), np.int64(3)], b"0.1\n3\n"),
        (np.array([0.1, 2], dtype=np.float32), b"0.1\n2.0\n"),
        (np.array([[1, 2], [3, 4]]), b"[1 2]\n[3 4]\n"),
        (np.array(["a", "b"]), b"a\nb\n"),
        (pd.Series(["a", "b"], index=[5, 6]), b"a\nb\n"),
        (pd.Series([1.5, np.nan]), b"1.5\nnan\n"),
    ],
)
def test_an_element_is_its_str_and_a_newline(result, expected):
    found = rows(result)
    assert (len(result), expected, b"") == (found.count, found.body, found.header)


@pytest.mark.parametrize(
    "result", [[], (), np.array([]), pd.Series([], dtype=str), pd.DataFrame({"a": []})]
)
def test_nothing_is_written_for_an_empty_result(result):
    found = rows(result, to_csv={"header": True})
    assert (found.count, found.header, found.body, found.crc) == (0, b"", b"", 0)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "returned None .does every way"),
        ("text", "returned str .one text is no list of rows"),
        (b"text", "returned bytes"),
        (3, "returned int; a list, tuple"),
        ({"a": 1}, "returned dict"),
        ((x for x in "ab"), "returned generator .has run.. a yield"),
        (np.float32(1), "returned numpy.float32"),
        (np.array(1), "without dimensions"),
        (["ok", "\ud800"], "UTF-8 cannot write"),
    ],
)
def test_anything_else_is_refused_in_words(result, text):
    with pytest.raises(room.BadReturnError, match=text):
        rows(result)


def lies_of_its_length(base):
    return type("Liar", (base,), {"__len__": lambda _: sys.maxsize})


@pytest.mark.parametrize("base", [list, tuple])
@pytest.mark.parametrize("options", [{}, {"summary_only": True}, {"strict_rows": True}])
def test_what_is_counted_is_what_is_there(base, options):
    found = rows(lies_of_its_length(base)(["a", "b"]), **options)
    assert found.count == 2
    assert found.body == (b"" if options.get("summary_only") else b"a\nb\n")


def test_an_element_without_text_is_named():
    class Loud:
        def __str__(self):
            raise RuntimeError("no")

    with pytest.raises(room.BadReturnError, match=r"element 1 .* raised RuntimeError: no"):
        rows(["a", Loud()])


def test_to_csv_that_fails_is_a_bad_return_that_names_the_options():
    with pytest.raises(room.BadReturnError, match=r"to_csv\(.*sepp=','.*unexpected keyword"):
        rows(golden_frame(), to_csv={"sepp": ","})


def test_row_escape_makes_every_row_one_line():
    assert body(["a\\b\r\nc"], row_escape=True) == b"a\\\\b\\r\\nc\n"
    frame = golden_frame()
    escaped = body(frame, row_escape=True)
    assert escaped.count(b"\n") == 3
    assert b"line1\\nline2" in escaped
    assert frame.iloc[0, 3] == "line1\nline2"


def test_strict_rows_refuses_a_wrong_count():
    assert body(["a", "b"], strict_rows=True) == b"a\nb\n"
    with pytest.raises(room.BadReturnError, match="1 rows for 2 items and strict_rows"):
        rows(["a"], strict_rows=True)


def test_summary_only_counts_and_writes_nothing():
    found = rows(golden_frame(), summary_only=True, to_csv={"header": True})
    assert (found.count, found.header, found.body) == (3, b"", b"")
    with pytest.raises(room.BadReturnError):
        rows(None, summary_only=True)


def test_with_source_puts_three_columns_in_front():
    assert body(["x", "y"], with_source=True) == b"/d/a.png\t10\t3\tx\n/d/b.png\t11\t3\ty\n"
    assert body(["x"], with_source=True) == b"\t\t3\tx\n"
    odd = body(["x"], paths=["/d/a\tb\nc\\"], with_source=True)
    assert odd == b"/d/a\\tb\\nc\\\\\t10\t3\tx\n"


def test_with_source_knows_the_rows_of_a_data_frame():
    frame = golden_frame()
    found = rows(frame, paths=["/1", "/2", "/3"], with_source=True, to_csv={"header": True})
    assert found.header == b"path\titem\tmini_batch\tf i s t b d\n"
    lines = found.body.split(b"\n")
    assert lines[0].startswith(b"/1\t10\t3\t1.5 1")
    assert lines[1].startswith(b"line2")
    assert lines[2].startswith(b"/2\t11\t3\t 2")
    bare = "".join(GOLDEN)
    assert (
        found.body.decode()
        .replace("/1\t10\t3\t", "")
        .replace("/2\t11\t3\t", "")
        .replace("/3\t12\t3\t", "")
        == bare
    )


def test_more_rows_than_allowed_are_refused():
    assert rows(["12345"], limit=6).count == 1
    with pytest.raises(room.BadReturnError, match="take 7 bytes, the limit is 6"):
        rows(["123456"], limit=6)


def test_the_settings_file_changes_the_options_and_the_job_wins(tmp_path):
    script = str(tmp_path / "score.py")
    assert room.to_csv_options(script, None) == {"sep": " ", "header": False, "index": False}
    settings = {"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "header": True}}}
    (tmp_path / room.SETTINGS_NAME).write_text(json.dumps(settings))
    assert room.to_csv_options(script, None) == {"sep": ",", "header": True, "index": False}
    assert room.to_csv_options(script, {"sep": ";"})["sep"] == ";"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"append_row": {"pandas.DataFrame.to_csv": 1}}', '{"append_row": 1}', "\x00"],
)
def test_settings_that_make_no_sense_are_named(tmp_path, text):
    (tmp_path / room.SETTINGS_NAME).write_text(text)
    with pytest.raises(room.SettingsError, match=room.SETTINGS_NAME):
        room.to_csv_options(str(tmp_path / "score.py"), None)


def test_options_that_would_write_elsewhere_are_refused(tmp_path):
    with pytest.raises(room.SettingsError, match=r"append_row\.to_csv: to_csv option path_or_buf"):
        room.to_csv_options(str(tmp_path / "score.py"), {"path_or_buf": "x"})


def test_no_library_is_needed_for_lists(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert body(["a"]) == b"a\n"
    with pytest.raises(room.BadReturnError, match="returned None"):
        rows(None)
