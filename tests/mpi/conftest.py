"""Whole runs through the command line, and the judge that every one of them is brought before.

The judge asks of a run: are the rows exactly the expected ones, is the exit code right, does
`status` say the same, is no process, launch file, socket or temporary file left, was it in time.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from waiting import wait_until

import mpirun_infer
from mpirun_infer.launch.mpiexec import find_launcher

SCRIPTS = Path(__file__).parent.parent / "entry_scripts"
WITHIN_S = 60.0
GONE_WITHIN_S = 10.0
LAUNCHED = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "MV2_", "SLURM_", "MPIRUN_INFER_")
RANK_VARIABLES = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")
STATES = {0: "complete", 3: "failed", 4: "failed", 75: "interrupted"}


def command_line():
    """What a user types: the installed command, else the module."""
    beside = Path(sys.executable).with_name("mpirun-infer")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "mpirun_infer"]


def read(*parts):
    """A file of /proc; empty when the process is gone or not ours."""
    try:
        return Path(*parts).read_bytes()
    except OSError:
        return b""


def processes():
    """Every live process: (pid, its environment, its command line, its folder)."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        if read("/proc", name, "stat").rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"], []):
            continue
        try:
            folder = os.readlink(f"/proc/{name}/cwd")
        except OSError:
            folder = ""
        environment, line = read("/proc", name, "environ"), read("/proc", name, "cmdline")
        yield int(name), environment, line, folder


class Run:
    """One command from its start to its end, in a process group of its own."""

    def __init__(self, job, line, environment):
        self._job = job
        self.started_at = time.monotonic()
        with (job.folder / "stdout").open("wb") as out, (job.folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                line,
                cwd=job.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.took_s = 0.0

    @property
    def out(self):
        return (self._job.folder / "stdout").read_text(errors="surrogateescape")

    @property
    def err(self):
        return (self._job.folder / "stderr").read_text(errors="surrogateescape")

    def wait(self, within_s=WITHIN_S):
        """The exit code."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            pytest.fail(f"no end within {within_s} s; it said\n{self.out}\n{self.err}")
        self.took_s = time.monotonic() - self.started_at
        return code

    def kill_group(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(WITHIN_S)


class Job:
    """A folder with files, an entry script, an output folder and a temporary folder."""

    wait_until = staticmethod(wait_until)

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"
        self.output = folder / "out"
        self.temporary = folder / "tmp"
        self.gate = folder / "gate"
        self.runs = []
        self.judged = 0
        for made in (self.data, self.temporary):
            made.mkdir()

    # ------------------------------------------------------------------ what is scored

    def script(self, name):
        shutil.copy(SCRIPTS / name, self.folder / "score.py")

    def files(self, count, names="f{:03d}.txt"):
        """Make them; the rows that rows.py and gated.py have for them."""
        rows = []
        for number in range(count):
            name = names.format(number)
            (self.data / name).write_text(f"text {number}\n")
            rows.append(f"{name}:text {number}")
        return rows

    # ------------------------------------------------------------------ commands

    def environment(self, **more):
        kept = {name: text for name, text in os.environ.items() if not name.startswith(LAUNCHED)}
        if command_line()[0] == sys.executable:
            kept["PYTHONPATH"] = str(Path(mpirun_infer.__file__).parent.parent)
        gate = {"GATE_FILE": str(self.gate), "GATE_AT": "30"}
        return kept | {"TMPDIR": str(self.temporary)} | gate | more

    def start(self, *options, **environment):
        """`mpirun-infer run` with the job's script, data and output, unless given."""
        line = [*command_line(), "run", *self.arguments(options)]
        return self.start_line(line, **environment)

    def arguments(self, options):
        options = [str(option) for option in options]
        if options and options[0].endswith(".yaml"):
            return options
        for name, value in (
            ("--entry-script", "score.py"),
            ("--input", "data"),
            ("--output", "out"),
            ("--workers", "2"),
        ):
            if name not in options:
                options = [name, value, *options]
        return options

    def start_line(self, line, **environment):
        run = Run(self, line, self.environment(**environment))
        self.runs.append(run)
        return run

    def run(self, *options, **environment):
        run = self.start(*options, **environment)
        run.wait()
        return run

    def status(self):
        """(exit code, status) as the command tells them."""
        ended = subprocess.run(
            [*command_line(), "status", str(self.output), "--json"],
            env=self.environment(),
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert ended.stderr == b""
        return ended.returncode, json.loads(ended.stdout)

    # ------------------------------------------------------------------ while it runs

    def records(self, kind):
        """The journal's records of a kind, over all epochs; a torn last line does not count."""
        found = []
        for segment in sorted((self.output / ".mpirun_infer" / "journal").glob("*.jsonl")):
            for line in segment.read_bytes().split(b"\n")[:-1]:
                record = json.loads(line)
                if record["type"] == kind:
                    found.append(record)
        return found

    def wait_for_rows(self, count):
        """Until so many rows are committed."""

        def enough():
            for run in self.runs[-1:]:
                assert run.process.poll() is None, f"it ended early: {run.err}"
            return sum(record["rows"] for record in self.records("committed")) >= count

        wait_until(enough, f"{count} committed rows")

    def open_gate(self):
        self.gate.touch()

    def of_this_job(self):
        """Live processes that carry one of its runs' ids, or its folder in any way."""
        marks = [os.fsencode(self.folder)]
        marks += [
            f"MPIRUN_INFER_RUN_ID={record['run_id']}.".encode() for record in self.records("opened")
        ]
        for pid, environment, line, folder in processes():
            text = b"\0".join((environment, line, os.fsencode(folder) + b"/"))
            if pid != os.getpid() and any(mark in text for mark in marks):
                yield pid, environment, line

    def ranks(self):
        """{rank: pid}."""
        found = {}
        for pid, environment, line in self.of_this_job():
            for variable in environment.split(b"\0"):
                if variable.startswith(RANK_VARIABLES) and b"mpirun" not in os.path.basename(
                    line.split(b"\0")[0]
                ):
                    found[int(variable.partition(b"=")[2])] = pid
        return found

    def mpiexec(self):
        """The pid of the launcher's mpiexec."""
        parent = self.runs[-1].process.pid
        for pid, _, _ in self.of_this_job():
            fields = read("/proc", str(pid), "stat").rpartition(b")")[2].split()
            if fields and int(fields[1]) == parent:
                return pid
        raise AssertionError("no mpiexec")

    def shared_memory(self):
        """What the job's launchers keep there; a user's mpiexec is on its own."""
        names = [name.rpartition(".") for name in os.listdir("/dev/shm")]
        pids = [str(run.process.pid) for run in self.runs]
        return [name for name in names if name[0].startswith("mpirun-infer.") and name[2] in pids]

    def wait_for_state(self, state):
        """Until the master says so."""
        status = self.output / ".mpirun_infer" / "status.json"
        wait_until(lambda: f'"state":"{state}"' in status.read_text(), f"state {state}")

    # ------------------------------------------------------------------ the judge

    def nothing_left(self):
        """No process, launch file, socket, temporary file or shared memory."""
        wait_until(
            lambda: not list(self.of_this_job()),
            "the end of every process: " + str([line for _, _, line in self.of_this_job()]),
            GONE_WITHIN_S,
        )
        control = self.output / ".mpirun_infer" / "control"
        assert list(control.glob("*")) == []
        assert [str(path) for path in self.temporary.rglob("*")] == []
        assert self.shared_memory() == []
        assert not [path for path in self.folder.rglob("*") if path.is_socket()]
        assert not list(self.folder.glob("mpirun-infer-bug-*"))

    def rows(self, name="parallel_run_step.txt"):
        return (self.output / name).read_text(errors="surrogateescape").splitlines()


@pytest.fixture
def job(tmp_path):
    """A job to be run; a test that does not bring it before the judge fails."""
    job = Job(tmp_path)
    yield job
    for run in job.runs:
        run.kill_group()
    for pid, _, _ in job.of_this_job():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert job.judged, "the judge was not asked"


@pytest.fixture
def judge(job):
    """`judge(run, rows, code=0)`: see the module's docstring; rows None: there is no run folder."""

    def judge(run, rows, code=0, *, within_s=30.0, name="parallel_run_step.txt"):
        job.judged += 1
        assert code == run.process.returncode, run.out + run.err
        assert run.took_s < within_s
        job.nothing_left()
        if rows is None:
            return None
        final, partial = job.output / name, job.output / f"{name}.partial"
        if code == 0:
            assert not list(job.output.glob(f"{name}.partial*"))
            assert Counter(rows) == Counter(job.rows(name))
        else:
            assert not final.exists()
            if code == 3:
                assert Counter(rows) == Counter(job.rows(partial.name))
        status_code, status = job.status()
        assert code == status_code
        assert STATES[code] == status["state"]
        assert len(rows) == status["rows"]
        return status

    return judge


@pytest.fixture(scope="session")
def user_mpiexec():
    """How a user starts so many ranks by hand."""
    launcher = find_launcher()
    line = [launcher.path]
    if launcher.family == "openmpi":
        line.append("--oversubscribe")
        if os.geteuid() == 0:
            line.append("--allow-run-as-root")

    def make(ranks):
        return [*line, "-n", str(ranks), *command_line()]

    return make
