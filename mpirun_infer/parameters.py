"""The table of parameters: one row per top-level key of a job.

Owns names, defaults, limits and help texts. The command line makes its options from it and
`config` its fields, so that the two cannot differ.
Touches: nothing. Plain data on purpose: `run --help` reads it without importing a validator.
Never:   decides whether a value is good; `config` does.
"""

from dataclasses import dataclass
from enum import StrEnum

LONGEST_DEADLINE_S = 259_200.0
WORKERS_MAX = 100_000
SLOTS_PER_RANK_MAX = 1_024


class Kind(StrEnum):
    """What a value is; it decides how it is read, shown and whether it has an option."""

    TEXT = "text"
    PATH = "path"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"
    CHOICE = "choice"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One top-level key of a job.

    Attributes:
        name: the key; its option is the same with dashes.
        help: one sentence, for `--help` and the documentation.
        wanted: the rule, as it ends an error message.
        default: the value when nothing is said.
        minimum: smallest value allowed.
        above: every value must be larger than this.
        maximum: largest value allowed.
        choices: the words allowed, as they are stored.
        metavar: what stands for the value in `--help`.
        required: there is no default.
        has_option: a scalar that can be given on the command line by its own option.
        later: this version knows the name but only accepts the values in `inert`.
        inert: values, in lower case, that ask for nothing.
    """

    name: str
    kind: Kind
    help: str
    wanted: str
    default: object = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    required: bool = False
    has_option: bool = True
    later: bool = False
    inert: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The option's name, for a flag without its `--no-` form."""
        return "--" + self.name.replace("_", "-")


def _integer(
    name: str,
    default: int | None,
    minimum: int,
    text: str,
    note: str = "",
    maximum: int | None = None,
) -> Parameter:
    most = "" if maximum is None else f" and at most {maximum}"
    wanted = f"an integer >= {minimum}{most} is wanted" + (f" ({note})" if note else "")
    return Parameter(
        name, Kind.INTEGER, text, wanted, default, minimum=minimum, maximum=maximum, metavar="N"
    )


def _deadline(
    name: str, default: float | None, text: str, maximum: float | None = LONGEST_DEADLINE_S
) -> Parameter:
    most = "" if maximum is None else f" and at most {maximum:.0f}"
    wanted = f"seconds above 0{most} are wanted"
    return Parameter(
        name, Kind.NUMBER, text, wanted, default, above=0.0, maximum=maximum, metavar="SECONDS"
    )


def _flag(name: str, text: str, *, default: bool = False, later: bool = False) -> Parameter:
    return Parameter(
        name,
        Kind.FLAG,
        text,
        "true or false is wanted",
        default,
        later=later,
        inert=("false",) if later else (),
    )


def _choice(name: str, default: str, choices: tuple[str, ...], text: str) -> Parameter:
    wanted = " or ".join([", ".join(choices[:-1]), choices[-1]]) + " is wanted"
    return Parameter(
        name, Kind.CHOICE, text, wanted, default, choices=choices, metavar="|".join(choices)
    )


def _map(name: str, text: str, wanted: str, *, later: bool = False) -> Parameter:
    inert = ("{}",) if later else ()
    return Parameter(name, Kind.MAP, text, wanted, {}, has_option=False, later=later, inert=inert)


_NAMES_AND_PATHS = "names with a path each are wanted, as in {labels: labels.txt}"

_ROWS = (
    Parameter(
        "name",
        Kind.TEXT,
        "Name of the job; groups runs, and {name} in output stands for it.",
        "3 to 32 of a-z, 0-9 and - are wanted, a letter first, no - at the end",
    ),
    Parameter("description", Kind.TEXT, "What the job is for.", "text is wanted"),
    Parameter(
        "entry_script",
        Kind.PATH,
        "The script with run(mini_batch): a path, or a dotted module such as pkg.module.",
        "the path of a Python file or a dotted module is wanted",
        metavar="PATH",
        required=True,
    ),
    Parameter(
        "source_directory",
        Kind.PATH,
        "Folder the script and its modules live in; its root is put on sys.path.",
        "a folder is wanted",
        metavar="FOLDER",
    ),
    Parameter(
        "inputs",
        Kind.MAP,
        "What is scored: folders, files, globs, @list files, or a map of names to them.",
        "a path, a list of paths or a map of names to paths is wanted",
        (),
        required=True,
        has_option=False,
    ),
    Parameter(
        "input_type",
        Kind.CHOICE,
        "Whether a mini-batch is a list of files or a table.",
        "files is wanted",
        "files",
        choices=("files", "tabular"),
        metavar="files|tabular",
        later=True,
        inert=("files",),
    ),
    _map("side_inputs", "Reference data, not split: a map of names to paths.", _NAMES_AND_PATHS),
    _map("outputs", "Folders the script itself writes to, made before init().", _NAMES_AND_PATHS),
    Parameter(
        "output",
        Kind.PATH,
        "Folder for the rows, logs and journal; {name} and {time} may stand in it.",
        "a folder is wanted",
        metavar="FOLDER",
        required=True,
    ),
    Parameter(
        "arguments",
        Kind.LIST,
        "Arguments of the script; after -- on the command line.",
        "a list of texts and numbers is wanted",
        (),
        has_option=False,
    ),
    _map("parameters", "Values for ${{parameters.x}}.", "a map of names to values is wanted"),
    _choice(
        "output_action",
        "append_row",
        ("append_row", "summary_only"),
        "append_row gathers the returned rows in one file; summary_only counts them.",
    ),
    Parameter(
        "append_row_file_name",
        Kind.TEXT,
        "Name of the file the rows are gathered in.",
        'a file name without ~ " # % & * : < > ? / \\ { | } is wanted',
        "parallel_run_step.txt",
        metavar="NAME",
    ),
    _map(
        "append_row",
        "How rows of a data frame are written: {to_csv: {sep: ..., header: ...}}.",
        "{to_csv: {...}} with keywords of pandas' DataFrame.to_csv is wanted",
    ),
    _flag("ordered", "Rows in the order of the input.", later=True),
    _flag("row_escape", "Write backslash, newline and carriage return in a row as two characters."),
    _flag("with_source", "Put input path, item number and mini-batch in front of each row."),
    _flag("strict_rows", "A wrong number of returned rows fails the try."),
    Parameter(
        "mini_batch_size",
        Kind.INTEGER,
        "How many files one run() gets.",
        "an integer >= 1 is wanted, the number of files (units such as 1MB are for tables)",
        10,
        minimum=1,
        metavar="N",
    ),
    Parameter(
        "partition_keys",
        Kind.LIST,
        "Cut the input by these keys of partition_format.",
        "a list of names is wanted",
        (),
        has_option=False,
        later=True,
        inert=("[]", "()"),
    ),
    Parameter(
        "partition_format",
        Kind.TEXT,
        "How parts of a path bind to keys.",
        "text is wanted",
        metavar="FORMAT",
        later=True,
    ),
    _integer(
        "error_threshold",
        -1,
        -1,
        "Failed items that are allowed; more than this stop the job, -1 allows any number.",
        "-1 ignores failures",
    ),
    _integer(
        "mini_batch_error_threshold",
        -1,
        -1,
        "Failed mini-batches that are allowed; -1 allows any number.",
        "-1 ignores failures",
    ),
    Parameter(
        "allowed_failed_percent",
        Kind.NUMBER,
        "Percentage of mini-batches that may fail, checked once all are listed.",
        "a number from 0 to 100 is wanted",
        100.0,
        minimum=0,
        maximum=100,
        metavar="PERCENT",
    ),
    _integer("run_max_try", 3, 1, "Tries of a mini-batch before its items count as failed."),
    _deadline("run_invocation_timeout", 60.0, "Time for one run(); over it the try failed."),
    _deadline("task_overhead_timeout", 600.0, "Time to load a mini-batch and hand it over."),
    _deadline("init_timeout", 600.0, "Time for importing the script and init().", None),
    _integer("init_max_try", 3, 1, "Failures of init() in a row that retire a worker."),
    _deadline(
        "first_task_creation_timeout", 600.0, "Time from the start to the first mini-batch.", None
    ),
    _deadline(
        "progress_update_timeout",
        None,
        "Time without any progress after which the run stops, resumable. "
        "Default: 2 x (run_invocation_timeout + task_overhead_timeout).",
        None,
    ),
    Parameter(
        "time_limit",
        Kind.TEXT,
        "Time the run may take.",
        "seconds or HH:MM:SS is wanted",
        metavar="TIME",
        later=True,
    ),
    _integer(
        "workers",
        None,
        1,
        "Workers of the job. Default: one per GPU, else one per core.",
        maximum=WORKERS_MAX,
    ),
    _integer("process_count_per_node", None, 1, "Workers on each node."),
    _integer("node_count", None, 1, "Nodes of the job: those of the Slurm allocation, else 1."),
    _integer(
        "slots_per_rank",
        1,
        1,
        "Workers that one MPI rank looks after.",
        maximum=SLOTS_PER_RANK_MAX,
    ),
    _integer("min_workers", 1, 1, "Workers that must be left for the run to go on."),
    _integer("max_restarts", 5, 0, "Relaunches after the loss of a rank or node."),
    _integer("crash_limit", 3, 1, "Losses of its rank after which a running mini-batch failed."),
    Parameter(
        "worker_memory_limit",
        Kind.TEXT,
        "Memory of a worker's whole process tree.",
        "a size such as 4GB is wanted",
        metavar="SIZE",
        later=True,
    ),
    _flag("speculation", "Run slow mini-batches twice at the end.", later=True),
    _choice(
        "durability",
        "strict",
        ("strict", "process"),
        "strict: rows survive the machine's death; process: only that of our processes.",
    ),
    Parameter(
        "storage_wait",
        Kind.NUMBER,
        "Time to wait for space on a full file system.",
        "seconds >= 0 are wanted",
        600.0,
        minimum=0,
        metavar="SECONDS",
    ),
    _choice(
        "logging_level",
        "INFO",
        ("WARNING", "INFO", "DEBUG"),
        "What the log files hold.",
    ),
    _flag(
        "engine_arguments",
        "Put options such as --mini_batch_size=10 into the script's sys.argv.",
        default=True,
    ),
    Parameter(
        "resource_monitor_interval",
        Kind.NUMBER,
        "Time between samples of nodes and processes.",
        "seconds >= 0 are wanted (0 turns it off)",
        60.0,
        minimum=0,
        metavar="SECONDS",
        later=True,
        inert=("60", "60.0", "0", "0.0"),
    ),
    Parameter(
        "profiling_module",
        Kind.TEXT,
        "Profiler for run().",
        "cProfile is wanted",
        metavar="MODULE",
        later=True,
        inert=("off", "none", ""),
    ),
    Parameter(
        "model",
        Kind.TEXT,
        "The model: NAME or NAME:VERSION; sets AZUREML_MODEL_DIR.",
        "NAME, NAME:VERSION or {dir: PATH} is wanted",
        metavar="NAME[:VERSION]",
    ),
    _map("environment", "The script's own Python: {python: PATH}.", "{python: PATH} is wanted"),
    _map(
        "environment_variables",
        "Variables of the script's processes; they win over all that we set.",
        "a map of names to texts and numbers is wanted",
    ),
    _map("table", "How tables are read.", "a map is wanted", later=True),
    _map("slurm", "What is asked of Slurm.", "a map is wanted", later=True),
)

PARAMETERS: dict[str, Parameter] = {row.name: row for row in _ROWS}
"""Every key of a job, in the order of the documentation."""

OPTIONS = tuple(row for row in _ROWS if row.has_option)
"""The parameters that have an option."""

LATER_ENVIRONMENT = ("conda", "venv", "modules", "setup", "container")
"""Keys of `environment` that this version knows but does not offer."""
