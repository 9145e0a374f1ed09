"""From a job as written to a job that can be run: paths absolute, placeholders expanded.

Owns every look at the file system that can be made before ranks exist, and its messages.
Touches: the job file; `stat` on the paths of the job. Symlinks are never resolved.
Never:   lists an input or creates anything, except the spooled `@-` in the run folder.
"""

import glob
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import BinaryIO

from mpirun_infer.config import JobConfig, NamedInput, shown
from mpirun_infer.errors import UsageError
from mpirun_infer.launch.job_file import Draft, Override, draft_job
from mpirun_infer.launch.model_folder import find_model_folder
from mpirun_infer.launch.placeholders import expand, expand_argument
from mpirun_infer.launch.yaml_text import TEXT_BYTES_MAX, Place
from mpirun_infer.parameters import PARAMETERS

STDIN_LIST = "@-"
_SPOOLED = "stdin.list"


def load_job(
    job_file: str | None,
    overrides: Sequence[Override],
    *,
    current_folder: str,
    environ: Mapping[str, str],
    now_text: str,
) -> JobConfig:
    """Read, check and resolve a job.

    Raises:
        ConfigError: with everything that is wrong, a line each.
        UsageError: the job file cannot be read.
    """
    text = None if job_file is None else _read_text(job_file, current_folder)
    draft = draft_job(
        text,
        file_name=job_file or "",
        file_folder=os.path.dirname(absolute(job_file or "x", current_folder)),
        current_folder=current_folder,
        overrides=overrides,
    )
    return resolve(draft, current_folder=current_folder, environ=environ, now_text=now_text)


def resolve(
    draft: Draft, *, current_folder: str, environ: Mapping[str, str], now_text: str
) -> JobConfig:
    """The job with absolute paths and expanded placeholders, everything looked at.

    Raises:
        ConfigError: with everything that is wrong, a line each.
    """
    resolved = _Resolver(draft, current_folder, environ, now_text).resolve()
    draft.check()
    return resolved


def absolute(path: str, folder: str) -> str:
    """`path` under `folder`, without `.` and doubled slashes; `..` and symlinks stay."""
    joined = os.path.join(folder, os.path.expanduser(path) if path[:2] == "~/" else path)
    parts = [part for part in joined.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def argument_warnings(job: JobConfig) -> tuple[str, ...]:
    """One line for arguments of the script that look like keys of the job."""
    names = [text.removeprefix("--").partition("=")[0] for text in job.arguments]
    ours = [name for name in names if "_" in name and name in PARAMETERS]
    if not ours:
        return ()
    listed = ", ".join(f"--{name}" for name in dict.fromkeys(ours))
    keys = ", ".join(dict.fromkeys(ours))
    return (f"arguments: {listed} reach only the script; for the run itself set {keys} in the job",)


def spool_stdin(job: JobConfig, folder: str, stream: BinaryIO) -> JobConfig:
    """Keep the list of an `@-` input in `folder`, once: a resumed run reads the kept one.

    Raises:
        UsageError: nothing was kept yet and standard input is a terminal.
    """
    if all(entry.path != STDIN_LIST for entry in job.inputs):
        return job
    kept = os.path.join(folder, _SPOOLED)
    if not os.path.exists(kept):
        if stream.isatty():
            raise UsageError("input @-: standard input is a terminal; pipe a list of paths into it")
        with open(kept + ".new", "wb") as out:
            shutil.copyfileobj(stream, out)
            out.flush()
            os.fsync(out.fileno())
        os.rename(kept + ".new", kept)
    inputs = tuple(
        entry.model_copy(update={"path": "@" + kept}) if entry.path == STDIN_LIST else entry
        for entry in job.inputs
    )
    return job.model_copy(update={"inputs": inputs})


def _read_text(job_file: str, current_folder: str) -> str:
    path = absolute(job_file, current_folder)
    try:
        with open(path, "rb") as source:
            data = source.read(TEXT_BYTES_MAX + 1)
        return data.decode("utf-8-sig")
    except IsADirectoryError:
        raise UsageError(f"{job_file}: is a folder; give the job file in it") from None
    except OSError as error:
        raise UsageError(f"{job_file}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"{job_file}: is no UTF-8 text; save it as UTF-8") from None


class _Resolver:
    """One pass over a draft; problems are added to it, so that all come at once."""

    def __init__(
        self, draft: Draft, current_folder: str, environ: Mapping[str, str], now_text: str
    ) -> None:
        self.draft = draft
        self.job = draft.job
        self.current_folder = current_folder
        self.environ = environ
        self.now_text = now_text

    def resolve(self) -> JobConfig:
        job = self.job
        source_directory = self._source_directory()
        script, module = self._entry_script(source_directory)
        output = self._output()
        inputs = tuple(self._input(index, entry) for index, entry in enumerate(job.inputs))
        side_inputs = {name: self._side_input(name) for name in job.side_inputs}
        outputs = {name: self._path("outputs", name) for name in job.outputs}
        self._keep_apart(output, inputs)
        values = {f"inputs.{entry.name}": entry.path.removeprefix("@") for entry in inputs}
        values |= {f"side_inputs.{name}": path for name, path in side_inputs.items()}
        values |= {f"outputs.{name}": path for name, path in outputs.items()}
        values |= {f"parameters.{name}": text for name, text in job.parameters.items()}
        values["output"] = output
        return job.model_copy(
            update={
                "source_directory": source_directory,
                "entry_script": script,
                "entry_module": module,
                "inputs": inputs,
                "side_inputs": side_inputs,
                "outputs": outputs,
                "output": output,
                "arguments": self._arguments(values),
                "environment_variables": self._variables(values),
                "environment_python": self._python(),
                "model_dir": self._model_dir(),
                "progress_update_timeout": job.progress_timeout_s,
                "to_csv": job.append_row.to_csv,
                "start_folder": self.current_folder,
            }
        )

    def _path(self, *place: str | int) -> str:
        """The absolute path of a key, or of one name under it."""
        value = getattr(self.job, str(place[0]))
        text = value[place[1]] if len(place) > 1 else value
        return absolute(text, self.draft.sources.folder(place))

    def _problem(self, place: Place, text: str) -> None:
        if place[0] not in self.draft.bad or len(place) > 1:
            self.draft.add(place, text)

    def _source_directory(self) -> str | None:
        if self.job.source_directory is None:
            return None
        folder = self._path("source_directory")
        if not os.path.isdir(folder):
            what = "is no folder" if os.path.exists(folder) else "does not exist"
            self._problem(("source_directory",), f"{folder} {what}; give the script's folder")
        return folder

    def _entry_script(self, source_directory: str | None) -> tuple[str, str]:
        """The script's file, and the name it is imported under."""
        text = self.job.entry_script
        if "entry_script" in self.draft.bad or "source_directory" in self.draft.bad:
            return "", ""
        base = source_directory or self.draft.sources.folder(("entry_script",))
        path = absolute(text, base)
        is_dotted = "/" not in text and not text.endswith(".py")
        if is_dotted and not os.path.lexists(path):
            path = absolute(text.replace(".", "/") + ".py", base)
            root = source_directory or base
        else:
            root = source_directory or os.path.dirname(path)
        if os.path.isdir(path):
            self._problem(("entry_script",), f"{path} is a folder; give the script in it")
        elif not os.path.isfile(path):
            self._problem(("entry_script",), f"{path} does not exist{_nearest_script(path)}")
        elif not path.endswith(".py"):
            self._problem(("entry_script",), f"{path} is no Python file; its name must end in .py")
        inner = path.removeprefix(root.rstrip("/") + "/")
        if inner == path or ".." in inner.split("/"):
            text = f"{path} is not inside source_directory {root}; move it, or leave that key out"
            self._problem(("entry_script",), text)
        stem = inner.removesuffix(".py")
        return path, stem.replace(".", "_").replace("/", ".")

    def _output(self) -> str:
        place: Place = ("output",)
        text = self.job.output
        if "{name}" in text and self.job.name is None and "name" not in self.draft.bad:
            self._problem(place, f"{shown(text)} holds {{name}}, but the job has no name; give one")
        text = text.replace("{name}", self.job.name or "").replace("{time}", self.now_text)
        if "{" in text or "}" in text:
            self._problem(place, f"{shown(text)} may hold only {{name}} and {{time}} in braces")
        path = absolute(text, self.draft.sources.folder(place))
        if os.path.lexists(path) and not os.path.isdir(path):
            self._problem(place, f"{path} exists and is no folder; give a folder of the run's own")
        return path

    def _input(self, index: int, entry: NamedInput) -> NamedInput:
        if entry.path == STDIN_LIST:
            return entry
        place: Place = ("inputs", index)
        at = "@" if entry.path.startswith("@") else ""
        path = absolute(entry.path.removeprefix("@"), self.draft.sources.folder(place))
        if at and not os.path.isfile(path):
            self._problem(place, f"@{path} does not exist; give a file with one path a line")
        elif not at and not os.path.exists(path) and not glob.has_magic(path):
            self._problem(place, f"{path} does not exist; give a folder, a file, a glob or @list")
        return entry.model_copy(update={"path": at + path})

    def _side_input(self, name: str) -> str:
        path = self._path("side_inputs", name)
        if not os.path.exists(path):
            self._problem(("side_inputs", name), f"{path} does not exist; give a file or folder")
        return path

    def _keep_apart(self, output: str, inputs: Sequence[NamedInput]) -> None:
        """Rows and logs must never be listed as input of their own run."""
        if {"output", "inputs"} & self.draft.bad:
            return
        own = os.path.realpath(output) + "/"
        for entry in inputs:
            if entry.path.startswith("@") or not os.path.isdir(entry.path):
                continue
            if own.startswith(os.path.realpath(entry.path).rstrip("/") + "/"):
                text = f"{output} is inside the input {entry.path}; choose a folder outside it"
                self._problem(("output",), text)

    def _unknown(self, place: Place, problems: Sequence[str]) -> None:
        """Note unknown placeholders, unless their names stand under a key that is wrong itself."""
        if not {"inputs", "side_inputs", "outputs", "parameters"} & self.draft.bad:
            for problem in problems:
                self._problem(place, problem)

    def _arguments(self, values: Mapping[str, str]) -> tuple[str, ...]:
        found: list[str] = []
        for index, text in enumerate(self.job.arguments):
            expanded = expand_argument(text, values)
            found += expanded.texts
            self._unknown(("arguments", index), expanded.problems)
        return tuple(found)

    def _variables(self, values: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, text in self.job.environment_variables.items():
            expanded = expand(text, values)
            self._unknown(("environment_variables", name), expanded.problems)
            if expanded.texts:
                found[name] = expanded.texts[0]
        return found

    def _python(self) -> str:
        wanted = self.job.environment.python
        if wanted is None:
            return sys.executable
        place: Place = ("environment", "python")
        found = shutil.which(wanted, path=self.environ.get("PATH")) if "/" not in wanted else None
        path = found or absolute(wanted, self.draft.sources.folder(place))
        if not os.path.isfile(path) or not os.access(path, os.X_OK):
            what = "cannot be executed" if os.path.isfile(path) else "does not exist"
            self._problem(place, f"{path} {what}; give the python of your environment")
        return path

    def _model_dir(self) -> str | None:
        model = self.job.model
        if model is None or "model" in self.draft.bad:
            return None
        if model.dir is None:
            folder, problem = find_model_folder(model, self.environ, self.current_folder)
            if problem:
                self._problem(("model",), problem)
            return folder
        path = absolute(model.dir, self.draft.sources.folder(("model", "dir")))
        if not os.path.isdir(path):
            self._problem(("model", "dir"), f"{path} is no folder; give the folder of the model")
        return path


def _nearest_script(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        scripts = [other for other in os.listdir(folder) if other.endswith(".py")]
    except OSError:
        return "; give the path of the script"
    near = get_close_matches(name, scripts, n=1)
    return f"; did you mean {near[0]}?" if near else "; give the path of the script"
