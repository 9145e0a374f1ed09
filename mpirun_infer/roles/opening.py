"""What rank 0 does before the first message: the run folder, the lock, the past, the plan.

Owns this order. When it returns a `Run`, this epoch exists: its rows and journal segments are open
and whatever an earlier epoch committed is in the ledger.
Touches: the run folder through `store`, the inputs through `inputs`.
Never:   sends a message.
"""

import json
import os
import platform
import uuid
from dataclasses import dataclass

from mpirun_infer.config import JobConfig
from mpirun_infer.core.entry_plan import ACCEPTABLE, build_plan, changes, fingerprint, refusal
from mpirun_infer.core.events import ListingEnded
from mpirun_infer.core.ledger import Ledger
from mpirun_infer.core.records import Opened
from mpirun_infer.core.terms import Terms
from mpirun_infer.core.threshold import Thresholds
from mpirun_infer.errors import ExitCode, ResumeError, UsageError
from mpirun_infer.inputs.lister import Earlier, Lister
from mpirun_infer.model import LaunchOrder, MiniBatch, Status, nodes_of
from mpirun_infer.roles.journalist import Journalist
from mpirun_infer.store import journal, publish
from mpirun_infer.store import lock as store_lock
from mpirun_infer.store.commit import CommitLimits, Committer
from mpirun_infer.store.last_page import read_status, write_last_page
from mpirun_infer.store.lock import Lock
from mpirun_infer.store.manifest_file import ManifestFile
from mpirun_infer.store.recover import Recovered, replay
from mpirun_infer.store.run_folder import RunFolder, make_script_folders
from mpirun_infer.store.wall import now_text
from mpirun_infer.supervise.source_hash import source_hash


class Listing:
    """`roles.master.Listing` over the lister's thread."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def take(self, count_max: int) -> list[MiniBatch]:
        """See the protocol."""
        return self._lister.take(count_max)

    def unusable(self) -> list[tuple[bytes, str]]:
        """See the protocol."""
        return [(item.path, item.reason) for item in self._lister.unusable()]

    def ended(self) -> ListingEnded | None:
        """See the protocol."""
        return self._lister.finished


@dataclass(frozen=True, slots=True)
class Run:
    """An open epoch."""

    folder: RunFolder
    lock: Lock
    ledger: Ledger
    recovered: Recovered
    terms: Terms
    committer: Committer
    lister: Lister
    journalist: Journalist


class AlreadyCompleteError(Exception):
    """Raised when there is nothing to do: an earlier epoch has completed this very run."""


def open_run(job: JobConfig, order: LaunchOrder, ranks: int) -> Run:
    """Open the next epoch of the run in `job.output`.

    Raises:
        AlreadyCompleteError: with the words for it.
        HeldError, UsageError, ResumeError, StorageError.
    """
    folder = RunFolder(job.output, job.append_row_file_name)
    if order.fresh:
        folder.move_aside()
    folder.prepare()
    make_script_folders(job.outputs.values())
    lock = store_lock.acquire(folder, launch=order.launch)
    try:
        if order.speaks:  # else our launcher, which made it, removes it
            folder.forget_drain()
        return _open_locked(job, order, ranks, folder, lock)
    except BaseException:
        lock.release()
        lock.close()
        raise


def _open_locked(
    job: JobConfig, order: LaunchOrder, ranks: int, folder: RunFolder, lock: Lock
) -> Run:
    script_hash = source_hash(job.entry_script, job.source_directory)
    marks = fingerprint(job, script_hash)
    publish.retire(folder, range(1, lock.epoch))
    ledger = Ledger()
    recovered = replay(folder, ledger.apply, takeover=True, on_progress=lock.beat)
    if recovered.opened is not None:
        changed = changes(recovered.opened.fingerprint, marks)
        if changed and not ledger.finals and not recovered.rows_bytes:
            # Nothing was settled, so nothing can be mixed: a new start in the same folder.
            recovered, ledger = Recovered(), Ledger()
        elif changed and not (order.accept_changes and set(changed) <= ACCEPTABLE):
            raise ResumeError(refusal(job.output, changed))
    if recovered.complete:
        finish_files(job, folder, lock, recovered)
        status = read_status(folder) or Status(epoch=lock.epoch)
        if status.exit_code != ExitCode.OK:  # whoever completed it died before it could say so
            write_last_page(folder, status, ledger, exit_code=ExitCode.OK, reason="")
        raise AlreadyCompleteError(f"{job.output}: complete already, nothing to do")
    folder.keep_job(json.dumps(job.model_dump(), indent=2) + "\n")
    run_id = recovered.run_id or uuid.uuid4().hex[:12]
    earlier = _earlier_manifest(folder, recovered)
    journalist = Journalist(
        folder,
        job,
        epoch=lock.epoch,
        run_id=run_id,
        speaks=order.speaks,
        resumed=ledger.finals if recovered.opened else None,
        fence=lock.superseded,
    )
    lister = Lister(
        [(entry.name, entry.path) for entry in job.inputs],
        job.mini_batch_size,
        lambda: ManifestFile(
            folder, lock.epoch, storage_wait_s=job.storage_wait, notice=journalist.say
        ),
        earlier=earlier,
        skip=ledger.is_final,
        exclude=(job.output,),
    )
    opened = Opened(
        version=journal.FORMAT_VERSION,
        run_id=run_id,
        epoch=lock.epoch,
        fingerprint=marks,
        accepted=recovered.segments,
        started_at=now_text(),
        host=platform.node(),
        pid=os.getpid(),
        launch=order.launch,
    )
    committer = Committer(
        folder,
        lock,
        opened,
        durability=job.durability,
        storage_wait_s=job.storage_wait,
        sync_manifest=lister.sync,
        notice=journalist.say,
        limits=_limits(recovered, order),
    )
    ledger.apply(opened)
    lister.start()
    terms = _terms(job, ranks, f"{run_id}.{lock.epoch}", script_hash, folder)
    return Run(folder, lock, ledger, recovered, terms, committer, lister, journalist)


def finish_files(job: JobConfig, folder: RunFolder, lock: Lock, recovered: Recovered) -> None:
    """Give the rows their final name; repeated until it has happened."""
    if job.output_action == "append_row":
        publish.publish(folder, lock, recovered.segments, recovered.header)
    else:
        publish.discard(folder, lock)


def _limits(recovered: Recovered, order: LaunchOrder) -> CommitLimits:
    """After a loss, hand-outs are written at once: the next loss must find whom to suspect."""
    relaunched = recovered.opened is not None and recovered.opened.launch == order.launch
    return CommitLimits(advisory_s=0.0) if relaunched else CommitLimits()


def _earlier_manifest(folder: RunFolder, recovered: Recovered) -> Earlier | None:
    if recovered.manifest_epoch == 0:
        return None
    listed = recovered.listed
    return Earlier(
        path=folder.manifest(recovered.manifest_epoch),
        complete_bytes=None if listed is None else listed.manifest_bytes,
        needed=recovered.mini_batches_known,
    )


def _terms(job: JobConfig, ranks: int, run_id: str, script_hash: str, folder: RunFolder) -> Terms:
    worker_ranks = ranks - 1
    workers = worker_ranks * job.slots_per_rank
    nodes = job.nodes_wanted or nodes_of(os.environ)
    _expect_wanted(job.workers_for(nodes), workers, job.slots_per_rank)
    plan = build_plan(
        job,
        run_id=run_id,
        script_hash=script_hash,
        workers_per_node=max(1, -(-workers // nodes)),
        nodes=nodes,
    )
    return Terms(
        worker_ranks=worker_ranks,
        slots_per_rank=job.slots_per_rank,
        plan=plan,
        thresholds=Thresholds(
            error_threshold=job.error_threshold,
            mini_batch_error_threshold=job.mini_batch_error_threshold,
            allowed_failed_percent=job.allowed_failed_percent,
        ),
        run_max_try=job.run_max_try,
        append_row=job.output_action == "append_row",
        first_process=folder.next_process_number(),
        min_workers=job.min_workers,
        crash_limit=job.crash_limit,
        first_dispatch_timeout_s=job.first_task_creation_timeout,
        progress_timeout_s=job.progress_timeout_s,
    )


def _expect_wanted(wanted: int | None, workers: int, slots: int) -> None:
    """Our launcher starts as many ranks as the job wants; a user's mpiexec may not."""
    if wanted is not None and -(-wanted // slots) * slots != workers:
        ranks = 1 + -(-wanted // slots)
        raise UsageError(
            f"workers: {wanted} are wanted, but mpiexec started ranks for {workers}; "
            f"use mpiexec -n {ranks} (the master and {ranks - 1} worker ranks), or leave it out"
        )
