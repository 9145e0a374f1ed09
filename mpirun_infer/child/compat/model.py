"""Stand-in for `azureml.core.model`: finds models in folders.

Owns the search order of Model.get_model_path.
Touches: the file system, read only.
"""

import os

import _mpirun_infer_compat  # type: ignore[import-not-found]

STAND_IN = True
__getattr__ = _mpirun_infer_compat.module_getattr("azureml.core.model")


class Model(metaclass=_mpirun_infer_compat.NeedsAzureMeta):  # type: ignore[metaclass]
    """A registered model: `<root>/<name>/<version>/<one file or folder>`."""

    @staticmethod
    def get_model_path(model_name, version=None, _workspace=None):
        """Absolute path of the model's only file or folder; the highest version by default."""
        start_folder = _mpirun_infer_compat.facts.get("start_folder") or os.getcwd()
        tried = []
        for root in _roots(start_folder):
            folder = os.path.join(root, model_name)
            number = _version(folder) if version is None else str(version)
            tried.append(os.path.join(folder, "<version>" if number is None else number))
            if number is not None and os.path.isdir(os.path.join(folder, number)):
                return _only_entry(os.path.join(folder, number))
        plain = os.path.join(start_folder, model_name)
        tried.append(plain)
        if os.path.exists(plain):
            return os.path.abspath(plain)
        raise FileNotFoundError(
            "model %r%s is in none of these places: %s; put it in one of them as "
            "<name>/<version>/<file>, or set MPIRUN_INFER_MODELS to the folder that holds <name>"
            % (model_name, "" if version is None else " version %s" % version, ", ".join(tried))
        )


def _roots(start_folder):
    """Folders that hold models, in the order in which they are searched."""
    roots = []
    if os.environ.get("MPIRUN_INFER_MODELS"):
        roots.append(os.environ["MPIRUN_INFER_MODELS"])
    if os.environ.get("AML_APP_ROOT"):
        roots.append(os.path.join(os.environ["AML_APP_ROOT"], "azureml-models"))
    roots.append("azureml-models")
    return [os.path.abspath(os.path.join(start_folder, root)) for root in roots]


def _version(folder):
    """The highest version that is there, as it is written, or None."""
    try:
        names = [name for name in os.listdir(folder) if name.isascii() and name.isdigit()]
    except OSError:
        return None
    return max(names, key=int, default=None)


def _only_entry(folder):
    names = sorted(os.listdir(folder))
    if len(names) == 1:
        return os.path.join(folder, names[0])
    raise FileNotFoundError(
        "%s must hold exactly one file or folder, the model; it holds %d: %s"
        % (folder, len(names), ", ".join(names[:20]) or "nothing")
    )
