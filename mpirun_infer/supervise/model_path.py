"""Where a registered model lies, as `Model.get_model_path` in the runner finds it.

Owns nothing but the door to `child.compat.model_search`.
Touches: the folders of models, read only.
Never:   decides what a missing model means.
"""

from collections.abc import Mapping

from mpirun_infer.child.compat import model_search


def find_model(
    name: str, version: str | None, environ: Mapping[str, str], start_folder: str
) -> str:
    """The folder of the version (or the file or folder `./<name>`), absolute.

    `environ` is that of the script's process.

    Raises:
        LookupError: there is none; the message names the places.
    """
    return model_search.find(name, version, environ, start_folder)
