"""The job: every knob, its type and its limits.

Owns `JobConfig`, as written by a user and, with the same class, as resolved: paths absolute,
placeholders expanded. Names, defaults, limits and texts come from `parameters`.
Touches: nothing; reads no file and no clock (`launch.job_file` reads, `launch.resolve` resolves).
Never:   decides what a job does; it says only whether a value can be one.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from mpirun_infer.parameters import PARAMETERS, Kind

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_JOB_NAME = re.compile(r"[a-z][-a-z0-9]{1,30}[a-z0-9]")
_SIZE_WITH_UNIT = re.compile(r"\d+[kKmMgG][bB]")
_FORBIDDEN_IN_FILE_NAME = set('~"#%&*:<>?/\\{|}\0\n\r')
_URL = re.compile(r"@?(azureml:|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
TO_CSV_REFUSED = ("path_or_buf", "mode", "compression", "storage_options", "encoding", "errors")


def _wrong(text: str) -> PydanticCustomError:
    """An error of ours: `text` is the whole message after the key."""
    return PydanticCustomError("rule", "{text}", {"text": text})


def shown(value: object) -> str:
    """`value` as it stands in an error message."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            text = value if len(value) <= 80 else value[:77] + "..."
            is_plain = re.fullmatch(r"[-+\w./@]+", text) is not None
            return text if is_plain else json.dumps(text, ensure_ascii=False)
        case Mapping():
            return "a map" if value else "{}"
        case _:
            return "a list" if value else "[]"


def _not_a_flag(value: object) -> object:
    if isinstance(value, bool):
        raise _wrong_value(value)
    return value


def _wrong_value(value: object) -> PydanticCustomError:
    return PydanticCustomError("unacceptable", "{value}", {"value": shown(value)})


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise _wrong_value(value)


def is_identifier(text: str) -> bool:
    """Whether `text` can name an input, a side input or an output."""
    return _IDENTIFIER.fullmatch(text) is not None


def _path(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong_value(value)
    if _URL.match(value):
        raise _wrong(f"{shown(value)} is no path here; mount or copy, then give the path")
    if "\0" in value:
        raise _wrong_value(value)
    return value


def _text_of(value: object) -> str:
    """A text or number as text; true, false and null could mean several, so they must be quoted."""
    match value:
        case bool() | None:
            raise _wrong(f"{shown(value)} is no text; quote it")
        case int() | float():
            return str(value)
        case str():
            if "\0" in value:
                raise _wrong(f"{shown(value)} holds a NUL, which no argument or variable can")
            return value
        case _:
            raise _wrong_value(value)


def _named_path(value: object) -> str:
    """A path, or a map that holds only a path (as job files of other systems write it)."""
    if isinstance(value, Mapping):
        stage = value.get("stage")
        if stage not in (None, "none"):
            raise _wrong(f"stage: {shown(stage)} is not offered by this version yet; leave it out")
        unknown = [str(key) for key in value if key not in ("path", "stage")]
        if unknown or "path" not in value:
            raise _wrong(f"a path or {{path: PATH}} is wanted, not the key {', '.join(unknown)}")
        return _path(value["path"])
    return _path(value)


def _names_only(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _wrong_value(value)
    for name in value:
        if not isinstance(name, str) or not is_identifier(name):
            raise _wrong(f"{shown(name)} is no name; letters, digits and _ are wanted")
    return value


Integer = Annotated[int, BeforeValidator(_not_a_flag)]
Number = Annotated[float, BeforeValidator(_not_a_flag), Field(allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Path = Annotated[str, BeforeValidator(_path)]
Text = Annotated[str, BeforeValidator(_text_of)]
NamedPath = Annotated[str, BeforeValidator(_named_path)]
NamedPaths = Annotated[
    dict[str, NamedPath], BeforeValidator(_names_only, json_schema_input_type=Any)
]


class NamedInput(BaseModel):
    """One input: a folder, file, glob, or `@` and a list of paths."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    path: NamedPath


class Environment(BaseModel):
    """The interpreter of the script."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    python: Path | None = None


class AppendRow(BaseModel):
    """How data frames become rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    to_csv: dict[str, Any] | None = None

    @field_validator("to_csv")
    @classmethod
    def _keywords(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for key in value or ():
            if key in TO_CSV_REFUSED:
                raise _wrong(f"{key} cannot be chosen; rows are UTF-8 text in one file")
        return value


class ModelChoice(BaseModel):
    """A model by name (and version) or by folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str | None = None
    version: str | None = None
    dir: Path | None = None


def _model_choice(value: object) -> object:
    match value:
        case str() if value:
            name, _, version = value.partition(":")
            if not name or "/" in name or (":" in value and not version):
                raise _wrong(f"{shown(value)} is no model; a folder is given as {{dir: PATH}}")
            return ModelChoice(name=name, version=version or None)
        case Mapping() if value.get("dir") or value.get("name"):
            return value
        case None | ModelChoice():
            return value
        case _:
            raise _wrong_value(value)


def _unnamed_input(entry: object) -> object:
    if isinstance(entry, Mapping) and "name" not in entry and isinstance(entry.get("path"), str):
        return {"name": entry["path"], **entry}
    return {"name": entry, "path": entry} if isinstance(entry, str) else entry


def _input_list(value: object) -> object:
    """All ways to write inputs, as a list of named ones; an unnamed one is named by its path."""
    match value:
        case str():
            entries: list[object] = [{"name": value, "path": value}]
        case Mapping():
            entries = [{"name": name, "path": path} for name, path in _names_only(value).items()]
        case list() | tuple():
            entries = [
                entry if isinstance(entry, NamedInput) else _unnamed_input(entry) for entry in value
            ]
        case _:
            raise _wrong_value(value)
    if not entries:
        raise _wrong(
            "nothing is given; a path, a list of paths or a map of names to paths is wanted"
        )
    return entries


def _setting(name: str) -> Any:
    """The field of a parameter, from its row in the table."""
    row = PARAMETERS[name]
    return Field(
        ... if row.required else row.default,
        ge=row.minimum,
        gt=row.above,
        le=row.maximum,
        description=row.help,
    )


class JobConfig(BaseModel):
    """A job. The fields after the blank line hold what `launch.resolve` finds out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, protected_namespaces=()
    )

    name: str | None = _setting("name")
    description: str | None = _setting("description")
    entry_script: Path = _setting("entry_script")
    source_directory: Path | None = _setting("source_directory")
    inputs: Annotated[tuple[NamedInput, ...], BeforeValidator(_input_list)] = _setting("inputs")
    input_type: str = _setting("input_type")
    side_inputs: NamedPaths = _setting("side_inputs")
    outputs: NamedPaths = _setting("outputs")
    output: Path = _setting("output")
    arguments: tuple[Text, ...] = _setting("arguments")
    parameters: dict[str, Text] = _setting("parameters")
    output_action: str = _setting("output_action")
    append_row_file_name: str = _setting("append_row_file_name")
    append_row: AppendRow = _setting("append_row")
    ordered: Flag = _setting("ordered")
    row_escape: Flag = _setting("row_escape")
    with_source: Flag = _setting("with_source")
    strict_rows: Flag = _setting("strict_rows")
    mini_batch_size: Integer = _setting("mini_batch_size")
    partition_keys: tuple[str, ...] = _setting("partition_keys")
    partition_format: str | None = _setting("partition_format")
    error_threshold: Integer = _setting("error_threshold")
    mini_batch_error_threshold: Integer = _setting("mini_batch_error_threshold")
    allowed_failed_percent: Number = _setting("allowed_failed_percent")
    run_max_try: Integer = _setting("run_max_try")
    run_invocation_timeout: Number = _setting("run_invocation_timeout")
    task_overhead_timeout: Number = _setting("task_overhead_timeout")
    init_timeout: Number = _setting("init_timeout")
    init_max_try: Integer = _setting("init_max_try")
    first_task_creation_timeout: Number = _setting("first_task_creation_timeout")
    progress_update_timeout: Number | None = _setting("progress_update_timeout")
    time_limit: str | None = _setting("time_limit")
    workers: Integer | None = _setting("workers")
    process_count_per_node: Integer | None = _setting("process_count_per_node")
    node_count: Integer | None = _setting("node_count")
    slots_per_rank: Integer = _setting("slots_per_rank")
    min_workers: Integer = _setting("min_workers")
    max_restarts: Integer = _setting("max_restarts")
    crash_limit: Integer = _setting("crash_limit")
    worker_memory_limit: str | None = _setting("worker_memory_limit")
    speculation: Flag = _setting("speculation")
    durability: str = _setting("durability")
    storage_wait: Number = _setting("storage_wait")
    logging_level: str = _setting("logging_level")
    engine_arguments: Flag = _setting("engine_arguments")
    resource_monitor_interval: Number = _setting("resource_monitor_interval")
    profiling_module: str | None = _setting("profiling_module")
    model: Annotated[ModelChoice | None, BeforeValidator(_model_choice)] = _setting("model")
    environment: Environment = _setting("environment")
    environment_variables: dict[str, Text] = _setting("environment_variables")
    table: dict[str, Any] = _setting("table")
    slurm: dict[str, Any] = _setting("slurm")

    entry_module: str = ""
    environment_python: str = ""
    to_csv: dict[str, Any] | None = None
    model_dir: str | None = None
    start_folder: str = ""

    @field_validator("*", mode="before")
    @classmethod
    def _this_version(cls, value: object, info: ValidationInfo) -> object:
        """Null is the default of everything; what comes later is refused by name."""
        row = PARAMETERS.get(info.field_name or "")
        if row is None:
            return value
        if value is None or (row.later and str(value).lower() in row.inert):
            if row.required:
                raise _wrong_value(value)
            return row.default
        if row.later and value != row.default:
            raise _wrong(f"{shown(value)} is not offered by this version yet; leave it out")
        if row.kind is Kind.CHOICE:
            return _choice(value, row.choices)
        return value

    @field_validator("name")
    @classmethod
    def _job_name(cls, value: str | None) -> str | None:
        if value is not None and _JOB_NAME.fullmatch(value) is None:
            raise _wrong_value(value)
        return value

    @field_validator("append_row_file_name")
    @classmethod
    def _file_name(cls, value: str) -> str:
        taken = value in {"", ".", "..", "logs", ".mpirun_infer"} or value.endswith(".partial")
        too_long = len(value.encode("utf-8", "surrogateescape")) > 240
        if taken or too_long or _FORBIDDEN_IN_FILE_NAME & set(value):
            raise _wrong_value(value)
        return value

    @field_validator("mini_batch_size", mode="before")
    @classmethod
    def _files_not_bytes(cls, value: object) -> object:
        rows = isinstance(value, Mapping) or (isinstance(value, str) and value.startswith("rows:"))
        if rows or (isinstance(value, str) and _SIZE_WITH_UNIT.fullmatch(value)):
            raise _wrong(
                f"{shown(value)} is a size for tables; with input_type files a number of files "
                "is wanted"
            )
        return value

    @field_validator("environment_variables")
    @classmethod
    def _variable_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not name or "=" in name or "\0" in name:
                raise _wrong(f"{shown(name)} is no name of a variable")
        return value

    def as_json(self) -> str:
        """The job as ASCII JSON; unlike `model_dump_json` it carries paths that are not UTF-8."""
        return json.dumps(self.model_dump())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The job that `as_json` (or `model_dump_json`) wrote."""
        return cls.model_validate(json.loads(text))

    @property
    def progress_timeout_s(self) -> float:
        """Seconds without any progress after which the run stops."""
        if self.progress_update_timeout is not None:
            return self.progress_update_timeout
        return 2 * (self.run_invocation_timeout + self.task_overhead_timeout)

    @property
    def sys_path(self) -> tuple[str, ...]:
        """Folders for the front of `sys.path`: the root of the script's module, its own folder."""
        parts = self.entry_script.split("/")
        depth = self.entry_module.count(".") + 1
        root, own = "/".join(parts[:-depth]) or "/", "/".join(parts[:-1]) or "/"
        return tuple(dict.fromkeys((self.source_directory or root, own)))

    @property
    def app_root(self) -> str:
        """AML_APP_ROOT: where the script's own files begin."""
        return self.source_directory or self.sys_path[0]

    @property
    def nodes_wanted(self) -> int | None:
        """How many nodes the job names, or implies; None: whatever there is."""
        if self.node_count is not None or self.workers is None:
            return self.node_count
        per_node = self.process_count_per_node
        return None if per_node is None else self.workers // per_node

    def workers_for(self, nodes: int) -> int | None:
        """How many workers the job asks for on `nodes` nodes; None: as many as fit."""
        if self.workers is not None or self.process_count_per_node is None:
            return self.workers
        return self.process_count_per_node * (self.node_count or nodes)


def _choice(value: object, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if isinstance(value, str) and value.lower() == choice.lower():
            return choice
    raise _wrong_value(value)
