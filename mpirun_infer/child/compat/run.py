"""Stand-in for `azureml.core.run`: metrics go to a file of the run folder.

Owns the format of that file: one JSON object a line.
Touches: that file, appending.
"""

import json
import os

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core.run")


class Run:
    """The run that a script is part of; Run.get_context() gives it."""

    def __init__(self, id):  # noqa: A002 the name that scripts read
        self.id = id

    @classmethod
    def get_context(cls, *_args, **_kwargs):
        """The current run."""
        return cls(os.environ.get("AZUREML_RUN_ID", ""))

    @property
    def parent(self):
        """A run has no pipeline above it here: its own run."""
        return Run(self.id)

    def log(self, name, value, description="", step=None):
        """Keep a metric in the run folder."""
        record = {
            "name": name,
            "value": _plain(value),
            "description": description,
            "step": step,
            "process": _mpirun_infer_compat.facts.get("process"),
        }
        path = _mpirun_infer_compat.facts["folders"]["metrics"]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        line = json.dumps(record, default=str).encode("ascii") + b"\n"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise _mpirun_infer_compat.needs_azure("Run.%s" % name)


def _plain(value):
    """A numpy or torch scalar as a Python number."""
    item = getattr(value, "item", None)
    if callable(item):
        try:
            return item()
        except (TypeError, ValueError, RuntimeError):
            return str(value)
    return value
