"""The runner, as its rank sees it: real interpreters, real sockets, entry scripts good and bad."""

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from waiting import wait_until

from mpirun_infer.child import wire
from mpirun_infer.child.fingerprint import source_hash

SCRIPTS = Path(__file__).parent.parent / "entry_scripts"
RUNNER = Path(wire.__file__).parent / "runner.py"
WITHIN_S = 20.0
ROWS_BYTES_MAX = 1 << 24
OLD_PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))


def make_bare_python(folder):
    """Another interpreter than ours: the oldest that we support, else ours without packages."""
    if OLD_PYTHONS:
        return str(OLD_PYTHONS[0])
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory):
    return make_bare_python(tmp_path_factory.mktemp("venv"))


class Rank:
    """The other side of one runner."""

    def __init__(self, folder, python=sys.executable, env=None):
        self.folder = folder
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(WITHIN_S)
        page_fd = os.memfd_create("page")
        os.ftruncate(page_fd, 4096)
        self.page = mmap.mmap(page_fd, 4096)
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
        with theirs, self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [python, str(RUNNER), str(theirs.fileno()), str(page_fd)],
                pass_fds=[theirs.fileno(), page_fd],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", **(env or {})},
            )
        os.close(page_fd)
        self.reader = wire.FrameReader(ROWS_BYTES_MAX)
        self.sent = 0

    def send(self, header, body=b""):
        wire.send(self.socket.fileno(), header, body)

    def frame(self):
        """The next frame, None at the end."""
        while (frame := self.reader.pop()) is None:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.reader.feed(data)
        return frame

    def init(self, script, **changes):
        script = str(script if os.path.isabs(script) else SCRIPTS / script)
        folder = str(self.folder)
        row_options = {"to_csv": None, **changes.pop("row_options", {})}
        job = {
            "type": "init",
            "script": script,
            "module": os.path.basename(script)[:-3],
            "sys_path": [os.path.dirname(script)],
            "argv": [script],
            "process": 7,
            "agent_name": "process007",
            "logging_level": "INFO",
            "script_hash": "",
            "source_directory": None,
            "row_options": row_options,
            "start_folder": folder,
            "folders": {
                "output_dir": folder + "/output",
                "log_dir": folder + "/logs",
                "working_dir": folder,
                "metrics": folder + "/metrics.jsonl",
                "entry_log": folder + "/entry.log.txt",
            },
            "rows_bytes_max": ROWS_BYTES_MAX,
        }
        self.send({**job, **changes})
        assert self.frame()[0]["type"] == "hello"
        return self.frame()[0]

    def ready(self, script, **changes):
        answer = self.init(script, **changes)
        assert answer["type"] == "ready", answer
        return self

    def submit(self, *mini_batches):
        """Hand over mini-batches, each a list of paths, in one frame."""
        tries = []
        for paths in mini_batches:
            tries.append([self.sent, 1, 100 + self.sent, len(paths)])
            self.sent += 1
        paths = [os.fsencode(path) for paths in mini_batches for path in paths]
        self.send({"type": "run", "tries": tries}, b"\0".join(paths))

    def run(self, *paths):
        """Run one mini-batch: (header, body) of its answer, or None."""
        self.submit(list(paths))
        return self.frame()

    def leave(self):
        self.send({"type": "shutdown"})
        answer = self.frame()[0]
        assert answer["type"] == "goodbye"
        assert self.frame() is None
        return answer["error"], self.process.wait(WITHIN_S)

    def status(self):
        """Its exit status, once it has ended by itself."""
        return self.process.wait(WITHIN_S)

    def close(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["ours", "bare"])
def any_rank(request, tmp_path, bare_python):
    rank = Rank(tmp_path, sys.executable if request.param == "ours" else bare_python)
    yield rank
    rank.close()


@pytest.fixture
def rank(tmp_path):
    rank = Rank(tmp_path)
    yield rank
    rank.close()


# --------------------------------------------------------------------------- a good life


def test_a_life_from_hello_to_goodbye(any_rank):
    any_rank.ready("ok.py")
    header, body = any_rank.run("/d/a.png", "/d/b.png")
    assert bytes(body) == b"a.png\nb.png\n"
    assert header["run_s"] >= 0
    del header["run_s"], header["load_s"]
    crc = zlib.crc32(b"a.png\nb.png\n")
    expected = {"type": "result", "mini_batch": 0, "try": 1, "rows": 2, "header_bytes": 0}
    assert expected | {"crc": crc} == header
    assert any_rank.leave() == ("", 0)
    assert any_rank.stdout.read_text() == "init() was called\nshutdown() was called\n"
    assert any_rank.stderr.read_text() == ""
    assert wire.read_page(any_rank.page)[2] == wire.SHUTDOWN


def test_hello_tells_the_version(any_rank):
    version = any_rank.frame()[0]["python"].split(".")
    assert (int(version[0]), int(version[1])) >= (3, 8)


def test_every_mini_batch_of_a_pack_is_answered_in_order(any_rank):
    any_rank.ready("raises.py")
    any_rank.submit(["/1", "/2"], ["/bad"], ["/3"])
    any_rank.submit(["/4"])
    answers = [any_rank.frame() for _ in range(4)]
    assert [header["mini_batch"] for header, _ in answers] == [0, 1, 2, 3]
    assert [bytes(body) for _, body in answers] == [b"/1\n/2\n", b"", b"/3\n", b"/4\n"]
    assert [header["type"] for header, _ in answers] == ["result", "failed", "result", "result"]


def test_paths_come_byte_for_byte(any_rank):
    any_rank.ready("context.py")
    any_rank.close()
    again = Rank(any_rank.folder)
    again.ready("segfault.py")
    paths = [os.fsdecode(b"/d/caf\xe9 \n\t'\""), "/d/\u00e9"]
    assert bytes(again.run(*paths)[1]) == b"/d/caf\xe9 \n\t'\"\n/d/\xc3\xa9\n"
    again.close()


def test_a_large_result_comes_whole(rank, tmp_path):
    script = tmp_path / "large.py"
    script.write_text("def run(m): return ['x' * 1_000_000] * 10")
    header, body = rank.ready(script).run("/a")
    assert bytes(body) == (b"x" * 1_000_000 + b"\n") * 10
    assert header["crc"] == zlib.crc32(bytes(body))
    script = tmp_path / "larger.py"
    script.write_text("def run(m): return ['x' * 1_000_000] * 20")
    again = Rank(tmp_path)
    answer = again.ready(script).run("/a")[0]
    assert (answer["kind"], "the limit is 16777216" in answer["error"]) == ("BAD_RETURN", True)
    again.close()


def test_a_script_that_wants_a_context_gets_one(any_rank):
    any_rank.ready("context.py").run("/0")
    assert bytes(any_rank.run("/a", "/b")[1]).split() == b"list 1 1 1 {} True None".split()


def test_data_frames_and_their_header(rank):
    rank.ready("frames.py", row_options={"to_csv": {"header": True, "sep": ","}})
    header, body = rank.run("/d/a", "/d/bcd")
    assert bytes(body) == b"name,length\na,1.0\nbcd,3.0\n"
    assert (header["rows"], header["header_bytes"]) == (2, 12)
    assert header["crc"] == zlib.crc32(b"a,1.0\nbcd,3.0\n")
    header, body = rank.run("/d/empty")
    assert (header["rows"], header["header_bytes"], bytes(body)) == (0, 0, b"")


def test_row_options_reach_the_rows(rank):
    rank.ready("raises.py", row_options={"with_source": True})
    assert bytes(rank.run("/a", "/b")[1]) == b"/a\t100\t0\t/a\n/b\t101\t0\t/b\n"


# --------------------------------------------------------------------------- failed tries


def test_an_exception_fails_the_try_and_nothing_else(any_rank):
    any_rank.ready("raises.py")
    answer = any_rank.run("/d/bad.png")[0]
    assert (answer["type"], answer["kind"]) == ("failed", "RUN_EXCEPTION")
    assert answer["error"] == "ValueError: cannot read /d/bad.png"
    assert answer["where"] == "raises.py:6"
    assert "in score\n" in answer["detail"]
    assert "child/" not in answer["detail"]
    assert bytes(any_rank.run("/d/good.png")[1]) == b"/d/good.png\n"


def test_a_wrong_return_fails_the_try(any_rank):
    answer = any_rank.ready("bad_return.py").run("/a")[0]
    assert answer["kind"] == "BAD_RETURN"
    assert answer["error"].startswith("run() returned None (does every way through run() end in")


@pytest.mark.parametrize(
    ("name", "error"),
    [("sys_exit", "run() called sys.exit(42)"), ("interrupt", "KeyboardInterrupt")],
)
def test_leaving_run_is_a_failed_try_not_a_death(any_rank, name, error):
    answer = any_rank.ready("exits.py").run(f"/d/{name}")[0]
    assert (answer["kind"], answer["error"]) == ("RUN_EXCEPTION", error)
    assert bytes(any_rank.run("/d/x")[1]) == b"/d/x\n"


def test_a_hostile_script_gets_clear_failures(any_rank):
    any_rank.ready("hostile.py")
    answers = [any_rank.run(f"/d/{n}")[0] for n in ("loud", "bad_error", "surrogate", "deep")]
    assert [answer["type"] for answer in answers] == ["failed"] * 4
    assert [answer["error"].split(":")[0] for answer in answers] == [
        "str() of element 0 of what run() returned raised RuntimeError",
        "BadError",
        "the rows hold '\\ud800', which UTF-8 cannot write",
        "RecursionError",
    ]
    assert answers[0]["where"] == "hostile.py:13"
    assert bytes(any_rank.run("/d/x")[1]) == b"/d/x\n"
    assert any_rank.leave() == ("", 0)


# --------------------------------------------------------------------------- deaths


def test_a_segfault_leaves_a_stack_dump_and_its_culprit(any_rank):
    any_rank.ready("segfault.py")
    any_rank.submit(["/good"], ["/bad"], ["/never"])
    assert bytes(any_rank.frame()[1]) == b"/good\n"
    assert any_rank.frame() is None
    assert any_rank.status() == -signal.SIGSEGV
    assert wire.read_page(any_rank.page)[:3] == (1, 1, wire.RUN)
    dump = any_rank.stderr.read_text()
    assert "Fatal Python error: Segmentation fault" in dump
    assert 'segfault.py", line 9 in run' in dump


def test_os_exit_is_a_death(any_rank):
    assert any_rank.ready("exits.py").run("/d/os_exit") is None
    assert any_rank.status() == 7


def test_a_hang_can_be_seen_dumped_and_killed(any_rank):
    any_rank.ready("hang.py").submit(["/bad"])
    wait_until(lambda: wire.read_page(any_rank.page)[:3] == (0, 1, wire.RUN), "the run phase")

    def dumped():  # the page says so a moment before run() is entered: ask again
        any_rank.process.send_signal(wire.DUMP_SIGNAL)
        return 'hang.py", line 13 in run' in any_rank.stderr.read_text()

    wait_until(dumped, "the dump", pause_s=0.1)
    any_rank.process.terminate()
    any_rank.process.kill()
    assert any_rank.status() == -signal.SIGKILL
    assert wire.read_page(any_rank.page)[:3] == (0, 1, wire.RUN)


def test_few_open_files_are_enough(tmp_path):
    launcher = tmp_path / "python"
    launcher.write_text(f'#!/bin/sh\nulimit -n 64\nexec {sys.executable} "$@"\n')
    launcher.chmod(0o755)
    rank = Rank(tmp_path, python=str(launcher))
    rank.ready("ok.py")
    assert rank.run("/d/a.png")[0]["type"] == "result"
    assert rank.leave() == ("", 0)
    rank.close()


def test_the_end_of_the_connection_ends_it(any_rank):
    any_rank.ready("ok.py").socket.close()
    assert any_rank.status() == 0


def test_what_is_no_frame_ends_it(any_rank):
    any_rank.ready("ok.py").socket.send(b"this is no frame")
    assert any_rank.status() == 70
    assert "begins with b'this'" in any_rank.stderr.read_text()


def test_a_script_that_closes_every_descriptor_is_a_broken_connection(any_rank):
    assert any_rank.ready("closes_all.py").run("/a") is None
    assert any_rank.status() == 70
    assert "Bad file descriptor" in any_rank.stderr.read_text()


def test_a_fork_that_comes_back_from_run_answers_nothing(any_rank):
    any_rank.ready("forks.py")
    assert bytes(any_rank.run("/a")[1]) == b"/a\n"
    assert bytes(any_rank.run("/b")[1]) == b"/b\n"
    assert any_rank.leave() == ("", 0)


def test_spawned_processes_find_the_script_and_the_stand_ins(any_rank):
    assert bytes(any_rank.ready("pool.py").run("/d/a")[1]) == b"a process007\n"


# --------------------------------------------------------------------------- output


def test_output_is_never_protocol(any_rank):
    any_rank.ready("noisy.py")
    for _ in range(3):
        assert bytes(any_rank.run("/a")[1]) == b"/a\n"
    out = any_rank.stdout.read_bytes()
    assert out.count(b"x" * 100_000 + b"\n") == 3
    assert out.count(b"\xff\xfeMIF1 raw\n") == 3
    assert out.endswith(b"unfinished")  # told with its answer, although no line has ended
    err = any_rank.stderr.read_bytes()
    assert b"caf\xc3\xa9 \\udce9 \x00\n" in err
    assert b" INFO mine: logged\n" in err
    assert b"not logged" not in err


# --------------------------------------------------------------------------- init


def test_phases_of_init_are_on_the_page(tmp_path):
    rank = Rank(tmp_path, env={"SLOW_INIT_S": "0.3"})
    seen = set()
    watcher = threading.Thread(target=rank.ready, args=("slow_init.py",))
    watcher.start()
    while watcher.is_alive():
        page = wire.read_page(rank.page)
        seen.add(page and page[2])
    assert {wire.INIT, wire.IDLE} <= seen
    rank.close()


def test_init_that_raises_is_told_and_ends_it(any_rank):
    answer = any_rank.init("bad_init.py")
    assert answer["type"] == "init_failed"
    assert (answer["error"], answer["where"]) == ("OSError: no model here", "bad_init.py:5")
    assert answer["usage_error"] is False
    assert any_rank.frame() is None
    assert any_rank.status() == 1


@pytest.mark.parametrize(
    ("script", "error", "where"),
    [
        ("def init(): pass", "score.py has no run() function", ""),
        ("def run(m):\n    return\ndef run(m)\n", "SyntaxError: ", "score.py:3"),
    ],
)
def test_a_script_that_can_never_work_is_a_usage_error(any_rank, tmp_path, script, error, where):
    (tmp_path / "score.py").write_text(script)
    answer = any_rank.init(tmp_path / "score.py")
    assert answer["type"] == "init_failed"
    assert error in answer["error"]
    assert (answer["usage_error"], answer["where"]) == (True, where)


def test_arguments_are_there_at_import(any_rank):
    argv = [str(SCRIPTS / "reads_argv.py"), "--mini_batch_size=10", "--model", 'a "b"\n{}', ""]
    body = bytes(any_rank.ready("reads_argv.py", argv=argv).run("/a")[1])
    assert body.decode() == "\n".join(['a "b"\n{}', *argv, ""])


def test_argparse_that_gives_up_is_told_with_the_cure(any_rank):
    argv = [str(SCRIPTS / "reads_argv.py"), "--strict", "--mini_batch_size=10"]
    answer = any_rank.init("reads_argv.py", argv=argv)
    assert answer["usage_error"] is True
    for text in ("unrecognized arguments", "parse_known_args()", "engine_arguments: false"):
        assert text in answer["error"]
    assert answer["where"] == "reads_argv.py:8"


def test_a_script_that_changed_stops_before_it_is_imported(any_rank, tmp_path):
    script = tmp_path / "score.py"
    script.write_text("def run(m): return m")
    before = source_hash(str(script), str(tmp_path))
    script.write_text("print('imported')\ndef run(m): return m")
    answer = any_rank.init(script, script_hash=before, source_directory=str(tmp_path))
    assert answer["usage_error"] is True
    assert "score.py, or code or settings" in answer["error"]
    assert "--accept-changes" in answer["error"]
    assert any_rank.stdout.read_text() == ""


def test_a_script_that_did_not_change_starts_under_any_python(any_rank):
    expected = source_hash(str(SCRIPTS / "ok.py"), str(SCRIPTS))
    any_rank.ready("ok.py", script_hash=expected, source_directory=str(SCRIPTS))


def test_settings_that_make_no_sense_are_a_usage_error(any_rank, tmp_path):
    script = tmp_path / "score.py"
    script.write_text("def run(m): return m")
    (tmp_path / "parallel_run_step.settings.json").write_text("{")
    answer = any_rank.init(script)
    assert (answer["usage_error"], "settings.json" in answer["error"]) == (True, True)


def test_nothing_of_ours_has_a_bare_name(any_rank, tmp_path):
    script = tmp_path / "runner.py"  # our own file's name
    script.write_text(
        "import importlib, sys\n"
        "names = ('wire', 'zygote', 'rows', 'entry', 'failure', 'fingerprint', 'compat')\n"
        "def there(name):\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except ImportError:\n        return False\n"
        "    return True\n"
        "def run(m):\n"
        "    return [__name__, [n for n in names if there(n)], 'child' in ''.join(sys.path)]\n"
    )
    assert bytes(any_rank.ready(script).run("/a")[1]) == b"runner\n[]\nFalse\n"


def test_modules_beside_the_script_do_not_get_in_our_way(any_rank, tmp_path):
    for name in ("json", "traceback", "inspect", "logging", "struct", "csv"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the one you look for')")
    script = tmp_path / "score.py"
    script.write_text("def run(m):\n  if m[0] == '/bad': raise ValueError(1)\n  return m")
    any_rank.ready(script)
    assert bytes(any_rank.run("/a")[1]) == b"/a\n"
    assert any_rank.run("/bad")[0]["error"] == "ValueError: 1"


def test_the_stand_ins_work(any_rank, tmp_path):
    model = tmp_path / "azureml-models" / "mnist" / "1" / "model.pt"
    model.parent.mkdir(parents=True)
    model.write_text("x")
    any_rank.ready("stand_ins.py")
    assert bytes(any_rank.run("/a")[1]) == b"process007\n\n"
    assert any_rank.leave() == ("", 0)
    log = (tmp_path / "entry.log.txt").read_text()
    assert f"INFO model at {model}\n" in log
    assert "caf\u00e9 \\udce9\n" in log
    assert log.endswith("last words\n")
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["value"] == 0.5


def test_shutdown_that_fails_is_told_and_not_counted(any_rank, tmp_path):
    script = tmp_path / "score.py"
    script.write_text(
        "import atexit\natexit.register(lambda: print('atexit ran'))\n"
        "def run(m): return m\ndef shutdown(): raise OSError('no space')"
    )
    any_rank.ready(script)
    assert any_rank.leave() == ("OSError: no space", 0)
    assert any_rank.stdout.read_text() == "atexit ran\n"
    assert "in shutdown" in any_rank.stderr.read_text()
