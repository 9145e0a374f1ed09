"""Stand-in for `azureml_user.parallel_run`: the EntryScript helper.

Owns the logger of the script and the folders that it is told.
Touches: the folders of the run that belong to this process.
"""

from __future__ import annotations

import logging
import os

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml_user.parallel_run")

LOGGER_NAME = "azureml_user.parallel_run"
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _LogFile(logging.FileHandler):
    """Made at its first line, in UTF-8 whatever is written."""

    def _open(self):
        os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace")


class EntryScript:
    """One per process, whoever makes it."""

    _instance: EntryScript | None = None
    _logger: logging.Logger | None = None

    def __new__(cls, *_args, **_kwargs):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __init__(self, logging_level=None):
        if logging_level is not None:
            self.logger.setLevel(logging_level)

    def __reduce__(self):
        return EntryScript, ()

    def config_log(self):
        """Give the logger its file; `logger` does it by itself."""
        if self._logger is None:
            facts = _mpirun_infer_compat.facts
            logger = logging.getLogger(LOGGER_NAME)
            handler = _LogFile(facts["folders"]["entry_log"], delay=True)
            handler.setFormatter(logging.Formatter(FORMAT))
            logger.addHandler(handler)
            logger.setLevel(facts.get("logging_level", "INFO"))
            logger.propagate = False
            self._logger = logger

    @property
    def logger(self):
        """Writes to this process's file under logs/user/entry_script_log."""
        self.config_log()
        return self._logger

    @property
    def output_dir(self):
        """Where the script may leave files of its own; exists."""
        return _made(_mpirun_infer_compat.facts["folders"]["output_dir"])

    @property
    def log_dir(self):
        """The folder of logs; exists."""
        return _made(_mpirun_infer_compat.facts["folders"]["log_dir"])

    @property
    def working_dir(self):
        """The folder above the private folders of the processes of this node."""
        return _mpirun_infer_compat.facts["folders"]["working_dir"]

    @property
    def agent_name(self):
        """Unique for each process."""
        return _mpirun_infer_compat.facts["agent_name"]


def _made(folder):
    os.makedirs(folder, exist_ok=True)
    return folder
