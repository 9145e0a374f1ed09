"""The job file and the command line, put together and checked.

Owns precedence (option, `--set`, file, default) and the wording of configuration errors: all of
them at once, a line each, with the place a value came from.
Touches: nothing; `launch.resolve` reads the file.
Never:   looks at the file system; whether a path exists is `launch.resolve`'s question.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mpirun_infer.config import JobConfig, shown
from mpirun_infer.errors import ConfigError
from mpirun_infer.launch.conflicts import conflicts
from mpirun_infer.launch.foreign import FOREIGN
from mpirun_infer.launch.yaml_text import Document, Place, read_document, read_value
from mpirun_infer.parameters import LATER_ENVIRONMENT, PARAMETERS

_RANGE_ERRORS = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "finite_number",
}


@dataclass(frozen=True, slots=True)
class Override:
    """A value from the command line.

    Attributes:
        label: how it was given: `--error-threshold`, `--set error_threshold`.
        place: the keys it replaces, from the top.
        value: the new value.
        problem: why there is no value; empty when there is one.
    """

    label: str
    place: tuple[str, ...]
    value: object = None
    problem: str = ""


def set_override(text: str) -> Override:
    """The override of one `--set key=value`, the value read as YAML."""
    key, equals, value = text.partition("=")
    key = key.strip()
    label = f"--set {key}"
    place = tuple(key.split("."))
    if not equals or not all(place):
        return Override(label, place, problem="key=value is wanted, as in --set run_max_try=2")
    try:
        return Override(label, place, read_value(value, key))
    except ValueError as error:
        return Override(label, place, problem=f"{shown(value)} is {error}")


@dataclass(slots=True)
class Sources:
    """Where every value came from: for messages, and as the folder of relative paths."""

    file_name: str
    file_folder: str
    current_folder: str
    document: Document
    overrides: dict[Place, str] = field(default_factory=dict)

    def label(self, place: Place) -> str:
        """The beginning of a message about `place`, as `job.yaml:7: key`."""
        place = self._as_written(place)
        for end in range(len(place), 0, -1):
            rest = place[end:]
            if (given := self.overrides.get(place[:end])) is not None:
                return ".".join([given, *(part for part in rest if isinstance(part, str))])
            if (line := self.document.lines.get(place[:end])) is not None:
                return f"{self.file_name}:{line}: {_dotted(place)}"
        for inside, given in self.overrides.items():
            if inside[: len(place)] == place:  # only what stands in it was given
                return given
        return f"{self.file_name}: {_dotted(place)}" if self.file_name else _dotted(place)

    def folder(self, place: Place) -> str:
        """The folder that a relative path at `place` is relative to."""
        place = self._as_written(place)
        for end in range(len(place), 0, -1):
            if place[:end] in self.overrides:
                return self.current_folder
            if place[:end] in self.document.lines:
                return self.file_folder
        return self.current_folder

    def _as_written(self, place: Place) -> Place:
        """In a job inputs are a list, in the file perhaps a map: the name instead of the index."""
        written = self.document.values.get("inputs")
        if len(place) > 1 and place[0] == "inputs" and isinstance(written, Mapping):
            index = place[1]
            if isinstance(index, int) and index < len(written):
                return ("inputs", list(written)[index])
        if place[:1] == ("inputs",) and isinstance(written, str):
            return ("inputs",)
        return place[:2] if place[-1:] == ("path",) else place


@dataclass(slots=True)
class Draft:
    """A checked job, or as much of it as could be checked.

    Attributes:
        job: the job; keys in `bad` have a default or stand-in there.
        sources: where its values came from.
        bad: top-level keys that a problem was found with.
        problems: one line each.
    """

    job: JobConfig
    sources: Sources
    bad: set[str]
    problems: list[str]

    def add(self, place: Place, text: str) -> None:
        """Note a problem with the value at `place`."""
        self.bad.add(str(place[0]))
        self.problems.append(f"{self.sources.label(place)}: {text}")

    def check(self) -> None:
        """Raise ConfigError with every problem, in the order of the file, if there is one."""
        if self.problems:
            raise ConfigError(sorted(self.problems, key=self._line))

    def _line(self, problem: str) -> int:
        line = problem.removeprefix(self.sources.file_name + ":").partition(":")[0]
        return int(line) if line.isdecimal() else 1 << 30


def draft_job(
    text: str | None,
    *,
    file_name: str,
    file_folder: str,
    current_folder: str,
    overrides: Sequence[Override],
) -> Draft:
    """Read and check a job; never raises for what is wrong in it."""
    document = Document() if text is None else read_document(text)
    sources = Sources(file_name, file_folder, current_folder, document)
    problems = [
        f"{file_name}:{line}: {message}" if line else f"{file_name}: {message}"
        for line, message in document.problems
    ]
    values = document.values
    bad = set(PARAMETERS) if document.problems and not values else set()  # nothing could be read
    for override in overrides:
        problem = override.problem or _put(values, override, sources)
        if problem:
            problems.append(f"{override.label}: {problem}")
    for key in [key for key in values if key not in PARAMETERS]:
        problems += [f"{sources.label(place)}: {text}" for place, text in _unknown(key, values)]
        del values[key]
    draft = _validated(values, sources, bad)
    draft.problems[:0] = problems
    for key, message in conflicts(draft.job):
        draft.add((key,), message)
    return draft


def _put(values: dict[str, object], override: Override, sources: Sources) -> str:
    """Set one override; returns what is wrong, or an empty text."""
    target = values
    for depth, key in enumerate(override.place[:-1], start=1):
        inner = target.get(key)
        if inner is None:
            inner = target[key] = {}
        if not isinstance(inner, dict):
            return f"{'.'.join(override.place[:depth])} is {shown(inner)}, not a map; set it whole"
        target = inner
    target[override.place[-1]] = override.value
    for place in [
        place for place in sources.overrides if place[: len(override.place)] == override.place
    ]:
        del sources.overrides[place]
    sources.overrides[override.place] = override.label
    return ""


def _unknown(key: str, values: Mapping[str, object]) -> Iterator[tuple[Place, str]]:
    """What an unknown key means here, if it is another system's; else the nearest of ours."""
    inner = values[key]
    if isinstance(inner, Mapping):
        known = [name for name in inner if f"{key}.{name}" in FOREIGN]
        for name in known:
            yield (key, name), FOREIGN[f"{key}.{name}"]
        if known:
            return
    if key in FOREIGN:
        yield (key,), FOREIGN[key]
        return
    near = get_close_matches(key.replace("-", "_").lower(), PARAMETERS, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see mpirun-infer run --help"
    yield (key,), "unknown key" + hint


def _validated(values: dict[str, object], sources: Sources, bad: set[str]) -> Draft:
    draft = Draft(_stand_in(), sources, bad, [])
    errors = list(_errors(values))
    for error in errors:
        key = str(error["loc"][0])
        if key not in bad:
            draft.problems.append(_line(error, sources))
    if not errors:
        draft.job = JobConfig.model_validate(values)
        return draft
    bad.update(str(error["loc"][0]) for error in errors)
    good = {key: value for key, value in values.items() if key not in bad}
    draft.job = JobConfig.model_validate(_stand_in().model_dump(include=_REQUIRED) | good)
    return draft


_REQUIRED = {name for name, row in PARAMETERS.items() if row.required}


def _stand_in() -> JobConfig:
    """A job for looking at the good keys while others are bad."""
    return JobConfig.model_validate({"entry_script": ".", "inputs": ".", "output": "."})


def _errors(values: Mapping[str, object]) -> Iterator[ErrorDetails]:
    try:
        JobConfig.model_validate(values)
    except ValidationError as error:
        yield from error.errors(include_url=False)


def _line(error: ErrorDetails, sources: Sources) -> str:
    """One error as one line: place, key, value, rule."""
    place, kind, value = error["loc"], error["type"], error.get("input")
    key = str(place[0])
    row = PARAMETERS[key]
    label = sources.label(place)
    if kind == "rule":
        return f"{label}: {error['msg']}"
    if kind == "missing" and len(place) == 1:
        option = row.option if row.has_option else "--input"
        return f"{label}: missing; {row.wanted} ({option})"
    if kind == "extra_forbidden":
        if key == "environment" and place[-1] in LATER_ENVIRONMENT:
            return f"{label}: is not offered by this version yet; give {{python: PATH}}"
        return f"{label}: unknown key; {row.wanted}"
    if kind == "unacceptable":
        return f"{label}: {error['msg']} is not accepted; {row.wanted}"
    verb = "is out of range" if kind in _RANGE_ERRORS else "is not accepted"
    return f"{label}: {shown(value)} {verb}; {row.wanted}"


def _dotted(place: Place) -> str:
    """`inputs.images`; a position counts from 1."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
