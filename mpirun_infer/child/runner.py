"""The runner: the process in which the user's script lives.

Owns the loop: frames in, init(), run() and shutdown() called, frames out; the state page.
Touches: its protocol descriptor, its page, standard output and error.
         Run by path: `<the user's python> runner.py <socket> <page>`; ends at the socket's end.
Never:   imports anything but the standard library (>= 3.8) and, by location, its siblings; leaves a
         module of ours importable by a bare name; has threads; reads or writes descriptors 0, 1, 2
         for the protocol.

What the script does to the process it does to itself: whatever goes wrong here ends in the end
of the process, which the rank sees and understands, never in waiting.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import functools
import importlib.util
import mmap
import os
import sys
from os import getpid, readv
from time import perf_counter
from typing import Any

FOLDER = os.path.dirname(os.path.abspath(__file__))
READ_BYTES = 256 << 10
REQUEST_BYTES_MAX = 1 << 30
UNUSABLE_STATUS = 70


def load(name, file_name=None):
    """A sibling module, by location, under a private name."""
    private = "_mpirun_infer_" + name
    if private not in sys.modules:
        path = os.path.join(FOLDER, file_name or name + ".py")
        spec = importlib.util.spec_from_file_location(private, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[private] = module
        spec.loader.exec_module(module)
    return sys.modules[private]


class Runner:
    """One life: hello, init, mini-batches, goodbye."""

    def __init__(self, fd, page_fd):
        self._fd = fd
        self._pid = getpid()
        self._wire = load("wire")
        self._page = mmap.mmap(page_fd, self._wire.PAGE_BYTES)
        os.close(page_fd)
        self._reader = self._wire.FrameReader(REQUEST_BYTES_MAX)
        self._buffer = bytearray(READ_BYTES)
        self._entry: Any = None
        self._format: Any = None
        self._perf_counter = perf_counter

    # ------------------------------------------------------------------ frames

    def _send(self, header, body=b""):
        if getpid() != self._pid:
            os._exit(UNUSABLE_STATUS)  # the script forked, and its child came back from run()
        self._wire.send(self._fd, header, body)

    def _receive(self):
        """The next frame; None at the end of the connection."""
        if getpid() != self._pid:
            os._exit(UNUSABLE_STATUS)
        while True:
            frame = self._reader.pop()
            if frame is not None:
                return frame
            count = readv(self._fd, [self._buffer])
            if count == 0:
                return None
            self._reader.feed(memoryview(self._buffer)[:count])

    def _at(self, phase, mini_batch=None, try_number=0):
        number = self._wire.NO_MINI_BATCH if mini_batch is None else mini_batch
        self._wire.write_page(self._page, number, try_number, phase)

    def serve(self):
        """Until told to leave (the exit status), or the rank is gone (None)."""
        self._send({"type": "hello", "python": "%d.%d.%d" % sys.version_info[:3]})
        load_all()
        while True:
            frame = self._receive()
            if frame is None:
                return None
            header, body = frame
            kind = header["type"]
            if kind == "run":
                self._run(header["tries"], body)
            elif kind == "init":
                if not self._init(header):
                    return 1
            elif kind == "shutdown":
                self._shutdown()
                return 0
            else:
                raise ValueError("a frame of type %r" % (kind,))

    # ------------------------------------------------------------------ init

    def _init(self, job):
        """Import the script and call its init(); False: told what is wrong, the end."""
        start = self._perf_counter()
        self._at(self._wire.IMPORT)
        entry = load("entry")
        script = job["script"]
        importing = True
        try:
            set_up(job)
            check_hash(job)
            rows = load("rows")
            to_csv = rows.to_csv_options(script, job["row_options"].get("to_csv"))
            self._format = rows.RowFormat(job["row_options"], to_csv, job["rows_bytes_max"])
            self._entry = entry.EntryScript(script, job["module"])
            self._entry.load()
            importing = False
            if self._entry.init is not None:
                self._at(self._wire.INIT)
                self._entry.init()
        except BaseException as error:
            answer = init_failure(error, script, importing)
            flush()
            self._send(answer)
            return False
        flush()
        self._at(self._wire.IDLE)
        self._send({"type": "ready", "init_s": self._perf_counter() - start})
        return True

    # ------------------------------------------------------------------ run

    def _run(self, tries, body):
        paths = os.fsdecode(bytes(body)).split("\0")
        offset = 0
        for mini_batch, try_number, first_item, items in tries:
            end = offset + items
            self._one(mini_batch, try_number, first_item, paths[offset:end])
            offset = end
        self._at(self._wire.IDLE)

    def _one(self, mini_batch, try_number, first_item, paths):
        """One try: called, formatted, answered."""
        clock = self._perf_counter
        answer = {"type": "result", "mini_batch": mini_batch, "try": try_number}
        body = b""
        run_s = 0.0
        self._at(self._wire.RUN, mini_batch, try_number)
        start = clock()
        try:
            try:
                result = self._entry.run(list(paths), mini_batch)
            finally:
                run_s = clock() - start
            self._at(self._wire.FORMAT, mini_batch, try_number)
            rows = self._format.rows(result, paths, first_item, mini_batch)
            body = rows.header + rows.body if rows.header else rows.body
            answer.update(rows=rows.count, header_bytes=len(rows.header), crc=rows.crc)
        except BaseException as error:
            answer.update(run_failure(error, self._entry.script))
        answer.update(run_s=run_s, load_s=0.0)
        flush()
        self._send(answer, body)

    # ------------------------------------------------------------------ shutdown

    def _shutdown(self):
        error_text = ""
        self._at(self._wire.SHUTDOWN)
        try:
            if self._entry is not None and self._entry.shutdown is not None:
                self._entry.shutdown()
        except BaseException as error:
            failure = load("failure")
            complain(failure.detail(error))
            error_text = failure.one_line(error)
        self._send({"type": "goodbye", "error": error_text})


# --------------------------------------------------------------------------- what went wrong


def init_failure(error, script, importing):
    """The frame for what import or init() raised."""
    failure = load("failure")
    entry, rows = load("entry"), load("rows")
    text = failure.one_line(error)
    usage = False
    message = failure.argparse_message(error) if isinstance(error, SystemExit) else None
    if isinstance(error, (entry.UsageError, rows.SettingsError)):
        text, usage = failure.clean(str(error)), True
    elif message is not None:
        usage = True
        text = failure.clean("the script's argparse gave up: %s" % message)
        if "unrecognized arguments" in message:
            text += (
                "; sys.argv also holds options of the engine (--mini_batch_size=... and others): "
                "use parse_known_args() instead of parse_args(), or set engine_arguments: false"
            )
    elif isinstance(error, SystemExit):
        what = "while it was imported" if importing else "in init()"
        text = failure.clean("the script called sys.exit(%r) %s" % (error.code, what))
    elif isinstance(error, SyntaxError) and importing:
        usage = True
    return {
        "type": "init_failed",
        "error": text,
        "where": failure.where(error, script),
        "detail": failure.detail(error),
        "usage_error": usage,
    }


def run_failure(error, script):
    """What a try failed of: the fields of the frame."""
    failure, rows = load("failure"), load("rows")
    bad_return = isinstance(error, rows.BadReturnError)
    cause = error.__cause__ if bad_return and error.__cause__ is not None else error
    text = failure.clean(str(error)) if bad_return else failure.one_line(error)
    if isinstance(error, SystemExit):
        text = failure.clean("run() called sys.exit(%r)" % (error.code,))
    return {
        "type": "failed",
        "kind": "BAD_RETURN" if bad_return else "RUN_EXCEPTION",
        "error": text,
        "where": failure.where(cause, script),
        "detail": failure.detail(cause) if not bad_return or cause is not error else text,
    }


def check_hash(job):
    """One run never mixes two versions of a script."""
    expected = job.get("script_hash")
    if not expected:
        return
    if load("fingerprint").source_hash(job["script"], job.get("source_directory")) != expected:
        name = os.path.basename(job["script"])
        raise load("entry").UsageError(
            "%s, or code or settings in its source_directory, changed since the run began, and one "
            "run never mixes two versions: run the same command again with --accept-changes to "
            "keep the committed rows, or --fresh to start over" % name
        )


# --------------------------------------------------------------------------- the process


def load_all():
    """Everything that is needed later, before the script can put a module in its way."""
    import logging  # noqa: F401

    for name in ("entry", "failure", "rows", "fingerprint"):
        load(name)
    load("compat", os.path.join("compat", "__init__.py"))


def set_up(job):
    """What the script finds: sys.path, sys.argv, logging, the stand-ins."""
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.root.addHandler(handler)
    logging.root.setLevel(job["logging_level"])
    names = ("agent_name", "logging_level", "process", "start_folder", "folders")
    load("compat").install({name: job.get(name) for name in names})
    load("entry").prepare(job["sys_path"], job["argv"])


def complain(text):
    """Say something on standard error, whatever the script has made of sys.stderr."""
    flush()
    with contextlib.suppress(OSError):  # closed by the script
        os.write(2, text.encode("utf-8", "backslashreplace"))


def flush():
    """Give the rank what was printed so far."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the script's own stream, or none
            continue


def close(fd):
    """Close it, unless the script did."""
    with contextlib.suppress(OSError):
        os.close(fd)


def private(fd):
    """The descriptor, closed in whatever the script starts."""
    os.set_inheritable(fd, False)
    return fd


def private_stderr():
    """A copy, out of the script's way; the thing itself when very few files are allowed."""
    for lowest in (100, 10):
        with contextlib.suppress(OSError):
            return fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, lowest)
    return 2


def watch_stacks():
    """A dump on standard error at a crash, and whenever the rank asks for one."""
    fd = private_stderr()
    faulthandler.enable(fd, all_threads=True)
    faulthandler.register(load("wire").DUMP_SIGNAL, fd, all_threads=True, chain=False)


def leave_no_name():
    """Take our folder out of sys.path."""
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != FOLDER]


def main():
    """From the two descriptors to the exit status."""
    fd, page_fd = private(int(sys.argv[1])), private(int(sys.argv[2]))
    leave_no_name()
    watch_stacks()
    streams: list[Any] = [sys.stdout, sys.stderr]
    for stream in streams:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    # A child that the script forks (a multiprocessing pool) must not keep the connection open.
    os.register_at_fork(after_in_child=functools.partial(close, fd))
    status = None
    try:
        status = Runner(fd, page_fd).serve()
    except BaseException as error:
        complain("mpirun_infer: the runner cannot go on:\n" + load("failure").detail(error))
        status = UNUSABLE_STATUS
    flush()
    if status != 0:
        os._exit(0 if status is None else status)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # A process that the script started with multiprocessing's spawn: it may want the stand-ins.
    leave_no_name()
    load("compat", os.path.join("compat", "__init__.py")).install_inherited()
