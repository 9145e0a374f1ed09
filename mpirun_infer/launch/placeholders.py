"""`${{inputs.x}}` and `$[[ ... ]]` in arguments and variables.

Owns what a placeholder becomes.
Touches: nothing.
Never:   goes through a shell: a value with blanks stays one argument.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

_PLACEHOLDER = re.compile(r"\$\{\{\s*([^{}]*?)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expanded:
    """What a text became: no text at all when all of it was optional and absent."""

    texts: tuple[str, ...]
    problems: tuple[str, ...] = ()


def expand(text: str, values: Mapping[str, str]) -> Expanded:
    """One text with its placeholders replaced."""
    whole = _OPTIONAL.fullmatch(text)
    if whole is not None and _is_absent(whole[1], values):
        return Expanded(())
    problems: list[str] = []
    pieces: list[str] = []
    end = 0
    for optional in _OPTIONAL.finditer(text):
        pieces.append(_filled(text[end : optional.start()], values, problems))
        if not _is_absent(optional[1], values):
            pieces.append(_filled(optional[1], values, problems))
        end = optional.end()
    pieces.append(_filled(text[end:], values, problems))
    return Expanded(("".join(pieces),), tuple(problems))


def expand_argument(text: str, values: Mapping[str, str]) -> Expanded:
    """As `expand`; `$[[--flag ${{inputs.x}}]]` alone becomes two arguments, or none."""
    whole = _OPTIONAL.fullmatch(text)
    if whole is None:
        return expand(text, values)
    if _is_absent(whole[1], values):
        return Expanded(())
    problems: list[str] = []
    # Split before filling in, blanks inside the braces put away, so that a value is never split.
    template = _PLACEHOLDER.sub(lambda found: "${{" + found[1] + "}}", whole[1])
    texts = tuple(_filled(piece, values, problems) for piece in template.split())
    return Expanded(texts, tuple(problems))


def _is_absent(text: str, values: Mapping[str, str]) -> bool:
    return any(name not in values for name in _PLACEHOLDER.findall(text))


def _filled(text: str, values: Mapping[str, str], problems: list[str]) -> str:
    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if name in values:
            return values[name]
        near = get_close_matches(name, values, n=1)
        hint = f"did you mean {near[0]}?" if near else "there are: " + ", ".join(sorted(values))
        problems.append(f"${{{{{name}}}}} is unknown; {hint}")
        return ""

    return _PLACEHOLDER.sub(value_of, text)
