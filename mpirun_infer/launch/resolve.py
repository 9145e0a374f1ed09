"""From a job as written to a job that can be run: paths absolute, placeholders expanded.

Owns every look at the file system that can be made before ranks exist, and its messages.
Touches: the job file; `stat` on the paths of the job. Symlinks are never resolved.
Never:   lists an input, reads standard input, or creates anything.
"""

import glob
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from mpirun_infer.config import JobConfig, NamedInput, shown
from mpirun_infer.errors import UsageError
from mpirun_infer.launch.job_file import Draft, Override, draft_job
from mpirun_infer.launch.placeholders import expand, expand_argument
from mpirun_infer.launch.stdin_list import STDIN, kept_list
from mpirun_infer.launch.yaml_text import TEXT_BYTES_MAX, Place
from mpirun_infer.parameters import PARAMETERS
from mpirun_infer.supervise.model_path import find_model


def load_job(
    job_file: str | None,
    overrides: Sequence[Override],
    *,
    current_folder: str,
    environ: Mapping[str, str],
    now_text: str,
    stdin_list: str | None = None,
) -> JobConfig:
    """Read, check and resolve a job.

    `stdin_list` is where standard input will be kept for `@-`; None: in the run folder.

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
    resolved = _Resolver(draft, current_folder, environ, now_text, stdin_list).resolve()
    draft.check()
    return resolved


def absolute(path: str, folder: str) -> str:
    """`path` under `folder`, without `.` and doubled slashes; `..` and symlinks stay."""
    joined = os.path.join(folder, os.path.expanduser(path) if path[:2] == "~/" else path)
    parts = [part for part in joined.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def argument_warnings(job: JobConfig) -> tuple[str, ...]:
    """One line for arguments of the script that look like keys of the job."""
    options = [text for text in job.arguments if text.startswith("--")]
    names = [text.removeprefix("--").partition("=")[0] for text in options]
    ours = [name for name in names if "_" in name and name in PARAMETERS]
    if not ours:
        return ()
    listed = ", ".join(f"--{name}" for name in dict.fromkeys(ours))
    keys = ", ".join(dict.fromkeys(ours))
    return (f"arguments: {listed} reach only the script; for the run itself set {keys} in the job",)


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
        self,
        draft: Draft,
        current_folder: str,
        environ: Mapping[str, str],
        now_text: str,
        stdin_list: str | None,
    ) -> None:
        self.draft = draft
        self.job = draft.job
        self.current_folder = current_folder
        self.environ = environ
        self.now_text = now_text
        self.stdin_list = stdin_list

    def resolve(self) -> JobConfig:
        job = self.job
        source_directory = self._source_directory()
        script, module = self._entry_script(source_directory)
        output = self._output()
        if self.stdin_list is None:
            self.stdin_list = kept_list(output, job.append_row_file_name)
        inputs = tuple(self._input(index, entry) for index, entry in enumerate(job.inputs))
        side_inputs = {name: self._side_input(name) for name in job.side_inputs}
        outputs = {name: self._path("outputs", name) for name in job.outputs}
        self._keep_apart(output, inputs)
        values = {f"inputs.{entry.name}": entry.path.removeprefix("@") for entry in inputs}
        values |= {f"side_inputs.{name}": path for name, path in side_inputs.items()}
        values |= {f"outputs.{name}": path for name, path in outputs.items()}
        values |= {f"parameters.{name}": text for name, text in job.parameters.items()}
        values["output"] = output
        resolved = job.model_copy(
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
                "progress_update_timeout": job.progress_timeout_s,
                "to_csv": job.append_row.to_csv,
                "start_folder": self.current_folder,
            }
        )
        seen = (
            dict(self.environ)
            | {"AML_APP_ROOT": resolved.app_root}
            | resolved.environment_variables
        )
        return resolved.model_copy(update={"model_dir": self._model_dir(seen)})

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
        if entry.path == STDIN:
            return entry.model_copy(update={"path": f"@{self.stdin_list}"})
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

    def _model_dir(self, environ: Mapping[str, str]) -> str | None:
        model = self.job.model
        if model is None or "model" in self.draft.bad:
            return None
        if model.dir is None:
            return self._model_by_name(model.name or "", model.version, environ)
        path = absolute(model.dir, self.draft.sources.folder(("model", "dir")))
        if not os.path.isdir(path):
            self._problem(("model", "dir"), f"{path} is no folder; give the folder of the model")
        return path

    def _model_by_name(
        self, name: str, version: str | None, environ: Mapping[str, str]
    ) -> str | None:
        """Where the script itself would find it; `environ` is that of its process."""
        place: Place = ("model",)
        try:
            path = find_model(name, version, environ, self.current_folder)
        except LookupError as error:
            self._problem(place, f"{error}; or give {{dir: PATH}}")
            return None
        if not os.path.isdir(path):
            self._problem(place, f"{path} is no folder; put it into one, or leave this key out")
        return path


def _nearest_script(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        scripts = [other for other in os.listdir(folder) if other.endswith(".py")]
    except OSError:
        return "; give the path of the script"
    near = get_close_matches(name, scripts, n=1)
    return f"; did you mean {near[0]}?" if near else "; give the path of the script"
