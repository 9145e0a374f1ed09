"""The supervisor over a real spawner, zygote and runner; scripts that do what one must not do."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpirun_infer import child as child_package
from mpirun_infer.core.entry_plan import LAUNCHER_PREFIXES
from mpirun_infer.core.messages import Ready, Result, Retired, Returned
from mpirun_infer.model import FailureKind, MiniBatch, RunnerLimits, RunnerPlan, Seat
from mpirun_infer.supervise.poller import READ, Poller
from mpirun_infer.supervise.spawner import Exited, Spawner, SpawnFailed, ZygoteLostError
from mpirun_infer.supervise.supervisor import State, Supervisor

SCRIPT = Path(__file__).parent.parent / "entry_scripts" / "misbehaves.py"
WITHIN_S = 30.0
LINES = SCRIPT.read_text().splitlines()


def line_of(code):
    """`misbehaves.py:12`, where the code stands."""
    return f"misbehaves.py:{1 + next(n for n, line in enumerate(LINES) if code in line)}"


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Desk:
    """Keeps what is written in memory."""

    def __init__(self, folder):
        self.folder = folder
        self.written = {"stdout": bytearray(), "stderr": bytearray(), "error": bytearray()}

    def write(self, kind, _process, data):
        self.written[kind] += data

    def error_log(self, process):
        return f"logs/process{process:03d}.txt"

    def working_folder(self, process):
        return str(self.folder / f"process{process:03d}")

    def folders(self, _process):
        folder = str(self.folder)
        names = ("output_dir", "log_dir", "working_dir")
        files = {"metrics": f"{folder}/metrics", "entry_log": f"{folder}/entry_log"}
        return dict.fromkeys(names, folder) | files


class Worker:
    """One supervisor and what it said."""

    def __init__(self, folder, *, script=SCRIPT, python=sys.executable, gpu=None, **limits):
        self.desk = Desk(folder)
        self.messages = []
        self.zygote_lost = None
        bounds = {
            "init_timeout_s": WITHIN_S,
            "run_timeout_s": WITHIN_S,
            "overhead_timeout_s": WITHIN_S,
            "init_tries_max": 3,
            "rows_bytes_max": 1 << 30,
            "term_grace_s": 0.3,
        }
        self.plan = RunnerPlan(
            python=python,
            script=str(script),
            source_directory=None,
            module=script.stem,
            sys_path=(str(script.parent),),
            argv=(str(script),),
            environment={"MARKS": str(folder), "MINE": "set by the user"},
            environment_stripped=LAUNCHER_PREFIXES,
            start_folder=str(folder),
            output_folder=str(folder),
            run_id="test.1",
            script_hash="",
            row_options={},
            logging_level="INFO",
            limits=RunnerLimits(**(bounds | limits)),
        )
        self.cores = tuple(sorted(os.sched_getaffinity(0)))[:1]
        seat = Seat(worker=0, cores=self.cores, threads=3, gpu=gpu, gpus_on_node=4, node="n1")
        self.spawner = Spawner()
        self.poller = Poller()
        self.poller.register(self.spawner.fileno(), READ, self._hear)
        self.supervisor = Supervisor(
            seat,
            self.plan,
            1,
            processes=range(100),
            spawner=self.spawner,
            poller=self.poller,
            desk=self.desk,
        )
        self.batches = 0

    def _hear(self):
        try:
            events = self.spawner.poll()
        except ZygoteLostError as error:
            self.zygote_lost = error
            self.poller.unregister(self.spawner.fileno())
            self.supervisor.abandon()
            return
        for event in events:
            match event:
                case Exited():
                    self.supervisor.exited(event)
                case SpawnFailed():
                    self.supervisor.spawn_failed(event)
                case _:
                    pass

    def until(self, condition, what):
        """Drive it until the condition holds."""
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}; so far: {self.messages}"
            self.poller.wait(0.02)
            self.supervisor.check(time.monotonic())
            self.messages += self.supervisor.take()

    def said(self, kind):
        return [message for message, _ in self.messages if isinstance(message, kind)]

    def start(self, readies=1):
        if self.supervisor.processes_started == 0:
            self.supervisor.start(time.monotonic())
        self.until(lambda: len(self.said(Ready)) >= readies, "ready")
        return self

    def submit(self, *names, try_number=1):
        """A mini-batch for each name."""
        tries = []
        for name in names:
            paths = (b"/data/" + name.encode(),)
            batch = MiniBatch(id=self.batches, input_index=0, first_item=self.batches, paths=paths)
            tries.append((batch, try_number))
            self.batches += 1
        self.supervisor.submit(tries)

    def outcomes(self, count):
        """[(outcome, rows)], once there are so many."""

        def found():
            pairs = []
            for message, body in self.messages:
                start = 0
                for outcome in message.outcomes if isinstance(message, Result) else ():
                    end = start + (outcome.result.body_bytes if outcome.result else 0)
                    pairs.append((outcome, bytes(body[start:end]).decode()))
                    start = end
            return pairs

        self.until(lambda: len(found()) >= count, f"{count} outcomes")
        assert len(found()) == count
        return found()

    def one(self, name):
        """The outcome of one mini-batch, and its rows."""
        self.submit(name)
        return self.outcomes(self.batches)[-1]

    def failure(self, name):
        outcome, rows = self.one(name)
        assert rows == ""
        assert outcome.result is None
        return outcome.failure

    def works_again(self):
        """A fresh process takes its place and scores."""
        self.start(readies=2)
        assert self.one("ok")[1] == "ok\n"
        assert self.supervisor.processes_started == 2
        assert self.said(Retired) == []
        return True

    def close(self):
        self.supervisor.release(time.monotonic(), at_once=True)
        if self.zygote_lost is None:
            self.until(lambda: self.supervisor.state is State.CLOSED, "the end")
        self.poller.close()
        self.spawner.close()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    environment = Path(f"/proc/{name}/environ").read_bytes()
                except OSError:
                    continue
                assert os.fsencode(f"MARKS={self.desk.folder}") not in environment


@pytest.fixture
def make(tmp_path):
    """Workers that leave no process behind."""
    workers = []

    def make(**options):
        workers.append(Worker(tmp_path, **options))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


# --------------------------------------------------------------------------- run() goes wrong


def test_rows_come_back_in_the_order_of_the_hand_out(make):
    worker = make().start()
    worker.submit("a", "b", "c")
    assert [rows for _, rows in worker.outcomes(3)] == ["a\n", "b\n", "c\n"]
    outcome, _ = worker.outcomes(3)[0]
    assert (outcome.mini_batch, outcome.try_number, outcome.result.rows) == (0, 1, 1)
    assert worker.supervisor.idle


def test_an_exception_fails_the_try_and_the_process_lives_on(make):
    worker = make().start()
    failure = worker.failure("raises")
    assert failure.kind is FailureKind.RUN_EXCEPTION
    assert failure.error == "ValueError: cannot read raises"
    assert failure.where == line_of('raise ValueError("cannot')
    assert "Traceback" in failure.detail
    assert b"mini-batch 0, try 1: RUN_EXCEPTION" in worker.desk.written["error"]
    assert worker.one("ok")[1] == "ok\n"
    assert worker.supervisor.processes_started == 1


def test_a_second_try_may_succeed(make):
    worker = make().start()
    assert worker.failure("raises_once").kind is FailureKind.RUN_EXCEPTION
    worker.submit("raises_once", try_number=2)
    outcome, rows = worker.outcomes(2)[1]
    assert (outcome.try_number, rows) == (2, "raises_once\n")


def test_sys_exit_in_run_fails_the_try_alone(make):
    worker = make().start()
    failure = worker.failure("sys_exit")
    assert (failure.kind, failure.error) == (
        FailureKind.RUN_EXCEPTION,
        "run() called sys.exit(3)",
    )
    assert worker.one("ok")[1] == "ok\n"


def test_a_segfault_is_blamed_on_its_mini_batch_with_signal_and_line(make):
    worker = make().start()
    failure = worker.failure("segfault")
    assert failure.kind is FailureKind.PROCESS_EXIT
    assert failure.error == "runner killed by SIGSEGV in run()"
    assert failure.where == line_of("ctypes.string_at(0)")
    assert (failure.process, failure.node, failure.log) == (0, "n1", "logs/process000.txt")
    assert "Segmentation fault" in failure.detail
    assert worker.works_again()


def test_what_the_dead_process_had_besides_goes_back_uncharged(make):
    worker = make().start()
    worker.one("ok")  # short runs: the next ones are handed over ahead
    worker.submit("ok", "segfault", "ok", "ok")
    outcomes = worker.outcomes(3)
    assert [outcome.failure is None for outcome, _ in outcomes] == [True, True, False]
    assert outcomes[2][0].mini_batch == 2
    worker.until(lambda: worker.said(Returned), "what comes back")
    (returned,) = worker.said(Returned)
    assert (returned.mini_batches, returned.ready) == ((3, 4), False)
    worker.start(readies=2)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("os_exit", "runner exited with status 0 in run() (os._exit, or an exit in C code)"),
        ("kill", "runner killed by SIGKILL in run() (the kernel's out-of-memory killer, or"),
    ],
)
def test_the_end_of_the_process_is_no_success(make, name, error):
    worker = make().start()
    failure = worker.failure(name)
    assert failure.kind is FailureKind.PROCESS_EXIT
    assert failure.error.startswith(error)
    assert worker.works_again()


@pytest.mark.parametrize("name", ["sleep", "loop", "hang_in_c", "ignores_term", "stop"])
def test_a_hang_is_over_at_its_deadline(make, name):
    worker = make(run_timeout_s=0.5).start()
    began = time.monotonic()
    failure = worker.failure(name)
    assert failure.kind is FailureKind.RUN_TIMEOUT
    assert failure.error == "run() took longer than 0.5 s (run_invocation_timeout)"
    assert time.monotonic() - began < 10
    code = {"sleep": 'name == "sleep"', "hang_in_c": "pthread_mutex_lock"}
    place, _, line = line_of(code.get(name, 'while name in ("loop"')).partition(":")
    if name != "stop":  # a stopped process cannot tell where it is
        assert failure.where in {f"{place}:{line}", f"{place}:{int(line) + 1}"}
    assert worker.works_again()


def test_a_script_that_closes_all_descriptors_is_told_so(make):
    worker = make().start()
    failure = worker.failure("close_all")
    assert failure.kind is FailureKind.PROCESS_EXIT
    assert "closed" in failure.error
    assert worker.works_again()


def test_garbage_on_every_descriptor_ends_the_process(make):
    worker = make().start()
    failure = worker.failure("garbage")
    assert failure.kind is FailureKind.PROCESS_EXIT
    assert "the runner's connection broke" in failure.error
    assert "descriptors that it did not open" in failure.error
    assert worker.works_again()


FORGERIES = (
    "forge_result",
    "forge_ready",
    "forge_run_s",
    "forge_rows",
    "forge_truth",
    "forge_crc",
    "forge_failure",
)


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forged_frame_is_believed_and_its_mini_batch_fails(make, name):
    worker = make().start()
    failure = worker.failure(name)
    assert failure.kind is FailureKind.PROCESS_EXIT
    assert "a frame that makes no sense" in failure.error
    assert worker.works_again()


def test_megabytes_without_a_newline_arrive_whole(make):
    worker = make().start()
    assert worker.one("flood")[1] == "flood\n"
    stdout = worker.desk.written["stdout"]
    worker.until(lambda: len(stdout) == 4 << 20, "all of it")
    assert set(stdout) == {ord("x")}


def test_a_daemon_dies_with_its_process(make):
    worker = make().start()
    pid = int(worker.one("daemon")[1])
    assert is_alive(pid)
    worker.supervisor.release(time.monotonic(), at_once=False)
    worker.until(lambda: worker.supervisor.state is State.CLOSED, "the end")
    assert not is_alive(pid)


def test_a_daemon_of_a_process_that_died_is_dead_before_the_next_one_starts(make, tmp_path):
    worker = make().start()
    worker.failure("daemon_then_exit")
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert worker.works_again()


# --------------------------------------------------------------------------- init() goes wrong


@pytest.fixture
def bad_init(make, monkeypatch):
    def started(how, **options):
        monkeypatch.setenv("INIT", how)
        worker = make(**options)
        worker.supervisor.start(time.monotonic())
        return worker

    return started


def test_three_bad_inits_in_a_row_retire_the_worker(bad_init):
    worker = bad_init("raises")
    worker.until(lambda: worker.said(Retired), "retired")
    (retired,) = worker.said(Retired)
    assert retired.reason.startswith("OSError: no model here, misbehaves.py:")
    assert retired.reason.endswith("; log logs/process002.txt")
    assert "Traceback" in retired.detail
    assert not retired.usage_error
    assert worker.supervisor.processes_started == 3
    assert worker.supervisor.state is State.CLOSED
    assert worker.desk.written["error"].count(b"no model here") >= 3


def test_one_bad_init_is_forgiven(bad_init):
    worker = bad_init("raises once")
    worker.start()
    assert worker.supervisor.processes_started == 2
    assert worker.one("ok")[1] == "ok\n"


def test_an_init_that_dies_says_how(bad_init):
    worker = bad_init("dies", init_tries_max=1)
    worker.until(lambda: worker.said(Retired), "retired")
    assert worker.said(Retired)[0].reason.startswith("runner exited with status 9 in init()")


def test_an_init_that_hangs_is_over_at_its_deadline(bad_init):
    worker = bad_init("hangs", init_tries_max=1, init_timeout_s=1.0)
    worker.until(lambda: worker.said(Retired), "retired")
    (retired,) = worker.said(Retired)
    assert retired.reason.startswith("import and init() took longer than 1 s (init_timeout)")
    assert line_of("how == ").partition(":")[0] in retired.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = 1\n", "run("), ("def run(mini_batch)\n    pass\n", "SyntaxError")],
)
def test_a_script_that_can_never_work_is_a_usage_error_at_once(make, tmp_path, text, words):
    script = tmp_path / "score.py"
    script.write_text(text)
    worker = make(script=script)
    worker.supervisor.start(time.monotonic())
    worker.until(lambda: worker.said(Retired), "retired")
    (retired,) = worker.said(Retired)
    assert retired.usage_error
    assert words in retired.reason
    assert worker.supervisor.processes_started == 1


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/bin/cat"])
def test_an_interpreter_that_is_no_python(make, program):
    worker = make(python=program)
    worker.supervisor.start(time.monotonic())
    worker.until(lambda: worker.said(Retired), "retirement")
    (message,) = worker.said(Retired)
    assert message.usage_error
    assert message.reason.startswith(f"{program} did not start as a Python >= 3.8 (")
    assert "give environment: {python: PATH}" in message.reason
    assert worker.supervisor.processes_started == 1


OLD_PYTHON = """#!{python}
import os, socket, sys
sys.path.insert(0, {child!r})
import wire
fd = int(sys.argv[2])
wire.send(fd, {{"type": "hello", "python": {version!r}}})
answer = os.read(fd, 1 << 16)
open({told!r}, "ab").write(answer)
"""


@pytest.mark.parametrize("version", ["3.7.17", "2.7.18"])
def test_a_python_that_is_too_old_is_not_given_the_job(make, tmp_path, version):
    old, told = tmp_path / "python", tmp_path / "told"
    child = str(Path(child_package.__file__).parent)
    text = OLD_PYTHON.format(python=sys.executable, child=child, version=version, told=str(told))
    old.write_text(text)
    old.chmod(0o755)
    worker = make(python=str(old))
    worker.supervisor.start(time.monotonic())
    worker.until(lambda: worker.said(Retired), "retirement")
    (message,) = worker.said(Retired)
    assert message.usage_error
    assert f"{old} did not start as a Python >= 3.8 (it is Python {version})" in message.reason
    assert b"shutdown" in told.read_bytes()
    assert b"init" not in told.read_bytes()


def test_a_later_death_before_hello_is_not_the_interpreters_fault(make, tmp_path):
    """A worker whose processes have said hello once has a Python: it is tried again as ever."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    worker = make(python=str(python)).start()
    python.unlink()
    python.symlink_to("/bin/true")
    worker.submit("segfault")
    worker.until(lambda: worker.said(Retired), "retirement")
    (message,) = worker.said(Retired)
    assert not message.usage_error
    assert "did not start as a Python" not in message.reason
    assert worker.supervisor.processes_started == 4


def test_an_interpreter_that_is_not_there(make):
    worker = make(python="/no/such/python", init_tries_max=2)
    worker.supervisor.start(time.monotonic())
    worker.until(lambda: worker.said(Retired), "retired")
    (retired,) = worker.said(Retired)
    assert "/no/such/python" in retired.reason
    assert "No such file or directory" in retired.reason


# --------------------------------------------------------------------------- the role speaks


def test_an_environment_that_is_too_large_is_told_with_its_size(make, monkeypatch):
    for number in range(12):
        monkeypatch.setenv(f"LARGE_{number}", "x" * 100_000)
    worker = make()
    worker.supervisor.start(time.monotonic())
    worker.until(lambda: worker.said(Retired), "the end")
    (retired,) = worker.said(Retired)
    assert re.search(r"environment and arguments of \d+ bytes are too large", retired.reason)


def test_an_environment_that_the_kernel_will_not_send_is_told_too(make, monkeypatch):
    worker = make()
    worker.spawner._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
    monkeypatch.setenv("LARGE", "x" * 100_000)
    worker.supervisor.start(time.monotonic())
    worker.until(lambda: worker.said(Retired), "the end")
    assert "bytes are too large" in worker.said(Retired)[0].reason


def test_revoke_gives_back_what_waits_and_answers_even_when_nothing_does(make):
    worker = make(run_timeout_s=0.5).start()
    worker.submit("sleep", "ok", "ok")
    worker.supervisor.revoke()
    worker.until(lambda: worker.said(Returned), "what comes back")
    (first,) = worker.said(Returned)
    assert (first.mini_batches, first.ready) == ((1, 2), True)
    worker.supervisor.revoke()
    worker.until(lambda: len(worker.said(Returned)) == 2, "the second answer")
    assert worker.said(Returned)[1].mini_batches == ()
    assert worker.outcomes(1)[0][0].failure.kind is FailureKind.RUN_TIMEOUT
    worker.start(readies=2)


def test_what_is_submitted_while_it_starts_comes_back(make):
    worker = make()
    worker.supervisor.start(time.monotonic())
    worker.submit("ok")
    worker.until(lambda: worker.said(Returned), "what comes back")
    assert (worker.said(Returned)[0].mini_batches, worker.said(Returned)[0].ready) == ((0,), False)
    worker.start()
    assert worker.outcomes(0) == []


def test_a_polite_release_lets_the_script_shut_down(make, tmp_path):
    worker = make().start()
    worker.supervisor.release(time.monotonic(), at_once=False)
    worker.until(lambda: worker.supervisor.state is State.CLOSED, "the end")
    assert (tmp_path / "shutdown").exists()


def test_a_release_at_once_does_not(make, tmp_path):
    worker = make().start()
    worker.submit("sleep")
    worker.supervisor.release(time.monotonic(), at_once=True)
    began = time.monotonic()
    worker.until(lambda: worker.supervisor.state is State.CLOSED, "the end")
    assert time.monotonic() - began < 5
    assert not (tmp_path / "shutdown").exists()
    assert worker.outcomes(0) == []


def test_running_tells_what_is_being_done(make):
    worker = make(run_timeout_s=1.0).start()
    worker.submit("sleep")
    now = time.monotonic
    worker.until(lambda: worker.supervisor.running(now()) is not None, "a sign of work")
    number, mini_batch, phase, seconds = worker.supervisor.running(now())
    assert (number, mini_batch, phase) == (0, 0, "run")
    assert 0 <= seconds < WITHIN_S
    worker.outcomes(1)


def test_the_death_of_the_zygote_is_told_and_takes_the_runner_along(make):
    worker = make().start()
    pid = int(worker.one("daemon")[1])
    os.kill(worker.spawner._process.pid, signal.SIGKILL)
    worker.until(lambda: worker.zygote_lost is not None, "the news")
    assert "the zygote is gone" in str(worker.zygote_lost)
    assert worker.supervisor.state is State.CLOSED
    # What a script detached is found by its mark later (`supervise.sweep`); here by us.
    if is_alive(pid):
        os.kill(pid, signal.SIGKILL)
    wait = worker.spawner._process.wait
    assert wait(WITHIN_S) == -signal.SIGKILL
    worker.until(lambda: not is_alive(pid), "the end of the daemon")


# --------------------------------------------------------------------------- what a runner finds


def facts(worker):
    return json.loads(worker.one("facts")[1])


def test_environment_folder_and_cores(make, monkeypatch, tmp_path):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "PRTE_X", "HYDRA_X", "I_MPI_X"):
        monkeypatch.setenv(name, "4")
    monkeypatch.setenv("AZUREML_ARM_SUBSCRIPTION", "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("KEPT", "yes")
    worker = make(gpu="GPU-1234").start()
    folder, cores, environment, _ = facts(worker)
    assert folder == str(tmp_path / "process000")
    assert tuple(cores) == worker.cores
    assert [name for name in environment if name.startswith(LAUNCHER_PREFIXES)] == []
    expected = {
        "KEPT": "yes",
        "MINE": "set by the user",
        "OMP_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "GPU-1234",
        "AZ_BATCHAI_GPU_COUNT_FOUND": "4",
        "MPIRUN_INFER_RUN_ID": "test.1",
    }
    assert expected == {name: environment.get(name) for name in expected}


def test_another_interpreter_without_anything_of_ours(make, monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    old = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    if old:
        python = str(old[0])
    else:
        line = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")]
        subprocess.run(line, check=True, timeout=WITHIN_S)
        python = str(tmp_path / "bare" / "bin" / "python")
    probe = "import importlib.util as u; print(*map(u.find_spec, ('mpirun_infer', 'mpi4py')))"
    found = subprocess.check_output([python, "-c", probe], text=True, cwd=tmp_path)
    assert found == "None None\n"
    worker = make(python=python).start()
    _, _, _, version = facts(worker)
    assert version == [3, 8] if old else version == list(sys.version_info[:2])
