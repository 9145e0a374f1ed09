"""Where a registered model lies: the folder for AZUREML_MODEL_DIR.

Owns the search order, the same as that of `Model.get_model_path` in the entry script.
Touches: `stat` and the listing of model folders.
Never:   downloads anything.
"""

import os
from collections.abc import Mapping

from mpirun_infer.config import ModelChoice


def find_model_folder(
    model: ModelChoice, environ: Mapping[str, str], current_folder: str
) -> tuple[str | None, str]:
    """`<place>/<name>/<version>`, or what is wrong; without a version the highest number."""
    name = model.name or ""
    places = []
    if environ.get("MPIRUN_INFER_MODELS"):
        places.append(os.path.join(current_folder, environ["MPIRUN_INFER_MODELS"]))
    if environ.get("AML_APP_ROOT"):
        places.append(os.path.join(environ["AML_APP_ROOT"], "azureml-models"))
    places.append(os.path.join(current_folder, "azureml-models"))
    for place in places:
        folder = os.path.join(place, name)
        if not os.path.isdir(folder):
            continue
        versions = sorted((v for v in os.listdir(folder) if v.isdecimal()), key=int)
        version = model.version or (versions[-1] if versions else None)
        if version is None or not os.path.isdir(os.path.join(folder, version)):
            have = ", ".join(versions) or "none"
            return None, f"{folder} has no version {version or ''}".rstrip() + f"; it has: {have}"
        return os.path.join(folder, version), ""
    bare = os.path.join(current_folder, name)
    if os.path.isdir(bare) and model.version is None:
        return bare, ""
    looked = ", ".join([*(os.path.join(place, name) for place in places), bare])
    return None, f"{name} is not found; looked for {looked}; or give {{dir: PATH}}"
