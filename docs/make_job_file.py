"""Write docs/job-file.md from the table of parameters: `python docs/make_job_file.py`.

Owns the words around the table and the layout of the page.
Touches: docs/job-file.md.
Never:   says of a parameter what the table does not; a test compares the page with this.
"""
# ruff: noqa: INP001 - a program beside the pages it writes, not a package

from collections.abc import Iterator
from pathlib import Path

from mpirun_infer.parameters import LATER_ENVIRONMENT, PARAMETERS, Kind, Parameter

PAGE = Path(__file__).with_name("job-file.md")

BEFORE = """\
# The job file

<!-- Written by docs/make_job_file.py from mpirun_infer/parameters.py; change those, not this. -->

A job is one map in a YAML 1.2 file, given to `mpirun-infer run JOB.yaml`. The file may be left
out: everything in it can be given on the command line. A small one:

```yaml
name: digits
entry_script: score.py
inputs: {images: data/png}
side_inputs: {labels: data/labels.txt}
output: runs/{name}
mini_batch_size: 100
error_threshold: 10
arguments: [--labels, "${{side_inputs.labels}}"]
```

* **Who wins**: an option, then `--set KEY=VALUE`, then the file, then the default. An option
  replaces the whole value of the file; `--set` reaches into maps with dots (`--set
  parameters.x=3`) and reads the value as YAML. What follows `--` replaces `arguments`.
* **Paths** are relative to the job file when they stand in it, and to the current folder when
  they are given on the command line. Symbolic links are not resolved. `~/` is your home.
* **YAML 1.2**: `off`, `no` and `1:00:00` are texts. A key given twice, tags and merge keys (`<<`)
  are errors. A file has at most 1 MiB.
* **Numbers** may be written as texts (`"10"`). Below `arguments`, `parameters` and
  `environment_variables` what looks like a number stays as it is written: `0.10` reaches the
  script as `0.10`.
* **Errors** come all at once, a line each: place, key, value, rule. An unknown key is an error
  with the nearest name; names of ParallelRunStep, parallel jobs and batch endpoints are errors
  that name ours.

## All keys
"""

AFTER = """\
## More about some keys

**`inputs`** is a path, a list of paths, or a map of names to paths. A path is one of

| path | what it gives |
|---|---|
| a folder | every file below it, hidden ones too, sorted by name within each folder |
| a file | itself |
| a glob | the files that match; `**` is any number of folders; quote it for a shell |
| `@list.txt` | one path a line, or NUL-separated if it holds a NUL; relative to the list |
| `@-` | such a list on standard input, relative to the current folder; kept in the run folder |
| another run's output folder | its rows and what its script wrote; never logs or journal |

A resumed run has the kept list of `@-`; `${{inputs.NAME}}` is its path.
A mini-batch never mixes inputs. What is no regular file (a pipe, a device, a dead link) counts as
a failed item; paths from a list are not looked at before `run()` gets them. `azureml:`,
`https://` and the like are refused: mount or copy, then give the path. The output folder must not
lie in an input.

**`entry_script`** is a file (relative to `source_directory`, if given), or a dotted module:
`src.entry` is `src/entry.py` and is imported under that name.

**`arguments`** and **`environment_variables`** may hold placeholders: `${{inputs.NAME}}`,
`${{side_inputs.NAME}}`, `${{outputs.NAME}}`, `${{parameters.NAME}}` and `${{output}}`. They
become absolute paths, or the value. An unknown one is an error. With optional parts: an argument
`$[[--flag ${{parameters.x}}]]` becomes two arguments, or none when there is no `x`. No shell is
involved: blanks and quotes arrive as they are.

**`output`** must be empty, new, or the output of an earlier launch of this run. In `{time}`
stands the time of the launch, so such a run gets a new folder each time and cannot be resumed by
the same command.

**`append_row`**: `{to_csv: {...}}` holds keywords of pandas' `DataFrame.to_csv`, over those of a
file `parallel_run_step.settings.json` beside the script, over ours: a blank between columns, no
header, no index. With `header: true` the header is written once, at the top.

**`environment`**: `{python: PATH}` is the interpreter of the script, 3.8 or later; none of our
packages are needed in it. One that does not start, or is older, ends the run at once (2). Known
but not offered yet: LATER_ENVIRONMENT.

**`model`**: `NAME` or `NAME:VERSION` is looked for as `<place>/<name>/<version>` in
`$MPIRUN_INFER_MODELS`, `$AML_APP_ROOT/azureml-models` and `./azureml-models`, then as `./<name>`;
without a version the highest number is taken. The variables are those of the script's process
(`environment_variables` win), and so `Model.get_model_path(NAME)` finds the same. `{dir: PATH}`
names the folder itself. It becomes `AZUREML_MODEL_DIR`.

**`workers`, `process_count_per_node`, `node_count`, `slots_per_rank`**: give `workers`, or
`process_count_per_node`, which stands for that many on each node. `node_count` only says what you
expect: a Slurm allocation of another size is an error, and outside of one there is 1 node, this
host. `workers` and `process_count_per_node` must be multiples of `slots_per_rank`, and `workers`
one of `process_count_per_node`: together they name a number of nodes, too.

**Timeouts** are seconds. `run_invocation_timeout` is for one `run()`; loading, formatting and
handing over have `task_overhead_timeout`.

**Thresholds** stop the run when a count *exceeds* them. Only what has failed for good counts.
"""


def page() -> str:
    """The whole page."""
    later_environment = ", ".join(f"`{name}`" for name in LATER_ENVIRONMENT)
    offered = [row for row in PARAMETERS.values() if not row.later]
    later = [row for row in PARAMETERS.values() if row.later]
    parts = [BEFORE, *_table(offered), "", *_later(later), ""]
    return "\n".join([*parts, AFTER.replace("LATER_ENVIRONMENT", later_environment)])


def _table(rows: list[Parameter]) -> Iterator[str]:
    yield "| key and option | type | default | range | meaning |"
    yield "|---|---|---|---|---|"
    for row in rows:
        cells = (_names(row), str(row.kind), _default(row), _range(row), row.help)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _later(rows: list[Parameter]) -> Iterator[str]:
    yield "## Known, but not offered yet"
    yield ""
    yield "Any value but those in the second column is an error that says so. `--help` hides these."
    yield ""
    yield "| key and option | accepted | meaning, some day |"
    yield "|---|---|---|"
    for row in rows:
        accepted = ", ".join(f"`{text}`" for text in row.inert if text) or "none"
        yield f"| {_names(row)} | {accepted} | {row.help} |"


def _names(row: Parameter) -> str:
    if not row.has_option:
        return f"`{row.name}`"
    option = f"`{row.option}`"
    if row.kind is Kind.FLAG:
        option += f", `--no-{row.option.removeprefix('--')}`"
    return f"`{row.name}`<br>{option}"


def _default(row: Parameter) -> str:
    if row.required:
        return "required"
    if row.default in (None, (), {}):
        return "none"
    text = str(row.default).lower() if row.kind is Kind.FLAG else str(row.default)
    return f"`{text.removesuffix('.0')}`"


def _range(row: Parameter) -> str:
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.kind in (Kind.INTEGER, Kind.NUMBER):
        limits = ((">=", row.minimum), (">", row.above), ("<=", row.maximum))
        return ", ".join(f"{sign} {limit:.0f}" for sign, limit in limits if limit is not None)
    return row.wanted.replace(" are wanted", "").replace(" is wanted", "")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
