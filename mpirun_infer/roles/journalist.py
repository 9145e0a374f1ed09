"""Everything the master tells people while a run goes on and when it ends.

Owns: status.json, events, the reports under logs/, and what goes to the terminal when no launcher
of ours follows the run.
Touches: the run folder, through the `LogSink` thread only; the wall clock, for texts.
Never:   blocks; decides; writes rows or records.
"""

import os
import time
from collections.abc import Callable

import msgspec

from mpirun_infer.config import JobConfig
from mpirun_infer.core.events import Tried
from mpirun_infer.core.overview import overview
from mpirun_infer.core.printable import encodable, printable
from mpirun_infer.core.progress import counted, progress_line, summary_lines
from mpirun_infer.core.scheduler import Scheduler
from mpirun_infer.errors import ExitCode
from mpirun_infer.model import Notice, RankVerdict, Status
from mpirun_infer.store import reports
from mpirun_infer.store.log_sink import LogSink
from mpirun_infer.store.reports import ProcessTotals
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.store.wall import now_text

STATUS_S = 0.5
OVERVIEW_S = 30.0
LOG_BYTES_MAX = 256 << 20
CLOSE_TIMEOUT_S = 10.0
TERMINAL = "/dev/stderr"


class Journalist:
    """`roles.master.Journalist` over the run folder."""

    def __init__(
        self,
        folder: RunFolder,
        job: JobConfig,
        *,
        epoch: int,
        run_id: str,
        speaks: bool,
        resumed: int | None,
        fence: Callable[[], bool],
    ) -> None:
        """Begin the files of this epoch.

        `resumed`: mini-batches settled by earlier epochs; None: nothing is kept of those. `fence`:
        whether another master has taken over (asked in the log thread).
        """
        self._folder = folder
        self._job = job
        self._epoch = epoch
        self._speaks = speaks
        self._sink = LogSink(control_dir=folder.control_dir, root=folder.output, fence=fence)
        self._processes: dict[tuple[str, int], ProcessTotals] = {}
        self._started_at = time.monotonic()
        self._next_status = 0.0
        self._next_overview = OVERVIEW_S
        self._last_line = ""
        if not os.path.exists(folder.processed_mini_batches):
            header = reports.csv_line(reports.MINI_BATCH_COLUMNS)
            self._sink.append(folder.processed_mini_batches, header)
        self._sink.replace(folder.readme, reports.README)
        if epoch > 1 and resumed is None:
            self.say("info", f"run {run_id} begins anew: nothing was settled in this folder")
        elif epoch > 1:
            self.say(
                "info",
                f"run {run_id} goes on (launch {epoch}): {counted(resumed or 0, 'mini-batch')} "
                "settled already",
            )

    def say(self, level: str, text: str) -> None:
        """A line for people; any thread may call it."""
        notice = Notice(at=now_text(), level=level, text=encodable(text))
        self._sink.append(
            self._folder.events_file, msgspec.json.encode(notice) + b"\n", bytes_max=LOG_BYTES_MAX
        )
        if self._speaks:
            self._print(text if level == "info" else f"{level}: {text}")

    def tried(self, tried: Tried) -> None:
        """A try ended."""
        ended = tried.result or tried.failure
        started_at = ""
        if ended is not None and ended.process is not None:
            totals = self._totals(tried, ended.process)
            totals.add(tried)
            totals.last_s = tried.at - self._started_at
            started_at = totals.started_at
        self._sink.append(
            self._folder.processed_mini_batches,
            reports.mini_batch_line(tried, process_started_at=started_at),
            bytes_max=LOG_BYTES_MAX,
        )

    def keep_failure(self, text: str) -> None:
        """A failure, for the list of all."""
        line = f"{now_text()} {printable(text)}\n"
        self._sink.append(self._folder.error_summary, line.encode(), bytes_max=LOG_BYTES_MAX)

    def _totals(self, tried: Tried, process: int) -> ProcessTotals:
        key = (tried.node, process)
        if key not in self._processes:
            self._processes[key] = ProcessTotals(
                node=tried.node,
                process=process,
                started_at=now_text(ago_s=tried.at - tried.ready_at),
                ready_s=tried.ready_at - self._started_at,
            )
        return self._processes[key]

    def status(self, scheduler: Scheduler, now: float) -> None:
        """Keep status.json young, and the overview growing."""
        if now < self._next_status:
            return
        self._next_status = now + STATUS_S
        status = self._status(scheduler, now)
        self._write_status(status)
        if status.elapsed_s >= self._next_overview:
            self._next_overview += OVERVIEW_S
            self._overview(progress_line(status))

    def drain_asked(self) -> bool:
        """Whether somebody asked for a drain."""
        return os.path.basename(self._folder.drain_file) in self._sink.control_requests()

    def close(self, scheduler: Scheduler, now: float, verdict: RankVerdict) -> None:
        """The run has ended this way: the last status and the reports."""
        status = self._status(scheduler, now)
        status.state = _final_state(verdict.exit_code)
        status.exit_code = verdict.exit_code
        status.reason = encodable(verdict.reason) or None
        status.eta_s = None
        if status.state == "complete":
            status.output = self._folder.final
        elif status.state == "failed":
            status.output = self._folder.partial
        if self._job.output_action != "append_row":
            status.output = ""
        lost = self._sink.losses
        if lost.dropped or lost.failed:
            self.say(
                "warning",
                f"logs are not complete: {lost.dropped:,} entries dropped (a slow file "
                f"system), {lost.failed:,} not written ({lost.last_error or 'no error'})",
            )
        summary = summary_lines(status)
        self._overview(progress_line(status))
        self._sink.replace(self._folder.job_result, reports.job_result(status, summary))
        processes = [self._processes[key] for key in sorted(self._processes)]
        self._sink.replace(self._folder.process_summary, reports.process_table(processes))
        self._sink.replace(self._folder.node_summary, reports.node_table(processes))
        self._write_status(status)
        if self._speaks:
            for line in summary:
                self._print(line)
        self._sink.close(CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Another master has taken over: say nothing more."""
        self._sink.close(CLOSE_TIMEOUT_S)

    def _status(self, scheduler: Scheduler, now: float) -> Status:
        rows = self._folder.segment(self._epoch)
        return overview(scheduler, now=now, epoch=self._epoch, output=rows, wall=now_text())

    def _write_status(self, status: Status) -> None:
        if status.first_failure is not None:
            status.first_failure = msgspec.structs.replace(
                status.first_failure, item=encodable(status.first_failure.item)
            )
        status.output = encodable(status.output)
        self._sink.replace(self._folder.status_file, msgspec.json.encode(status) + b"\n")

    def _overview(self, line: str) -> None:
        if line == self._last_line:
            return
        self._last_line = line
        self._sink.append(self._folder.progress_overview, f"{line}\n".encode())
        if self._speaks:
            self._print(line)

    def _print(self, text: str) -> None:
        self._sink.append(TERMINAL, f"{printable(text)}\n".encode())


def _final_state(exit_code: int) -> str:
    match exit_code:
        case ExitCode.OK:
            return "complete"
        case ExitCode.INCOMPLETE | ExitCode.STORAGE:
            return "interrupted"
        case _:
            return "failed"
