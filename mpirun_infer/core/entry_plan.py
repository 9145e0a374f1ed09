"""From a job to what its runners are told, and to what a resume must find unchanged.

Owns: the script's `sys.argv`, the environment, the row options, the fingerprint.
Touches: nothing.
Never:   looks at a file; hashes are arguments.
"""

import json
from collections.abc import Mapping, Sequence

from mpirun_infer.config import JobConfig
from mpirun_infer.model import RunnerLimits, RunnerPlan

LAUNCHER_PREFIXES = (
    "OMPI_",
    "OPAL_",
    "PMIX_",
    "PRTE_",
    "PMI_",
    "PMI2_",
    "HYDRA_",
    "MPIR_",
    "MPICH_",
    "I_MPI_",
    "AZUREML_ARM_",
)
"""Inherited variables that a runner must not see: with them it would pose as the rank."""

ROWS_BYTES_MAX = 4 << 30
"""Of one mini-batch; a frame that claims more is damage."""


def build_plan(
    job: JobConfig, *, run_id: str, script_hash: str, workers_per_node: int, nodes: int
) -> RunnerPlan:
    """What every runner of the run is told; the same on all ranks and in a dry run."""
    return RunnerPlan(
        python=job.environment_python,
        script=job.entry_script,
        source_directory=job.source_directory,
        module=job.entry_module,
        sys_path=job.sys_path,
        argv=script_argv(job, workers_per_node),
        environment=_environment(job, run_id, nodes),
        environment_stripped=LAUNCHER_PREFIXES,
        start_folder=job.start_folder,
        output_folder=job.output,
        run_id=run_id,
        script_hash=script_hash,
        row_options=_row_options(job),
        logging_level=job.logging_level,
        limits=RunnerLimits(
            init_timeout_s=job.init_timeout,
            run_timeout_s=job.run_invocation_timeout,
            overhead_timeout_s=job.task_overhead_timeout,
            init_tries_max=job.init_max_try,
            rows_bytes_max=ROWS_BYTES_MAX,
        ),
    )


def script_argv(job: JobConfig, workers_per_node: int) -> tuple[str, ...]:
    """`[script, engine options, user arguments]`.

    Each engine option is one token. One is left out when a user's option begins with its name:
    argparse would otherwise take ours for an abbreviation of theirs.
    """
    engine = {
        "--mini_batch_size": str(job.mini_batch_size),
        "--error_threshold": str(job.error_threshold),
        "--output_action": job.output_action,
        "--logging_level": job.logging_level,
        "--run_invocation_timeout": f"{job.run_invocation_timeout:g}",
        "--run_max_try": str(job.run_max_try),
        "--append_row_file_name": job.append_row_file_name,
        "--output": job.output,
        "--process_count_per_node": str(job.process_count_per_node or workers_per_node),
    }
    if job.output_action != "append_row":
        del engine["--append_row_file_name"]
    if not job.engine_arguments:
        engine.clear()
    options = [
        f"{name}={value}"
        for name, value in engine.items()
        if not any(argument.startswith(name) for argument in job.arguments)
    ]
    return (job.entry_script, *options, *job.arguments)


def _environment(job: JobConfig, run_id: str, nodes: int) -> dict[str, str]:
    environment = {
        "AZUREML_RUN_ID": run_id,
        "AZUREML_BI_OUTPUT_PATH": job.output,
        "AZUREML_NODE_COUNT": str(nodes),
        "AML_APP_ROOT": job.app_root,
    }
    if job.model_dir is not None:
        environment["AZUREML_MODEL_DIR"] = job.model_dir
    environment.update(job.environment_variables)
    return environment


def _row_options(job: JobConfig) -> dict[str, object]:
    return {
        "to_csv": job.to_csv,
        "row_escape": job.row_escape,
        "with_source": job.with_source,
        "strict_rows": job.strict_rows,
        "summary_only": job.output_action == "summary_only",
    }


# --------------------------------------------------------------------------- resume

_REWORDED = {
    "script": "the entry script (or source_directory) changed",
    "inputs": "inputs changed",
    "mini_batch_size": "mini_batch_size changed",
    "arguments": "arguments changed",
    "rows": "the row options changed",
    "append_row_file_name": "append_row_file_name changed",
}
ACCEPTABLE = frozenset({"script", "arguments", "rows"})
"""What may change under `--accept-changes`: rows that are committed already stay as they are."""


def fingerprint(job: JobConfig, script_hash: str) -> dict[str, str]:
    """Whatever alters rows; all else may differ between two launches of one run."""
    return {
        "script": script_hash,
        "inputs": json.dumps([[entry.name, entry.path] for entry in job.inputs]),
        "mini_batch_size": str(job.mini_batch_size),
        "arguments": json.dumps(list(job.arguments)),
        "rows": json.dumps(_row_options(job), sort_keys=True),
        "append_row_file_name": job.append_row_file_name,
    }


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Keys of the fingerprint that differ."""
    return [key for key in now if before.get(key, now[key]) != now[key]]


def refusal(output: str, changed: Sequence[str]) -> str:
    """Why a run cannot go on, and the ways on."""
    what = "; ".join(_REWORDED[key] for key in changed)
    ways = "--fresh moves the old run aside and starts over; other inputs need another output"
    if set(changed) <= ACCEPTABLE:
        ways = "--accept-changes keeps committed rows, --fresh starts over"
    return f"{output}: cannot resume: {what} since the run began; {ways}"
