"""From what run() returned to the bytes of the output file.

Owns the row format: elements, data frames, escapes, the source columns, the header line.
Touches: pandas and numpy, if the script has imported them; it never imports them itself.
Never:   imports anything of ours; writes anything. Runs under Python >= 3.8.
"""

from __future__ import annotations

import json
import os
import sys

try:
    from zlib import crc32
except ImportError:  # an interpreter built without zlib
    from binascii import crc32

TO_CSV_DEFAULTS = {"sep": " ", "header": False, "index": False}
TO_CSV_REFUSED = ("path_or_buf", "mode", "compression", "encoding", "errors", "storage_options")
SETTINGS_NAME = "parallel_run_step.settings.json"

WANTED = (
    "a list, tuple, numpy array, Series or DataFrame with one element per succeeded item is wanted"
)


class BadReturnError(Exception):
    """Raised when what run() returned cannot become rows; the try failed."""


class SettingsError(Exception):
    """Raised when the row settings make no sense; no try can succeed."""


def to_csv_options(script, job_options):
    """Keywords of to_csv: ours, changed by the script's settings file, changed by the job's."""
    options = dict(TO_CSV_DEFAULTS)
    path = os.path.join(os.path.dirname(script), SETTINGS_NAME)
    for source, changes in ((path, _settings(path)), ("append_row.to_csv", job_options or {})):
        for name in changes:
            if name in TO_CSV_REFUSED:
                raise SettingsError(
                    "%s: to_csv option %s cannot be used: rows go to one UTF-8 file"
                    % (source, name)
                )
        options.update(changes)
    return options


def _settings(path):
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        changes = settings.get("append_row", {}).get("pandas.DataFrame.to_csv", {})
        if not isinstance(changes, dict):
            raise TypeError("no mapping")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SettingsError(
            '%s: %s; wanted: {"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}'
            % (path, str(error)[:200])
        ) from None
    return changes


class Rows:
    """The rows of one mini-batch: count, header line, bytes; `crc` leaves the header out."""

    __slots__ = ("body", "count", "header")

    def __init__(self, count, header=b"", body=b""):
        self.count = count
        self.header = header
        self.body = body

    @property
    def crc(self):
        """CRC-32 as zlib computes it."""
        return crc32(self.body)


class RowFormat:
    """How a job wants its rows; `options` is `row_options` of the init frame."""

    def __init__(self, options, to_csv, body_bytes_max):
        self._escape = bool(options.get("row_escape"))
        self._with_source = bool(options.get("with_source"))
        self._strict = bool(options.get("strict_rows"))
        self._summary_only = bool(options.get("summary_only"))
        self._to_csv = dict(to_csv)
        self._wants_header = self._to_csv.get("header", False)
        self._body_bytes_max = body_bytes_max

    def rows(self, result, paths, first_item, mini_batch):
        """The rows of what run(paths) returned; BadReturnError tells what is wrong with it."""
        elements = result if type(result) in (list, tuple) else _elements(result)
        count = len(elements)
        if self._strict and count != len(paths):
            raise BadReturnError(
                "run() returned %d rows for %d items and strict_rows is on: "
                "return exactly one element per item" % (count, len(paths))
            )
        if self._summary_only or count == 0:
            return Rows(count)
        if elements is result and _is_frame(result):
            rows = self._frame_rows(result, paths, first_item, mini_batch)
        else:
            texts = _texts(elements)
            if self._escape:
                texts = map(_escaped, texts)
            if self._with_source:
                sources = _sources(paths, first_item, mini_batch, count)
                texts = map("".join, zip(sources, texts))  # noqa: B905 Python 3.8
            rows = Rows(count, b"", _utf8("\n".join(texts) + "\n"))
        if len(rows.body) + len(rows.header) > self._body_bytes_max:
            raise BadReturnError(
                "the rows of one mini-batch take %d bytes, the limit is %d: "
                "return less, or lower mini_batch_size" % (len(rows.body), self._body_bytes_max)
            )
        return rows

    def _frame_rows(self, frame, paths, first_item, mini_batch):
        count = len(frame)
        if self._escape:
            frame = _escaped_frame(frame)
        header = ""
        if self._wants_header:
            header = self._csv(frame.iloc[:0], self._wants_header)
        body = self._csv(frame, False)
        if self._with_source:
            records = self._records(body, count)
            sources = _sources(paths, first_item, mini_batch, count)
            body = "".join(map("".join, zip(sources, records)))  # noqa: B905 Python 3.8
            header = header and "path\titem\tmini_batch\t" + header
        return Rows(count, _utf8(header), _utf8(body))

    def _csv(self, frame, header):
        try:
            return frame.to_csv(**dict(self._to_csv, header=header))
        except Exception as error:
            raise BadReturnError(
                "DataFrame.to_csv(%s) failed: %s: %s"
                % (
                    ", ".join("%s=%r" % item for item in sorted(self._to_csv.items())),
                    type(error).__name__,
                    error,
                )
            ) from error

    def _records(self, text, count):
        """The text cut after each record; a quoted field may hold line ends."""
        lines = text.split("\n")
        if lines.pop() == "" and len(lines) == count:
            return [line + "\n" for line in lines]
        quote = self._to_csv.get("quotechar", '"')
        records = []
        record = []
        quotes = 0
        for line in lines:
            record.append(line)
            quotes += line.count(quote)
            if quotes % 2 == 0:
                records.append("\n".join(record) + "\n")
                record = []
        if record or len(records) != count:
            raise BadReturnError(
                "with_source cannot tell the rows of this DataFrame apart: use to_csv options with "
                "quoting and line ends as pandas has them by default"
            )
        return records


def _elements(result):
    """What has a length and gives rows: the elements, or the DataFrame itself."""
    if _is_frame(result):
        return result
    # Not list(result): that believes the len() of a class of the script's own.
    if isinstance(result, (list, tuple)) or _is_a(result, "pandas", "Series"):
        return list(iter(result))
    if _is_a(result, "numpy", "ndarray"):
        if result.ndim == 0:
            raise BadReturnError("run() returned a numpy array without dimensions; " + WANTED)
        return list(result)
    kind = type(result)
    name = kind.__name__
    if kind.__module__ not in ("builtins", None):
        name = "%s.%s" % (kind.__module__, name)
    hint = ""
    if result is None:
        name, hint = "None", " (does every way through run() end in a return?)"
    elif name == "generator":
        hint = " (has run() a yield in it?)"
    elif isinstance(result, (str, bytes)):
        hint = " (one text is no list of rows: return [text])"
    elif name == "coroutine":
        hint = " (run() must not be async)"
    raise BadReturnError("run() returned %s%s; %s" % (name, hint, WANTED))


def _is_a(value, module_name, class_name):
    """Whether it is one, without importing the module: who has one has imported it."""
    kind = getattr(sys.modules.get(module_name), class_name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _is_frame(value):
    return _is_a(value, "pandas", "DataFrame")


def _texts(elements):
    try:
        return list(map(str, elements))
    except Exception:
        for number, element in enumerate(elements):
            try:
                str(element)
            except Exception as error:
                raise BadReturnError(
                    "str() of element %d of what run() returned raised %s: %s"
                    % (number, type(error).__name__, error)
                ) from error
        raise


def _utf8(text):
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadReturnError(
            "the rows hold %r, which UTF-8 cannot write" % text[error.start : error.start + 1]
        ) from None


def _escaped(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _escaped_frame(frame):
    """A copy in which no text cell holds a line end."""
    columns = {
        position: column.map(lambda cell: _escaped(cell) if isinstance(cell, str) else cell)
        for position, column in enumerate(frame.iloc[:, i] for i in range(frame.shape[1]))
        if column.dtype.kind not in "biufcmM"
    }
    copy = frame.copy()
    for position, column in columns.items():
        if hasattr(copy, "isetitem"):
            copy.isetitem(position, column)
        else:  # before pandas 1.5
            copy.iloc[:, position] = column
    return copy


def _sources(paths, first_item, mini_batch, count):
    """The three leading columns of each row; path and item only when rows and items pair up."""
    if count != len(paths):
        return ["\t\t%d\t" % mini_batch] * count
    return [
        "%s\t%d\t%d\t" % (_source_path(path), first_item + offset, mini_batch)
        for offset, path in enumerate(paths)
    ]


def _source_path(path):
    """Backslash, tab and line ends escaped, so that a path is always one column."""
    return _escaped(path).replace("\t", "\\t")
