"""Every rank, in order: watch the parent, zygote, MPI, role.

Owns this order, the choice of the real transport, and how a rank leaves.
Touches: the process itself (parent-death signal, exit), MPI through the transport.
Never:   decides anything about the run.

The zygote comes before MPI: after MPI_Init a rank never forks. What only the master needs
(the job's validator, the store) is imported on rank 0 alone.
"""

import os
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import NoReturn

import msgspec

from mpirun_infer.core.messages import Farewell, encode
from mpirun_infer.errors import ExitCode, InferError, NoWorkerError
from mpirun_infer.model import SHARED_MEMORY_VARIABLE, LaunchOrder, RankVerdict
from mpirun_infer.roles.voice import LauncherVoice, PersonsVoice, Voice
from mpirun_infer.supervise.parent_death import die_with_parent
from mpirun_infer.supervise.placement import node_facts
from mpirun_infer.supervise.spawner import Spawner
from mpirun_infer.transport.base import Transport

FINALIZE_TIMEOUT_S = 10.0
_WORLD_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")


def main(launch_file: str) -> int:
    """A rank under our launcher: the order is in a file, the verdict goes to standard output."""

    def load_order() -> LaunchOrder:
        with open(launch_file, "rb") as file:
            return msgspec.json.decode(file.read(), type=LaunchOrder)

    return _be_a_rank(load_order, LauncherVoice())


def under_user_mpiexec(load_order: Callable[[], LaunchOrder]) -> int:
    """A rank under a user's mpiexec; rank 0 alone calls `load_order` and speaks to people."""
    return _be_a_rank(load_order, PersonsVoice())


def _be_a_rank(load_order: Callable[[], LaunchOrder], voice: Voice) -> int:
    die_with_parent()
    spare_network_probing(os.environ)
    facts = node_facts(os.environ)
    spawner = Spawner()
    try:
        from mpirun_infer.transport.mpi import MpiTransport

        transport = MpiTransport()
        promised = _promised_ranks(os.environ)
        if transport.size == 1 and promised > 1:
            spawner.close()
            _leave_alone(promised, voice)
        if transport.rank == 0:
            spawner.close()
            exit_code = _be_the_master(transport, load_order, voice)
            _say_farewell(transport)
        else:
            from mpirun_infer.roles.worker import Worker

            worker = Worker(transport, spawner, facts)
            worker.run()
            worker.wait_for_farewell()
            exit_code = ExitCode.OK
    finally:
        spawner.close()
    _leave(transport, exit_code)
    return exit_code


def _promised_ranks(environ: Mapping[str, str]) -> int:
    """How many ranks there are by the launcher's variables; 0: they do not say."""
    texts = [environ.get(name, "") for name in _WORLD_SIZES]
    return max(int(text) if text.isdecimal() else 0 for text in texts)


def _leave_alone(promised: int, voice: Voice) -> NoReturn:
    """Our mpiexec died right after it forked, and nobody hears us; or it is of another MPI.

    Every rank is alone in a world of one then, and takes itself for rank 0.
    """
    if all(os.environ.get(name, "0") == "0" for name in _RANKS):
        reason = (
            f"mpiexec started {promised} ranks, but each is alone: mpiexec is gone, or it does not "
            "belong to the MPI library; mpirun-infer doctor --run looks closer"
        )
        with suppress(OSError):
            verdict = RankVerdict(exit_code=ExitCode.NO_WORKER, reason=reason)
            voice.last_words(verdict, told=False)
    os._exit(ExitCode.INCOMPLETE)


def _be_the_master(
    transport: Transport, load_order: Callable[[], LaunchOrder], voice: Voice
) -> int:
    """Errors before there is a run still let the other ranks go in peace."""
    from mpirun_infer.roles.master_main import be_master, send_home

    told = False
    try:
        _expect_workers(transport)
        verdict, told = be_master(load_order(), transport, voice)
    except InferError as error:
        send_home(transport)
        verdict = RankVerdict(exit_code=error.exit_code, reason=str(error))
    except Exception as error:
        send_home(transport)
        reason = f"this is a bug of mpirun-infer: {type(error).__name__}: {error}"
        voice.last_words(RankVerdict(exit_code=ExitCode.BUG, reason=reason), told=False)
        raise
    voice.last_words(verdict, told=told)
    return verdict.exit_code


def _expect_workers(transport: Transport) -> None:
    if transport.size < 2:
        raise NoWorkerError(
            "no worker rank: mpiexec started 1 process and rank 0 is the master; "
            "use mpiexec -n 5 (1 + 4 workers)"
        )


def _say_farewell(transport: Transport) -> None:
    """Rank 0 is through: now all meet in MPI_Finalize."""
    for rank in range(1, transport.size):
        transport.send(rank, encode(Farewell()))
    transport.flush(FINALIZE_TIMEOUT_S)


def _leave(transport: Transport, exit_code: int) -> None:
    """MPI_Finalize waits for every rank; one that will never come must not hold us."""
    watchdog = threading.Timer(FINALIZE_TIMEOUT_S, os._exit, (exit_code,))
    watchdog.daemon = True
    watchdog.start()
    transport.close()
    watchdog.cancel()


def spare_network_probing(environ: MutableMapping[str, str]) -> None:
    """With all ranks on one host Open MPI need not look for fast networks, which takes a second.

    And shared memory can go where our launcher finds it when the ranks are killed.
    """
    size = environ.get("OMPI_COMM_WORLD_SIZE")
    if size is not None and environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == size:
        environ.setdefault("OMPI_MCA_btl", "^uct,ofi")
        environ.setdefault("OMPI_MCA_mtl", "^ofi")
        shared_memory = environ.get(SHARED_MEMORY_VARIABLE, "")
        if os.path.isdir(shared_memory):
            environ.setdefault("OMPI_MCA_btl_sm_backing_directory", shared_memory)
