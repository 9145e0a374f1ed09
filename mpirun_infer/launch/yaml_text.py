"""YAML text to plain values, with the line of every one.

Owns the dialect: YAML 1.2, one document, no duplicate keys, no tags, no merge keys, bounded.
Touches: nothing; the caller reads the file.
Never:   knows what a key means.
"""

from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

TEXT_BYTES_MAX = 1 << 20
_VALUES_MAX = 200_000
_DEPTH_MAX = 40
_LITERAL_KEYS = ("arguments", "parameters", "environment_variables")
"""Below these a number stays the text that was written: it goes to a script, 0.10 and all."""
_TAG = "tag:yaml.org,2002:"

Place = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top."""


@dataclass(slots=True)
class Document:
    """What a text holds.

    Attributes:
        values: the top-level map.
        lines: the line of every key and list element, by its place; the first line is 1.
        problems: (line, message) of all that cannot be read; line 0: the text as a whole.
    """

    values: dict[str, object] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read_document(text: str) -> Document:
    """Read a job file's text; whatever is wrong is in `problems`."""
    document = Document()
    reader = _Reader(document)
    root = reader.compose(text)
    if root is None:
        return document
    values = reader.value(root, ())
    if isinstance(values, dict):
        document.values = values
    elif values is not None and not document.problems:
        document.problems.append((1, "a job file is a map, key: value; this is something else"))
    return document


def read_value(text: str, key: str) -> object:
    """Read the value of `--set key=value`.

    Raises:
        ValueError: it is no YAML; the message says why.
    """
    document = Document()
    first = key.partition(".")[0]
    reader = _Reader(document)
    root = reader.compose(text)
    value = None if root is None else reader.value(root, (first,))
    if document.problems:
        raise ValueError(document.problems[0][1])
    return value


class _Reader:
    """Turns ruamel's nodes into values; it never constructs a Python object by a tag."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values = 0
        self._gave_up = False

    def compose(self, text: str) -> Node | None:
        if len(text) > TEXT_BYTES_MAX:
            self._problem(0, f"larger than {TEXT_BYTES_MAX >> 20} MiB; put lists into a file")
            return None
        try:
            node: Node | None = YAML(typ="safe", pure=True).compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = error.problem or error.context or "cannot be read"
            self._problem(0 if mark is None else mark.line + 1, f"no valid YAML: {reason}")
            return None
        except (YAMLError, ValueError) as error:
            self._problem(0, f"no valid YAML: {str(error).splitlines()[0]}")
            return None
        except RecursionError:
            self._problem(0, "nested too deeply")
            return None
        return node

    def _problem(self, line: int, text: str) -> None:
        self._document.problems.append((line, text))

    def _give_up(self, line: int) -> None:
        if not self._gave_up:
            self._problem(line, "too many or too deeply nested values; put lists into a file")
        self._gave_up = True

    def value(self, node: Node, place: Place) -> object:
        """The value of a node; counts every one, so that aliases cannot multiply without end."""
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > _VALUES_MAX or len(place) > _DEPTH_MAX:
            self._give_up(line)
        if self._gave_up:
            return None
        match node:
            case MappingNode():
                return self._mapping(node, place)
            case SequenceNode():
                found = []
                for index, child in enumerate(node.value):
                    self._document.lines[(*place, index)] = child.start_mark.line + 1
                    found.append(self.value(child, (*place, index)))
                return found
            case ScalarNode():
                return self._scalar(node, place)
            case _:
                self._problem(line, "cannot be read")
                return None

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            dotted = ".".join(map(str, (*place, key_node.value)))
            if not isinstance(key_node, ScalarNode):
                self._problem(line, "a key is a name, not a list or map")
            elif key_node.tag == _TAG + "merge":
                self._problem(line, "merge keys (<<) are not read; write the keys out")
            elif key_node.value in found:
                first = self._document.lines[(*place, key_node.value)]
                self._problem(line, f"{dotted}: given twice, first on line {first}; keep one")
            else:
                key = key_node.value
                self._document.lines[(*place, key)] = line
                found[key] = self.value(value_node, (*place, key))
        return found

    def _scalar(self, node: ScalarNode, place: Place) -> object:
        text: str = node.value
        kind = str(node.tag).removeprefix(_TAG)
        match kind:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float":
                number = _number(text)
                is_literal = bool(place) and place[0] in _LITERAL_KEYS
                return number if number is not None and not is_literal else text
            case "str" | "timestamp" | "value":
                return text
            case _:
                self._problem(node.start_mark.line + 1, f"the tag {node.tag} is not read")
                return None


def _number(text: str) -> int | float | None:
    """A number of YAML 1.2's core schema; None: it is text after all."""
    plain = text.lower()
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    try:
        if digits.startswith("0x"):
            return sign * int(digits, 16)
        if digits.startswith("0o"):
            return sign * int(digits, 8)
        if digits in {".inf", ".nan"}:
            return sign * float(digits[1:])
        if "_" in digits:
            return None
        return int(plain) if digits.isdigit() and len(digits) < 20 else float(plain)
    except ValueError:
        return None
