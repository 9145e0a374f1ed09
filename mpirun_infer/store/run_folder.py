"""The run folder: every path in it, and the right to use it.

Owns the layout of an output folder. No other module joins path parts of it.
Touches: the output file system: creates the folders, moves a whole run aside.
Never:   opens what stands in them.

    <output>/
      parallel_run_step.txt            the rows, once and only once the run is complete
      parallel_run_step.txt.partial    rows of epoch 1 (.partial.2 of epoch 2, ...) until then
      logs/                            for people
      .mpirun_infer/                   0700: the truth
        version  job.yaml  status.json  events  stdin.list  control/  work/
        lock/1 2 ...                   who holds or held the run, one file an epoch
        journal/000001.jsonl ...       what has happened, one segment an epoch
        manifest/000001.txt ...        what was listed, by the epochs that listed
        rows/1 2 ... final.2           segments of earlier epochs; the file being put together
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator

from mpirun_infer.errors import HeldError, ResumeError, UsageError
from mpirun_infer.store import lock
from mpirun_infer.store.disk import Disk
from mpirun_infer.store.own_file import NO_SPACE, broken, no_room

FOLDER_VERSION = 1
_MARKER = "mpirun_infer run folder, version "
_IN_ROWS_DIR = re.compile(r"(?:final\.)?(\d+)")
_PROCESS_FILE = re.compile(r"process(\d+)\.")


class RunFolder:
    """Paths of one run; makes nothing before `prepare()`."""

    def __init__(self, output: str, append_row_file_name: str) -> None:
        self.output = os.path.abspath(output)
        self.name = append_row_file_name
        self.hidden = os.path.join(self.output, ".mpirun_infer")
        self.version_file = os.path.join(self.hidden, "version")
        self.journal_dir = os.path.join(self.hidden, "journal")
        self.rows_dir = os.path.join(self.hidden, "rows")
        self.lock_dir = os.path.join(self.hidden, "lock")
        self.manifest_dir = os.path.join(self.hidden, "manifest")
        self.control_dir = os.path.join(self.hidden, "control")
        self.drain_file = os.path.join(self.control_dir, "drain")
        self.work_dir = os.path.join(self.hidden, "work")
        self.job_file = os.path.join(self.hidden, "job.yaml")
        self.status_file = os.path.join(self.hidden, "status.json")
        self.events_file = os.path.join(self.hidden, "events")
        self.stdin_list = os.path.join(self.hidden, "stdin.list")
        self.final = os.path.join(self.output, self.name)
        self.logs = os.path.join(self.output, "logs")
        self.user_logs = os.path.join(self.logs, "user")

    # ------------------------------------------------------------------ rows and records

    def segment(self, epoch: int) -> str:
        """Where an epoch writes its rows."""
        suffix = ".partial" if epoch == 1 else f".partial.{epoch}"
        return self.final + suffix

    @property
    def partial(self) -> str:
        """The rows of a run that is not complete, for people."""
        return self.final + ".partial"

    def retired_segment(self, epoch: int) -> str:
        """Where a successor puts the rows of an earlier epoch."""
        return os.path.join(self.rows_dir, str(epoch))

    def rows_file(self, epoch: int) -> str | None:
        """Where the rows of an epoch are now, or None."""
        for path in (self.retired_segment(epoch), self.segment(epoch)):
            if os.path.exists(path):
                return path
        return None

    def assembled(self, epoch: int) -> str:
        """The file that an epoch is about to publish."""
        return os.path.join(self.rows_dir, f"final.{epoch}")

    def leftovers(self, epoch: int) -> list[str]:
        """Segments, and what was about to be published, of the epochs up to this one."""
        segment = re.compile(rf"{re.escape(self.name)}\.partial(?:\.(\d+))?")
        return [
            os.path.join(folder, name)
            for folder, pattern in ((self.output, segment), (self.rows_dir, _IN_ROWS_DIR))
            for name in os.listdir(folder)
            if (match := pattern.fullmatch(name)) and int(match[1] or 1) <= epoch
        ]

    def from_lock_dir(self, path: str) -> str:
        """How a path is reached from the lock folder, wherever the run is moved meanwhile."""
        return os.path.relpath(path, self.lock_dir)

    def journal_segment(self, epoch: int) -> str:
        """The records of an epoch."""
        return os.path.join(self.journal_dir, f"{epoch:06d}.jsonl")

    def journal_epochs(self) -> list[int]:
        """Epochs that have a journal segment, in order."""
        try:
            names = os.listdir(self.journal_dir)
        except FileNotFoundError:
            return []
        return sorted(int(name[:-6]) for name in names if re.fullmatch(r"\d{6,}\.jsonl", name))

    def epochs_with_files(self) -> list[int]:
        """Epochs that were begun, or have rows to retire, in order."""
        segment = re.compile(rf"{re.escape(self.name)}\.partial(?:\.(\d+))?")
        found = {
            int(match[1] or 1)
            for folder, pattern in (
                (self.output, segment),
                (self.rows_dir, _IN_ROWS_DIR),
                (self.lock_dir, re.compile(r"(\d+)")),
            )
            for name in os.listdir(folder)
            if (match := pattern.fullmatch(name))
        }
        return sorted(found)

    def manifest(self, epoch: int) -> str:
        """The mini-batches that an epoch listed."""
        return os.path.join(self.manifest_dir, f"{epoch:06d}.txt")

    def launch_file(self, launch: str) -> str:
        """What a launcher orders its rank 0 to do."""
        return os.path.join(self.control_dir, f"launch.{launch}.json")

    def node_work_folder(self, node: str) -> str:
        """Where the private folders of a node's processes are."""
        return _inside(self.work_dir, node)

    def work_folder(self, node: str, process: int) -> str:
        """The private folder of a process."""
        return _inside(self.work_dir, node, f"process{process:03d}")

    # ------------------------------------------------------------------ logs

    def _log(self, *parts: str) -> str:
        return _inside(self.logs, *parts)

    @property
    def readme(self) -> str:
        """What is where, for people."""
        return self._log("readme.txt")

    @property
    def progress_overview(self) -> str:
        """Progress lines, one under the other."""
        return self._log("job_progress_overview.txt")

    @property
    def job_result(self) -> str:
        """Success, or failure with the reason first."""
        return self._log("job_result.txt")

    @property
    def error_summary(self) -> str:
        """All failures, short."""
        return self._log("user", "error.txt")

    @property
    def processed_mini_batches(self) -> str:
        """A line for each try that ended."""
        return self._log("sys", "job_report", "processed_mini-batches.csv")

    @property
    def process_summary(self) -> str:
        """A line for each process."""
        return self._log("sys", "job_report", "process_summary.csv")

    @property
    def node_summary(self) -> str:
        """A line for each node."""
        return self._log("sys", "job_report", "node_summary.csv")

    def user_stdout(self, node: str, process: int) -> str:
        """Standard output of a runner."""
        return self._log("user", "stdout", node, f"process{process:03d}.stdout.txt")

    def user_stderr(self, node: str, process: int) -> str:
        """Standard error of a runner."""
        return self._log("user", "stderr", node, f"process{process:03d}.stderr.txt")

    def entry_script_log(self, node: str, process: int) -> str:
        """What the script says through `EntryScript().logger`."""
        return self._log("user", "entry_script_log", node, f"process{process:03d}.log.txt")

    def user_error(self, node: str, process: int) -> str:
        """Failures in a runner, with whole stacks."""
        return self._log("user", "error", node, f"process{process:03d}.txt")

    def user_metrics(self, node: str, process: int) -> str:
        """What the script says through `Run.log`, JSON lines."""
        return self._log("user", "metrics", node, f"process{process:03d}.jsonl")

    def rank_log(self, node: str, rank: int) -> str:
        """What a rank has to say."""
        return self._log("sys", node, f"rank{rank:03d}.txt")

    def relative(self, path: str) -> str:
        """As people should see it: from the output folder."""
        return os.path.relpath(path, self.output)

    # ------------------------------------------------------------------ the folder itself

    def is_ours(self) -> bool:
        """Whether a run has been here; UsageError when that cannot be known."""
        try:
            return stat.S_ISREG(os.stat(self.version_file).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(
                f"{self.version_file}: cannot be read: {why}; see to its rights, or give another "
                "output folder: --output"
            ) from error

    def prepare(self) -> None:
        """Create what is missing.

        UsageError when the folder is foreign or cannot be written, StorageError without space.
        """
        try:
            os.makedirs(self.output, exist_ok=True)
            self._check_foreign()
            os.makedirs(self.hidden, mode=0o700, exist_ok=True)
            self._check_hidden()
            self._mark()
            for folder in (
                self.journal_dir,
                self.rows_dir,
                self.lock_dir,
                self.manifest_dir,
                self.control_dir,
            ):
                os.makedirs(folder, mode=0o700, exist_ok=True)
            os.makedirs(self.logs, exist_ok=True)
            for folder in (self.hidden, self.output):
                Disk().fsync_folder(folder)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise no_room(self.output, error) from error
            raise UsageError(
                f"{self.output}: cannot be used as the output folder: {error.strerror}"
                f"{_named(error, self.output)}; give another one: --output"
            ) from error
        if not os.access(self.output, os.W_OK | os.X_OK):
            raise UsageError(
                f"{self.output}: cannot be written; give another output folder: --output"
            )

    def _check_foreign(self) -> None:
        names = set(os.listdir(self.output))
        if not names or self.is_ours():
            return
        # A run that died while it made its marker leaves an empty hidden folder behind.
        if names == {".mpirun_infer"} and self._only_marker_beginnings():
            return
        raise UsageError(
            f"{self.output}: not empty, and not the output of an earlier run; give an empty or "
            "a new folder: --output"
        )

    def _only_marker_beginnings(self) -> bool:
        if os.path.islink(self.hidden) or not os.path.isdir(self.hidden):
            return False
        return all(name.startswith("version") for name in os.listdir(self.hidden))

    def _check_hidden(self) -> None:
        facts = os.lstat(self.hidden)
        if not stat.S_ISDIR(facts.st_mode):
            raise UsageError(
                f"{self.hidden}: is a link or a file, not a folder; give another output "
                "folder: --output"
            )
        if facts.st_uid != os.geteuid():
            raise UsageError(
                f"{self.hidden}: belongs to user {facts.st_uid}, not to you ({os.geteuid()}); "
                "give another output folder: --output"
            )
        if stat.S_IMODE(facts.st_mode) & 0o077:
            os.chmod(self.hidden, 0o700)

    def _mark(self) -> None:
        try:
            with open(self.version_file, encoding="ascii", errors="replace") as file:
                text = file.read(200)
        except FileNotFoundError:
            draft = f"{self.version_file}.{os.getpid()}"
            with open(draft, "w", encoding="ascii") as file:
                file.write(f"{_MARKER}{FOLDER_VERSION}\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(draft, self.version_file)
            return
        if text != f"{_MARKER}{FOLDER_VERSION}\n":
            raise ResumeError(
                f"{self.version_file}: says {text.strip()!r}, this version knows version "
                f"{FOLDER_VERSION}; use the version that made the folder, or --fresh"
            )

    def forget_drain(self) -> None:
        """Remove a request to drain that was meant for an earlier launch."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.drain_file)

    def keep_job(self, text: str) -> None:
        """The job as resolved, for people; it may hold secrets (environment_variables)."""
        draft = f"{self.job_file}.new"
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
                os.fchmod(fd, 0o600)
                file.write(text)
            os.replace(draft, self.job_file)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise no_room(self.output, error) from error
            raise broken(self.job_file, error) from error

    def move_aside(self) -> str:
        """Rename the whole run to `<output>.old-<n>`; its new name, or "" if there was none.

        The run is taken over first, so that a master that still lives (HeldError), or wakes up
        later, does no harm to the run that comes in its place.
        """
        if not os.path.lexists(self.output) or not os.listdir(self.output):
            return ""
        if not self.is_ours():
            raise UsageError(
                f"{self.output}: is not the output of an earlier run, so --fresh does not move it; "
                "give an empty or a new folder: --output"
            )
        os.makedirs(self.lock_dir, mode=0o700, exist_ok=True)
        held = lock.acquire(self, launch="")
        try:
            if held.superseded() or not os.path.samestat(
                os.fstat(held.folder_fd), os.stat(self.lock_dir)
            ):
                raise HeldError(f"{self.output}: another --fresh was faster; try again")
            for number in range(1, 1_000_000):
                target = f"{self.output}.old-{number}"
                if os.path.lexists(target):
                    continue
                try:
                    os.rename(self.output, target)
                except OSError as error:
                    if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                        continue
                    raise UsageError(
                        f"{self.output}: cannot be moved to {target}: {error.strerror}"
                    ) from error
                return target
        finally:
            held.release()
            held.close()
        raise UsageError(f"{self.output}: there are too many {self.output}.old-*; remove some")

    def next_process_number(self) -> int:
        """One more than the highest number in the names of log files."""
        return 1 + max(self._process_numbers(), default=-1)

    def _process_numbers(self) -> Iterator[int]:
        for _folder, _folders, names in os.walk(self.user_logs):
            for name in names:
                match = _PROCESS_FILE.match(name)
                if match:
                    yield int(match[1])


def make_script_folders(paths: Iterable[str]) -> None:
    """Create what a script writes to itself (`outputs`); UsageError when that is impossible."""
    for path in paths:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise no_room(path, error) from error
            raise UsageError(f"outputs: {path}: cannot be made: {error.strerror}") from error


def _inside(folder: str, *parts: str) -> str:
    """A path in a folder: no part, a node's name for instance, leads out of it."""
    return os.path.join(folder, *(part.replace("/", "_") or "_" for part in parts))


def _named(error: OSError, known: str) -> str:
    """`: path`, when the error is about something else than what the sentence names."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else known
    return "" if name == known else f": {name}"
