"""Text that came from outside, made safe for a terminal or a log that a terminal will show.

Owns which characters are escaped, and how.
Touches: nothing.
Never:   changes what is stored: names and errors are escaped where they are shown.
"""

import unicodedata

# Control characters move the cursor or run terminal commands; surrogates cannot be printed; line
# separators and the marks that turn the writing direction make a line look like another one.
_ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_ESCAPED = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""The text with what a terminal would obey or choke on written as `\x1b`, `\n`, `\udc80`."""
    safe = "".join(
        char.encode("unicode_escape").decode("ascii")
        if char in _ESCAPED or unicodedata.category(char) in _ESCAPED_CATEGORIES
        else char
        for char in text
    )
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def encodable(text: str) -> str:
    """Without lone surrogates, which UTF-8 does not have; all else stays as it is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable_lines(text: str, encoding: str = "utf-8") -> str:
    """The same for a text of several lines, a stack for instance: its newlines stay."""
    return "\n".join(printable(line, encoding) for line in text.split("\n"))
