"""The nouns: mini-batches, workers, failures, what a runner is told.

Owns the value types that more than one floor speaks of.
Touches: nothing; reads no clock, does no I/O.
Never:   decides anything.

Paths are bytes here, as the file system has them; text is made of them only at the edges
(`os.fsdecode`, that is UTF-8 with surrogateescape).
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

SHARED_MEMORY_VARIABLE = "MPIRUN_INFER_SHARED_MEMORY"
"""Tells ranks that are all on one host of a folder that their launcher removes in any case."""

LIBRARY_PATH_VARIABLE = "MPIRUN_INFER_LIBRARY_PATH"
"""Tells ranks what LD_LIBRARY_PATH was before mpiexec put its own libraries in front."""


class FailureKind(StrEnum):
    """Why a try, or an item, failed; the causes of the final summary."""

    RUN_EXCEPTION = "RUN_EXCEPTION"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    PROCESS_EXIT = "PROCESS_EXIT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    LOAD_ERROR = "LOAD_ERROR"
    LOAD_TIMEOUT = "LOAD_TIMEOUT"
    BAD_RETURN = "BAD_RETURN"
    MISSING_ROWS = "MISSING_ROWS"


class MiniBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one `run()` gets: the items [first_item, first_item + len(paths)) of one input.

    Attributes:
        id: 0-based, over all inputs, in the order of the listing.
        input_index: which of the job's inputs it was cut from.
        first_item: 0-based number of its first item, over all inputs.
        paths: one absolute path per item, as listed.
    """

    id: int
    input_index: int
    first_item: int
    paths: tuple[bytes, ...]

    @property
    def items(self) -> int:
        """How many items it has."""
        return len(self.paths)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed try, told so that a person can act on it.

    Attributes:
        kind: the cause that is counted.
        error: one line: exception and message, signal name, or the rule that was broken.
        where: `score.py:12` or empty.
        process: number of the process, as in the names of its log files; None: no process failed.
        node: the node's name.
        log: the file with the whole stack, relative to the output folder, or empty.
        detail: traceback, stack dump and the last lines of standard error; bounded.
        run_s: seconds in `run()` before it failed.
    """

    kind: FailureKind
    error: str
    where: str = ""
    process: int | None = None
    node: str = ""
    log: str = ""
    detail: str = ""
    run_s: float = 0.0


class TryResult(msgspec.Struct, frozen=True, kw_only=True):
    """A try that succeeded, without its rows.

    Attributes:
        rows: elements or data-frame rows returned.
        body_bytes: length of the formatted rows, header not included.
        header: the line of column names of a DataFrame (`header: true`), or empty.
        crc: CRC-32 (zlib) of the formatted rows, computed in the runner.
        run_s: seconds in `run()`.
        load_s: seconds to load the mini-batch.
        process: number of the process, as in the names of its log files.
    """

    rows: int
    body_bytes: int
    header: bytes = b""
    crc: int = 0
    run_s: float = 0.0
    load_s: float = 0.0
    process: int = 0


class RunnerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines and bounds of one runner; seconds and bytes."""

    init_timeout_s: float
    run_timeout_s: float
    overhead_timeout_s: float
    init_tries_max: int
    rows_bytes_max: int
    term_grace_s: float = 2.0
    unkillable_after_s: float = 30.0


class RunnerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How every runner of a job is started: the same for all workers.

    Attributes:
        python: absolute path of the user's interpreter.
        script: absolute path of the entry script.
        source_directory: the root of the script's own modules, or None.
        module: the name it is imported under (`digit`, `src.entry`).
        sys_path: folders put in front of `sys.path`, in order.
        argv: the whole of `sys.argv`.
        environment: variables set over the inherited ones, the user's last.
        environment_stripped: prefixes of inherited variables that are taken away.
        start_folder: where the run was started from (`Model.get_model_path` looks there).
        output_folder: the run folder, absolute.
        run_id: `<run>.<epoch>`, carried by every descendant in MPIRUN_INFER_RUN_ID.
        script_hash: SHA-256 (hex) of the script and its source_directory; empty: not checked.
        row_options: keys `to_csv`, `row_escape`, `with_source`, `strict_rows`, `summary_only`.
        logging_level: of the root handler in the runner.
    """

    python: str
    script: str
    source_directory: str | None
    module: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    environment: dict[str, str]
    environment_stripped: tuple[str, ...]
    start_folder: str
    output_folder: str
    run_id: str
    script_hash: str
    row_options: dict[str, object]
    logging_level: str
    limits: RunnerLimits


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """Where one worker sits: its cores, threads and GPU.

    Attributes:
        worker: 0-based number of the worker in the job.
        cores: CPU numbers it may use, empty: not pinned.
        threads: what OMP_NUM_THREADS and its kin are set to.
        gpu: the entry for CUDA_VISIBLE_DEVICES, or None without GPUs.
        gpus_on_node: how many GPUs the rank sees on its node.
        node: the node's name.
    """

    worker: int
    cores: tuple[int, ...]
    threads: int
    gpu: str | None
    gpus_on_node: int
    node: str


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank finds on its node before it calls MPI_Init.

    Attributes:
        node: host name.
        cores: CPU numbers of the affinity mask, cut to the cgroup's quota, sorted.
        explicitly_bound: the mask was narrowed by Slurm or the user: it is honoured as it is.
        gpus: entries for CUDA_VISIBLE_DEVICES, in order.
        python: version of our interpreter.
        pid: of the rank.
    """

    node: str
    cores: tuple[int, ...]
    explicitly_bound: bool
    gpus: tuple[str, ...]
    python: str
    pid: int


class LaunchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What rank 0 is asked to do.

    Attributes:
        job: the resolved job as JSON (`config.JobConfig.as_json`).
        launch: names this launch; the epochs of one launcher follow each other without a doubt.
        fresh: move the old run folder aside first (our launcher has done so already).
        accept_changes: keep committed rows although what makes them has changed.
        speaks: rank 0 itself shows progress and errors: no launcher of ours follows the run.
    """

    job: str
    launch: str
    fresh: bool = False
    accept_changes: bool = False
    speaks: bool = False


class RankVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Rank 0's last words to our launcher: one JSON line on its standard output."""

    exit_code: int
    reason: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the `events` file: something a person should see.

    Attributes:
        at: wall-clock time, ISO 8601, UTC.
        level: info, warning or error.
        text: the line for the terminal.
    """

    at: str
    level: str
    text: str


class WorkerCounts(msgspec.Struct, kw_only=True):
    """Workers by state."""

    total: int = 0
    ready: int = 0
    busy: int = 0
    lost: int = 0


class MiniBatchCounts(msgspec.Struct, kw_only=True):
    """Mini-batches by state; `total` is None while the listing goes on."""

    total: int | None = None
    listing: bool = True
    done: int = 0
    running: int = 0
    failed: int = 0


class ItemCounts(msgspec.Struct, kw_only=True):
    """Items by state; `total` is None while the listing goes on."""

    total: int | None = None
    succeeded: int = 0
    failed: int = 0


class FirstFailure(msgspec.Struct, kw_only=True):
    """The first failure of the run, for the top of every report.

    `mini_batch` and `try` are None for what never became part of a mini-batch.
    """

    item: str
    mini_batch: int | None
    try_number: int | None = msgspec.field(name="try")
    error: str
    log: str


class Status(msgspec.Struct, kw_only=True):
    """status.json: where a run stands.

    `state` is one of starting, running, draining, interrupted, complete, failed.
    """

    version: int = 1
    state: str = "starting"
    exit_code: int | None = None
    reason: str | None = None
    epoch: int = 1
    workers: WorkerCounts = msgspec.field(default_factory=WorkerCounts)
    mini_batches: MiniBatchCounts = msgspec.field(default_factory=MiniBatchCounts)
    items: ItemCounts = msgspec.field(default_factory=ItemCounts)
    failures: dict[str, int] = msgspec.field(
        default_factory=lambda: {kind.value: 0 for kind in FailureKind}
    )
    rows: int = 0
    elapsed_s: float = 0.0
    scoring_s: float = 0.0
    items_per_s: float = 0.0
    eta_s: float | None = None
    first_failure: FirstFailure | None = None
    output: str = ""
    updated_at: str = ""


def nodes_of(environ: Mapping[str, str]) -> int:
    """How many nodes Slurm has allocated; 1 outside of an allocation: this host."""
    text = environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES") or "1"
    return max(1, int(text)) if text.isdecimal() else 1


def launch_name(host: str, pid: int, time_ns: int) -> str:
    """The name of a launch: unique, and it tells which process to stop."""
    return f"{host}.{pid}.{time_ns}"


def launch_pid(launch: str, host: str) -> int | None:
    """The process that made this launch's name; None when it was not made on `host`."""
    parts = launch.rsplit(".", 2)
    is_name = len(parts) == 3 and parts[0] == host and parts[1].isdecimal()
    return int(parts[1]) if is_name else None
