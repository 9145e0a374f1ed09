"""Its only row is what a script can see of its process; it stops as its first file's name says."""

import json
import os
import sys

from azureml_user.parallel_run import EntryScript


def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    if name == "raise":
        raise ValueError("told to")
    folder = EntryScript().output_dir
    with open(os.path.join(folder, "left"), "w") as file:
        file.write(name)
    seen = {
        "argv": sys.argv,
        "environ": dict(os.environ),
        "output_dir": folder,
        "paths": list(mini_batch),
        "written_to": os.path.isdir(os.environ["AZUREML_BI_OUTPUT_PATH"]),
    }
    return [json.dumps(seen)]
