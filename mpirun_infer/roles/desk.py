"""Where a worker rank leaves what is not for the master: its runners' output and its own log.

Owns the paths of one rank's logs and the caps on them.
Touches: the run folder's logs, through the `LogSink` thread only.
Never:   blocks the rank's main thread on a file.
"""

from mpirun_infer.store.log_sink import LogSink
from mpirun_infer.store.run_folder import RunFolder

LOG_BYTES_MAX = 64 << 20
"""Of one file; what a runner prints beyond that is dropped and counted."""


class RankDesk:
    """`supervise.supervisor.Desk` over the run folder."""

    def __init__(self, folder: RunFolder, sink: LogSink, node: str, rank: int) -> None:
        self._folder = folder
        self._sink = sink
        self._node = node
        self._rank_log = folder.rank_log(node, rank)

    def write(self, kind: str, process: int, data: bytes) -> None:
        """Keep output; `kind` is stdout, stderr or error."""
        match kind:
            case "stdout":
                path = self._folder.user_stdout(self._node, process)
            case "stderr":
                path = self._folder.user_stderr(self._node, process)
            case _:
                path = self._folder.user_error(self._node, process)
        self._sink.append(path, data, bytes_max=LOG_BYTES_MAX)

    def say(self, text: str) -> None:
        """A line of the rank's own log."""
        self._sink.append(self._rank_log, f"{text}\n".encode("utf-8", "backslashreplace"))

    def error_log(self, process: int) -> str:
        """The file of a process's full stacks, relative to the output folder."""
        return self._folder.relative(self._folder.user_error(self._node, process))

    def working_folder(self, process: int) -> str:
        """The private folder of a process."""
        return self._folder.work_folder(self._node, process)

    def folders(self, process: int) -> dict[str, str]:
        """What the runner must know of the run folder."""
        return {
            "output_dir": self._folder.output,
            "log_dir": self._folder.user_logs,
            "working_dir": self._folder.node_work_folder(self._node),
            "metrics": self._folder.user_metrics(self._node, process),
            "entry_log": self._folder.entry_script_log(self._node, process),
        }
