"""Frames from a runner are not believed; what is told goes out in order."""

import math
import zlib

import pytest

from mpirun_infer.core.messages import Ready, Result, Retired, Returned, encode
from mpirun_infer.model import Failure, FailureKind, TryResult
from mpirun_infer.supervise.answers import (
    ROWS_MAX,
    TEXT_CHARS_MAX,
    Answers,
    read_answered,
    read_failure,
    read_result,
    read_text,
)

ROWS = b"a,b\n1,2\n"
RESULT = {
    "type": "result",
    "mini_batch": 3,
    "try": 1,
    "rows": 1,
    "header_bytes": 4,
    "crc": zlib.crc32(ROWS[4:]),
    "run_s": 0.5,
    "load_s": 0,
}
FAILED = {
    "type": "failed",
    "mini_batch": 3,
    "try": 1,
    "kind": "RUN_EXCEPTION",
    "error": "ValueError: no",
    "where": "score.py:3",
    "detail": "Traceback",
    "run_s": 0.5,
}
NO_NUMBERS = (-1, 1.5, "1", None, [1], {}, 1 << 62, math.nan, True, False)


def test_a_good_result():
    result, rows = read_result(RESULT, memoryview(ROWS), 7)
    expected = TryResult(
        rows=1,
        body_bytes=4,
        header=b"a,b\n",
        crc=zlib.crc32(ROWS[4:]),
        run_s=0.5,
        load_s=0.0,
        process=7,
    )
    assert expected == result
    assert bytes(rows) == b"1,2\n"
    assert read_answered(RESULT) == (3, 1)


def test_a_good_failure():
    failure = read_failure(FAILED, 7, "n1", "logs/x.txt")
    expected = Failure(
        kind=FailureKind.RUN_EXCEPTION,
        error="ValueError: no",
        where="score.py:3",
        process=7,
        node="n1",
        log="logs/x.txt",
        detail="Traceback",
        run_s=0.5,
    )
    assert expected == failure


@pytest.mark.parametrize("key", ["rows", "header_bytes", "crc"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_forged_number_in_a_result(key, value):
    with pytest.raises(ValueError, match=key):
        read_result({**RESULT, key: value}, memoryview(ROWS), 7)


@pytest.mark.parametrize("key", ["mini_batch", "try"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_forged_number_of_a_mini_batch(key, value):
    with pytest.raises(ValueError, match=key):
        read_answered({**RESULT, key: value})


@pytest.mark.parametrize("key", ["run_s", "load_s"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "1", None, 1e9, True])
def test_forged_seconds(key, value):
    with pytest.raises(ValueError, match=key):
        read_result({**RESULT, key: value}, memoryview(ROWS), 7)


def test_more_rows_than_a_run_can_count():
    with pytest.raises(ValueError, match="rows"):
        read_result({**RESULT, "rows": ROWS_MAX + 1}, memoryview(ROWS), 7)


def test_a_checksum_that_is_not_that_of_the_rows():
    with pytest.raises(ValueError, match=r"crc \d+ of rows with \d+"):
        read_result({**RESULT, "crc": zlib.crc32(ROWS)}, memoryview(ROWS), 7)


def test_a_header_that_is_longer_than_the_body():
    with pytest.raises(ValueError, match="header_bytes 9 of 8"):
        read_result({**RESULT, "header_bytes": 9}, memoryview(ROWS), 7)


@pytest.mark.parametrize("missing", ["rows", "header_bytes", "crc", "run_s", "load_s"])
def test_a_result_with_a_hole(missing):
    header = {name: value for name, value in RESULT.items() if name != missing}
    with pytest.raises(KeyError):
        read_result(header, memoryview(ROWS), 7)


@pytest.mark.parametrize(
    ("key", "value"),
    [("kind", "GREMLINS"), ("kind", 3), ("error", None), ("where", []), ("detail", b"x")],
)
def test_a_forged_failure(key, value):
    with pytest.raises(ValueError, match=r".+"):
        read_failure({**FAILED, key: value}, 7, "n1", "")


def test_texts_are_bounded_and_can_be_sent():
    text = read_text({"error": "\udcff" + "x" * 10 * TEXT_CHARS_MAX}, "error")
    assert text.startswith("\\udcffxxx")
    assert len(text) < 2 * TEXT_CHARS_MAX
    text.encode("utf-8")


# --------------------------------------------------------------------------- in order


def result(rows):
    return TryResult(rows=1, body_bytes=len(rows))


def test_outcomes_in_a_row_share_a_message_and_its_body():
    answers = Answers(worker=4, incarnation=2)
    failure = Failure(kind=FailureKind.RUN_EXCEPTION, error="no")
    answers.succeeded((1, 1), result(b"a\n"), memoryview(b"a\n"))
    answers.failed((2, 3), failure)
    answers.succeeded((3, 1), result(b""), memoryview(b""))
    answers.succeeded((4, 1), result(b"b\n"), memoryview(b"b\n"))
    ((message, body),) = answers.take()
    assert isinstance(message, Result)
    assert (message.worker, message.incarnation) == (4, 2)
    assert [(one.mini_batch, one.try_number) for one in message.outcomes] == [
        (1, 1),
        (2, 3),
        (3, 1),
        (4, 1),
    ]
    assert [one.failure for one in message.outcomes] == [None, failure, None, None]
    assert bytes(body) == b"a\nb\n"
    encode(message)
    assert answers.take() == []


def test_another_message_closes_the_row():
    answers = Answers(worker=4, incarnation=2)
    answers.ready(0.5)
    answers.succeeded((1, 1), result(b"a\n"), b"a\n")
    answers.returned((2, 3), ready=True)
    answers.succeeded((4, 1), result(b"b\n"), b"b\n")
    answers.retired("why", "detail", usage_error=True)
    messages = answers.take()
    kinds = [type(message) for message, _ in messages]
    assert kinds == [Ready, Result, Returned, Result, Retired]
    assert [bytes(body) for _, body in messages] == [b"", b"a\n", b"", b"b\n", b""]
    assert messages[2][0].mini_batches == (2, 3)
    assert messages[4][0].usage_error
    assert answers.take() == []
