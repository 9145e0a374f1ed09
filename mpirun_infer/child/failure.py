"""Telling what went wrong in the user's code: one line, a place, a bounded traceback.

Owns the words for exceptions.
Touches: the source files that a traceback quotes.
Never:   imports anything of ours; shows our own frames. Runs under Python >= 3.8.

Exceptions are the user's objects: their str() may raise, return nonsense or be huge.
"""

from __future__ import annotations

import os
import traceback

ERROR_CHARS_MAX = 500
DETAIL_CHARS_MAX = 16_000
OUR_FOLDER = os.path.dirname(os.path.abspath(__file__))


def clean(text):
    """Text that every encoder takes: lone surrogates become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(error):
    """`ValueError: bad image`, bounded, whatever the exception is like."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:
        text = "(its str() raises)"
    text = " ".join(text.split("\n")).strip()
    if len(text) > ERROR_CHARS_MAX:
        text = text[:ERROR_CHARS_MAX] + "..."
    return clean("%s: %s" % (name, text) if text else name)


def frames_of(error):
    """The traceback's frames below ours: (frame, line number), outermost first."""
    found = []
    link = error.__traceback__
    while link is not None:
        found.append((link.tb_frame, link.tb_lineno))
        link = link.tb_next
    while found and _is_ours(found[0][0].f_code.co_filename):
        del found[0]
    return found


def where(error, script):
    """`score.py:12`: the innermost line in the script, else in its folder, else of all."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return clean("%s:%d" % (os.path.basename(error.filename), error.lineno))
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in frames_of(error)
        if not _is_ours(frame.f_code.co_filename)
    ]
    folder = os.path.dirname(script) + os.sep
    for wanted in (
        lambda path: path == script,
        lambda path: path.startswith(folder),
        lambda _: True,
    ):
        own = [place for place in places if wanted(place[0])]
        if own:
            path, line = own[-1]
            return clean("%s:%d" % (os.path.basename(path), line))
    return ""


def detail(error):
    """The traceback without our frames, cut in the middle when it is long."""
    link = error.__traceback__
    while link is not None and _is_ours(link.tb_frame.f_code.co_filename):
        link = link.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, link))
    except BaseException as second:
        text = "%s\n(its traceback cannot be written: %s)\n" % (
            one_line(error),
            type(second).__name__,
        )
    if len(text) > DETAIL_CHARS_MAX:
        head = DETAIL_CHARS_MAX // 4
        tail = DETAIL_CHARS_MAX - head
        text = "%s\n... (%d characters left out) ...\n%s" % (
            text[:head],
            len(text) - DETAIL_CHARS_MAX,
            text[-tail:],
        )
    return clean(text)


def argparse_message(error):
    """What argparse had to say before it raised SystemExit, or None."""
    for frame, _ in frames_of(error):
        if frame.f_globals.get("__name__") == "argparse" and frame.f_code.co_name == "error":
            return str(frame.f_locals.get("message", ""))
    return None


def _is_ours(path):
    return path.startswith(OUR_FOLDER + os.sep)
