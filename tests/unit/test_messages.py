"""Every message survives its bytes; paths need not be UTF-8; rubbish is refused."""

from typing import get_args

import msgspec
import pytest

from mpirun_infer.core import messages
from mpirun_infer.core.messages import (
    Beat,
    Dispatch,
    Farewell,
    FromMaster,
    FromWorker,
    Hello,
    Outcome,
    Ready,
    Release,
    Released,
    Result,
    Retired,
    Returned,
    Revoke,
    Welcome,
)
from mpirun_infer.model import (
    Failure,
    FailureKind,
    MiniBatch,
    NodeFacts,
    RunnerLimits,
    RunnerPlan,
    Seat,
    TryResult,
)

ODD = b"/d/\xff\xfe\x80 \n.png"
PLAN = RunnerPlan(
    python="/opt/p\udcff/bin/python3",
    script="/s/score.py",
    source_directory=None,
    module="score",
    sys_path=("/s",),
    argv=("/s/score.py", '--x={"a": 1}', "\udc80\n"),
    environment={"A": "\udcfe", "B": "ä"},
    environment_stripped=("OMPI_",),
    start_folder="/",
    output_folder="/out",
    run_id="r.1",
    script_hash="",
    row_options={"to_csv": {"sep": ","}, "row_escape": False, "with_source": None},
    logging_level="INFO",
    limits=RunnerLimits(
        init_timeout_s=0.5,
        run_timeout_s=60,
        overhead_timeout_s=600,
        init_tries_max=3,
        rows_bytes_max=1000,
    ),
)
MINI_BATCH = MiniBatch(id=2**40, input_index=1, first_item=7, paths=(ODD, b"/d/2", b""))
RESULT = TryResult(
    rows=3, body_bytes=2**33, header=b"a\xff\n", crc=2**32 - 1, run_s=0.5, load_s=0.25, process=4
)
FAILURE = Failure(kind=FailureKind.MEMORY_LIMIT, error="öl", where="s.py:1", detail="x" * 99)
SEAT = Seat(worker=1, cores=(1, 2), threads=2, gpu=None, gpus_on_node=0, node="n1")
FACTS = NodeFacts(
    node="n1", cores=(0, 1), explicitly_bound=True, gpus=("GPU-1",), python="3.12.1", pid=7
)

FROM_WORKER = [
    Hello(facts=FACTS),
    Ready(worker=1, incarnation=2, init_s=0.5),
    Result(
        worker=1,
        incarnation=2,
        outcomes=(
            Outcome(mini_batch=2**40, try_number=1, result=RESULT),
            Outcome(mini_batch=0, try_number=2, failure=FAILURE),
        ),
    ),
    Returned(worker=1, incarnation=2, mini_batches=(1, 2**40), ready=False),
    Returned(worker=1, incarnation=2, mini_batches=(), ready=True),
    Retired(worker=1, incarnation=2, reason="r", detail="d", usage_error=True),
    Beat(running=((0, 5, "run", 1.5), (1, -1, "init", 0.0))),
    Released(processes=3),
]
FROM_MASTER = [
    Welcome(
        incarnation=1,
        seats=(SEAT, SEAT),
        plan=messages.pack_plan(PLAN),
        first_process=3,
        workers_total=2,
        beat_s=2.0,
        first_on_node=True,
    ),
    Dispatch(worker=1, incarnation=2, tries=((MINI_BATCH, 1), (MINI_BATCH, 3))),
    Revoke(worker=1, incarnation=2),
    Release(at_once=True),
    Farewell(),
]


def test_every_message_is_tried_here():
    assert {type(message) for message in FROM_WORKER} == set(get_args(FromWorker))
    assert {type(message) for message in FROM_MASTER} == set(get_args(FromMaster))


@pytest.mark.parametrize("wrapped", [bytes, bytearray, memoryview], ids=lambda t: t.__name__)
@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda m: type(m).__name__)
def test_from_worker(message, wrapped):
    assert messages.decode_from_worker(wrapped(messages.encode(message))) == message


@pytest.mark.parametrize("message", FROM_MASTER, ids=lambda m: type(m).__name__)
def test_from_master(message):
    assert messages.decode_from_master(messages.encode(message)) == message


def test_paths_are_bytes():
    (found, _), *_ = messages.decode_from_master(messages.encode(FROM_MASTER[1])).tries
    assert found.paths == (ODD, b"/d/2", b"")
    assert found.items == 3


def test_a_plan_may_hold_what_is_no_utf8():
    data = messages.pack_plan(PLAN)
    assert data.isascii()
    assert messages.read_plan(data) == PLAN


def test_one_side_does_not_take_the_messages_of_the_other():
    for message in FROM_MASTER:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_from_worker(messages.encode(message))
    for message in FROM_WORKER:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_from_master(messages.encode(message))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"type": "no"})])
def test_rubbish_is_refused(data):
    with pytest.raises(msgspec.MsgspecError):
        messages.decode_from_worker(data)


def test_a_message_that_lacks_something_is_refused():
    data = msgspec.msgpack.encode({"type": "ready", "worker": 1})
    with pytest.raises(msgspec.ValidationError, match="incarnation"):
        messages.decode_from_worker(data)
    data = msgspec.msgpack.encode({"type": "released", "processes": "3"})
    with pytest.raises(msgspec.ValidationError, match="processes"):
        messages.decode_from_worker(data)


def test_a_message_of_a_later_version_may_say_more():
    data = msgspec.msgpack.encode({"type": "released", "processes": 3, "later": 1})
    assert messages.decode_from_worker(data) == Released(processes=3)
