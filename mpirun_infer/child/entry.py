"""The entry script: importing it under its own name, and calling its functions.

Owns: the module, how run() wants to be called, what the script is told is wrong with it.
Touches: sys.path, sys.argv, sys.modules, and whatever the script touches.
Never:   imports anything of ours; knows of frames or rows. Runs under Python >= 3.8.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import types
from typing import Any

OPTIONAL = ("init", "shutdown")
VARIADIC = 0x04  # CO_VARARGS
MISSING_RUN = (
    "{name} has no run() function: an entry script needs run(mini_batch), and may have "
    "init() and shutdown(); is entry_script the right file?"
)


class UsageError(Exception):
    """Raised when the script can never work as it is; another process would not help."""


class MiniBatch(list):  # type: ignore[type-arg]
    """What run() gets: absolute paths, and which mini-batch they are.

    Attributes:
        task_id, minibatch_index: 0-based number of the mini-batch.
    """

    task_id: int
    minibatch_index: int

    def __reduce__(self):
        return list, (list(self),)


class Context:
    """Second argument of run(), for scripts that take one.

    Attributes:
        minibatch_index: 0-based number of the mini-batch.
        partition_key_value: keys and values of a partition, else empty.
        dataset: the paths, or the frame.
        global_row_index_lower_bound: number of its first row in the whole input, None: unknown.
    """

    __slots__ = (
        "dataset",
        "global_row_index_lower_bound",
        "minibatch_index",
        "partition_key_value",
    )

    def __init__(self, mini_batch, index):
        self.minibatch_index = index
        self.partition_key_value = {}
        self.dataset = mini_batch
        self.global_row_index_lower_bound = None


class EntryScript:
    """The imported script; `init`, `run`, `shutdown` are its functions or None."""

    def __init__(self, script, module_name):
        self.script = script
        self.name = os.path.basename(script)
        self._module_name = module_name
        self.init: Any = None
        self.shutdown: Any = None
        self._run: Any = None
        self._wants_context = False

    def load(self):
        """Import it. Anything may be raised: it is the user's code that runs."""
        module = import_script(self.script, self._module_name)
        self._run = getattr(module, "run", None)
        if self._run is None:
            raise UsageError(MISSING_RUN.format(name=self.name))
        for name in ("run", *OPTIONAL):
            function = getattr(module, name, None)
            if function is not None and not callable(function):
                raise UsageError("%s: %s is no function but %r" % (self.name, name, function))
        self.init, self.shutdown = (getattr(module, name, None) for name in OPTIONAL)
        self._wants_context = wants_context(self._run, self.name)

    def run(self, paths, index):
        """What the script makes of a mini-batch; it may raise anything."""
        mini_batch = MiniBatch(paths)
        mini_batch.task_id = mini_batch.minibatch_index = index
        if self._wants_context:
            return self._run(mini_batch, Context(mini_batch, index))
        return self._run(mini_batch)


def prepare(sys_path, argv):
    """Set sys.path and sys.argv, before the import: some scripts parse arguments there.

    The script's folders come first, also one that is on sys.path already (PYTHONPATH).
    """
    sys.path[:] = [*sys_path, *(path for path in sys.path if path not in sys_path)]
    sys.argv[:] = argv


def import_script(script, module_name):
    """The module of the file `script`, in sys.modules under its own name, never __main__.

    A nested script (`src/entry.py`) is `src.entry`: its packages are imported first, as Python
    would do it.
    """
    parent_name, _, last = module_name.rpartition(".")
    parent = _parent(parent_name) if parent_name else None
    spec = importlib.util.spec_from_file_location(module_name, script)
    if spec is None or spec.loader is None:
        raise UsageError("%s: an entry script is a Python file (.py)" % script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
    module = sys.modules.get(module_name, module)  # a module may replace itself
    if parent is not None:
        setattr(parent, last, module)
    return module


def _parent(name):
    """The package that a nested script is in; None when the dots are just part of its name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name + ".").startswith(error.name + "."):
            return None
        raise


def wants_context(run, script_name):
    """Whether run() takes a second positional argument; UsageError when it cannot be called."""
    if type(run) is types.FunctionType and not hasattr(run, "__wrapped__"):
        count = run.__code__.co_argcount
        variadic = bool(run.__code__.co_flags & VARIADIC)
        required = count - len(run.__defaults__ or ())
    else:
        try:
            parameters = inspect.signature(run).parameters.values()
        except (TypeError, ValueError):
            return False  # C code that does not tell
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        count = len(positional)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        required = sum(p.default is p.empty for p in positional)
    if required > 2 or (count == 0 and not variadic):
        raise UsageError(
            "%s: run() takes %s: run(mini_batch) or run(mini_batch, context) is wanted"
            % (script_name, "no argument" if count == 0 else "%d arguments" % required)
        )
    return count >= 2 or variadic
