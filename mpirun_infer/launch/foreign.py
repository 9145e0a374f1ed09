"""Names of ParallelRunStep (v1), parallel jobs (v2) and batch endpoints, and what they are here.

Owns the translation of keys that people bring along.
Touches: nothing.
Never:   accepts one silently; every one is an error that names the right key.
"""

_ENDPOINT = "is a batch endpoint's; leave it out here"
_CLUSTER = "names a compute cluster; leave it out, the run uses the machines it is started on"

FOREIGN: dict[str, str] = {
    "max_retries": "is run_max_try here, which also counts the first try: run_max_try = "
    "max_retries + 1",
    "retry_settings.max_retries": "is run_max_try here, which also counts the first try: "
    "run_max_try = max_retries + 1",
    "retry_settings.timeout": "is run_invocation_timeout here",
    "timeout": "is run_invocation_timeout here",
    "instance_count": "is node_count here",
    "resources.instance_count": "is node_count here",
    "max_concurrency_per_instance": "is process_count_per_node here",
    "settings.max_concurrency_per_instance": "is process_count_per_node here",
    "program_arguments": "is arguments here, a list",
    "task.program_arguments": "is arguments here, a list",
    "code": "is source_directory here",
    "task.code": "is source_directory here",
    "code_configuration.code": "is source_directory here",
    "scoring_script": "is entry_script here",
    "code_configuration.scoring_script": "is entry_script here",
    "task.entry_script": "is entry_script here, a key of its own",
    "task.type": "is not needed; leave it out",
    "task.model": "is model here, a key of its own",
    "task.environment": "is environment here: {python: PATH} of your own environment",
    "append_row_to": "is append_row_file_name here, in the folder output",
    "task.append_row_to": "is append_row_file_name here, in the folder output",
    "output_file_name": "is append_row_file_name here",
    "settings.output_file_name": "is append_row_file_name here",
    "settings.output_action": "is output_action here, a key of its own",
    "settings.mini_batch_size": "is mini_batch_size here, a key of its own",
    "settings.error_threshold": "is error_threshold here, a key of its own",
    "settings.logging_level": "is logging_level here, a key of its own",
    "settings.environment_variables": "is environment_variables here, a key of its own",
    "settings.retry_settings": "is run_invocation_timeout and run_max_try here",
    "input_data": "is not needed: every path under inputs is cut into mini-batches; put what is "
    "not to be cut under side_inputs",
    "allowed_failed_count": "is mini_batch_error_threshold here",
    "parallel_run_config": "has no level of its own here; write its keys at the top",
    "compute": _CLUSTER,
    "compute_target": _CLUSTER,
    "experiment_name": "is name here",
    "display_name": "is name here",
    "allow_reuse": "is not needed; a rerun of a complete run does nothing",
    "is_deterministic": "is not needed; a rerun of a complete run does nothing",
    "type": "is not needed; leave it out",
    "$schema": "is not needed; leave it out",
    "version": "is not needed; leave it out",
    "tags": "is not kept; leave it out",
    "identity": "is Azure's; leave it out",
    "endpoint_name": _ENDPOINT,
    # What is never offered.
    "async_mode": "is not offered: run() returns its rows when it ends",
    "enqueue": "is not offered: run() returns its rows when it ends",
    "append_row_jsonl": "is not offered: let run() return texts, json.dumps(x) for each",
    "output_format": "is not offered: let run() return texts, json.dumps(x) for each",
    "rank_mini_batch": "is not offered: mini-batches are handed out as workers become free",
    "rank_mini_batches": "is not offered: mini-batches are handed out as workers become free",
}
