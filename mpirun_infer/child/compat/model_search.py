"""Where a registered model lies: one search, for Model.get_model_path and for the job's `model`.

Owns the search order.
Touches: the file system, read only.
Never:   imports anything of ours; downloads anything. Runs under Python >= 3.8.
"""

from __future__ import annotations

import os
from typing import Mapping


def find(name: str, version: object, environ: Mapping[str, str], start_folder: str) -> str:
    """`<place>/<name>/<version>`, else `./<name>`, absolute; LookupError says where it is not.

    Without a version the highest number is taken. `environ` is that of the script's process.
    """
    tried = []
    for root in roots(environ, start_folder):
        folder = os.path.join(root, name)
        there = versions(folder)
        number = str(version) if version is not None else max(there, key=int, default=None)
        if number is not None and os.path.isdir(os.path.join(folder, number)):
            return os.path.join(folder, number)
        has = " (it has: %s)" % ", ".join(there) if there else ""
        tried.append(os.path.join(folder, number or "<version>") + has)
    plain = os.path.abspath(os.path.join(start_folder, name))
    tried.append(plain)
    if os.path.exists(plain):
        return plain
    raise LookupError(
        "model %r%s is in none of these places: %s; put it in one of them as "
        "<name>/<version>/<file>, or set MPIRUN_INFER_MODELS to the folder that holds <name>"
        % (name, "" if version is None else " version %s" % version, ", ".join(tried))
    )


def path_of(name: str, version: object, environ: Mapping[str, str], start_folder: str) -> str:
    """The only file or folder of what `find` finds; LookupError when there is not exactly one."""
    found = find(name, version, environ, start_folder)
    if found == os.path.abspath(os.path.join(start_folder, name)):
        return found
    names = sorted(os.listdir(found))
    if len(names) == 1:
        return os.path.join(found, names[0])
    raise LookupError(
        "%s must hold exactly one file or folder, the model; it holds %d: %s"
        % (found, len(names), ", ".join(names[:20]) or "nothing")
    )


def roots(environ: Mapping[str, str], start_folder: str) -> list[str]:
    """Folders that hold models, in the order in which they are searched."""
    found = []
    if environ.get("MPIRUN_INFER_MODELS"):
        found.append(environ["MPIRUN_INFER_MODELS"])
    if environ.get("AML_APP_ROOT"):
        found.append(os.path.join(environ["AML_APP_ROOT"], "azureml-models"))
    found.append("azureml-models")
    return [os.path.abspath(os.path.join(start_folder, root)) for root in found]


def versions(folder: str) -> list[str]:
    """The versions that are there, as they are written, in order."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    numbers = [name for name in names if name.isascii() and name.isdigit()]
    return sorted((n for n in numbers if os.path.isdir(os.path.join(folder, n))), key=int)
