"""Exceptions told in one line, with a place and a bounded traceback."""

import argparse
import sys

import pytest

from mpirun_infer.child import failure


class BadError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raised(function):
    try:
        function()
    except BaseException as error:
        return error
    return None


def deep():
    deep()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("bad image"), "ValueError: bad image"),
        (ValueError(), "ValueError"),
        (ValueError("a\n  b"), "ValueError: a   b"),
        (BadError(), "BadError: (its str() raises)"),
        (ValueError("\udce9"), "ValueError: \\udce9"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_one_line(error, expected):
    assert expected == failure.one_line(error)


def test_everything_is_bounded():
    error = raised(lambda: (_ for _ in ()).throw(ValueError("x" * 100_000)))
    assert len(failure.one_line(error)) < 600
    assert len(failure.detail(error)) < 17_000
    assert len(failure.detail(raised(deep))) < 17_000
    assert "RecursionError" in failure.detail(raised(deep))


def test_where_is_the_innermost_line_of_the_script():
    error = raised(lambda: int("x"))
    line = error.__traceback__.tb_next.tb_lineno
    assert f"test_child_failure.py:{line}" == failure.where(error, __file__)
    in_library = raised(lambda: argparse.ArgumentParser().add_argument(3))
    assert failure.where(in_library, __file__).startswith("test_child_failure.py:")
    assert failure.where(in_library, "/elsewhere/score.py").startswith("argparse.py:")


def test_where_of_a_syntax_error_is_the_line_that_is_wrong():
    error = raised(lambda: compile("x =\n", "/d/score.py", "exec"))
    assert failure.where(error, "/d/score.py") == "score.py:1"
    assert failure.where(ValueError(), "/d/score.py") == ""


def test_a_traceback_that_cannot_be_written_is_told():
    text = failure.detail(raised(lambda: (_ for _ in ()).throw(BadError)))
    assert "BadError" in text


def test_what_argparse_said_is_found(capsys):
    parser = argparse.ArgumentParser()
    error = raised(lambda: parser.parse_args(["--unknown"]))
    assert failure.argparse_message(error) == "unrecognized arguments: --unknown"
    assert failure.argparse_message(raised(lambda: sys.exit(3))) is None
    capsys.readouterr()
