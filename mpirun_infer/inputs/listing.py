"""From what the job names as an input to the files in it.

Owns the rules of what an item is and in which order items come.
Touches: the input file system: reads folders and manifests; no `stat` of a regular file.
Never:   opens an item; builds up a list of all items.

    folder      all files below it; a folder's own files first, then its sub-folders, each sorted
                bytewise up to SORT_MAX entries and as the file system gives them beyond
    glob        files only; `**` is any number of folders; a `*` matches hidden names too
    @manifest   one path a line, or NUL-separated when it holds a NUL; as it is, not looked at
    run folder  the rows and what the script wrote, without logs and what is ours

Links: a folder is entered once, a file is listed once: a link whose target stands in a folder that
is listed anyway is left out. What is no regular file is `Unusable`.
"""

import errno
import fnmatch
import itertools
import os
import re
import stat
from collections.abc import Iterator, Sequence

import msgspec

from mpirun_infer.errors import IncompleteError, UsageError

SORT_MAX = 100_000
_LINKS_REMEMBERED_MAX = 1_000_000
_BLOCK_BYTES = 1 << 20
_SLASH = ord("/")
_MAGIC = re.compile(rb"[*?[]")
_HIDDEN = b".mpirun_infer"
_OURS_IN_RUN_FOLDER = re.compile(rb"logs|\.mpirun_infer|.*\.partial(\.\d+)?")
# What a folder may answer without the whole listing being in doubt.
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class Found(msgspec.Struct, frozen=True):
    """A file."""

    input_index: int
    path: bytes


class Unusable(msgspec.Struct, frozen=True):
    """Something that stands where files stand and cannot be one: it counts as a failed item."""

    input_index: int
    path: bytes
    reason: str


Chunk = list[bytes] | tuple[bytes, str]
"""Files, or one unusable path and why."""


def list_items(
    inputs: Sequence[tuple[str, str]], *, exclude: Sequence[str] = ()
) -> Iterator[Found | Unusable]:
    """All items of all inputs (name, path), in order; see `list_chunks`."""
    for index, (name, path) in enumerate(inputs):
        for chunk in list_chunks(name, path, exclude=exclude):
            if isinstance(chunk, list):
                for item in chunk:
                    yield Found(index, item)
            else:
                yield Unusable(index, *chunk)


def list_chunks(name: str, path: str, *, exclude: Sequence[str] = ()) -> Iterator[Chunk]:
    """The items of one input. `exclude` are folders not to enter (the run's own output).

    Raises UsageError when there are none, IncompleteError when the file system fails on the way.
    """
    found = False
    try:
        for chunk in _dispatch(name, path, exclude):
            found = found or bool(chunk)
            yield chunk
    except OSError as error:
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else path
        raise IncompleteError(
            f'input "{name}": {place} cannot be listed: {error.strerror or error}; run the same '
            "command again when the file system is well"
        ) from error
    if not found:
        raise UsageError(
            f'input "{name}": {path} holds no files; give a folder, a glob or @list that matches '
            "at least one"
        )


def _dispatch(name: str, path: str, exclude: Sequence[str]) -> Iterator[Chunk]:
    raw = os.fsencode(path)
    if raw.startswith(b"@"):
        return _manifest(name, raw[1:])
    try:
        facts = os.stat(raw)
    except OSError as error:
        if _MAGIC.search(raw) and not os.path.lexists(raw):
            return _glob(_Walk(exclude), raw)
        raise UsageError(
            f'input "{name}": {path} cannot be read: {error.strerror}; give a folder, a file, a '
            "glob or @list that exists"
        ) from error
    if stat.S_ISDIR(facts.st_mode):
        if not os.access(raw, os.R_OK | os.X_OK):
            raise UsageError(f'input "{name}": {path} cannot be read: Permission denied')
        return _Walk(exclude).files(raw)
    if stat.S_ISREG(facts.st_mode):
        return iter([[raw]])
    return iter([(raw, _kind(facts.st_mode))])


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISDIR, "a folder"),
    )
    what = next((text for test, text in kinds if test(mode)), "of an unknown kind")
    return f"not a regular file: {what}"


# --------------------------------------------------------------------------- manifests


def _manifest(name: str, path: bytes) -> Iterator[Chunk]:
    """Paths as they are; relative ones start at the manifest's folder."""
    folder = os.path.dirname(os.path.abspath(path))
    shown = os.fsdecode(path)
    try:
        file = open(path, "rb")  # noqa: SIM115  closed by the with below
    except OSError as error:
        raise UsageError(
            f'input "{name}": the list {shown} cannot be read: {error.strerror}'
        ) from error
    with file:
        rest = file.read(_BLOCK_BYTES)
        rest = rest.removeprefix(b"\xef\xbb\xbf")
        end = b"\0" if b"\0" in rest else b"\n"
        while True:
            block = file.read(_BLOCK_BYTES)
            whole, mark, rest = (rest + block).rpartition(end)
            if not block:
                whole, rest = whole + mark + rest, b""
            paths: list[bytes] = []
            for line in whole.split(end):
                entry = line.removesuffix(b"\r") if end == b"\n" else line
                if b"\0" in entry:
                    yield (entry.replace(b"\0", b"?"), "not a path: it holds a NUL byte")
                elif entry:
                    paths.append(entry if entry[0] == _SLASH else os.path.join(folder, entry))
            if paths:
                yield paths
            if not block:
                return


# --------------------------------------------------------------------------- globs


class _Glob:
    """A pattern, a part for each level; a state is the number of a part still to be matched."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = [
            None if part == b"**" else re.compile(fnmatch.translate(os.fsdecode(part))).match
            for part in parts
        ]

    def start(self) -> frozenset[int]:
        """States at the folder that the wildcards begin in."""
        return self._widened({0})

    def _widened(self, states: set[int]) -> frozenset[int]:
        """`**` may stand for no folder at all."""
        for state in sorted(states):
            number = state
            while number < len(self._parts) and self._parts[number] is None:
                number += 1
                states.add(number)
        return frozenset(states)

    def into(self, states: frozenset[int], name: bytes) -> frozenset[int]:
        """States in a sub-folder; none: nothing below can match."""
        text = os.fsdecode(name)
        ahead: set[int] = set()
        for state in states:
            if state == len(self._parts):
                continue
            match = self._parts[state]
            if match is None:
                ahead.add(state)
            elif match(text):
                ahead.add(state + 1)
        return self._widened(ahead)

    def takes(self, states: frozenset[int], name: bytes) -> bool:
        """Whether a file of that name matches."""
        last = len(self._parts) - 1
        if last not in states:
            return False
        match = self._parts[last]
        return match is None or match(os.fsdecode(name)) is not None

    def takes_path(self, parts: Sequence[bytes]) -> bool:
        """Whether a file at this path, from where the wildcards begin, matches."""
        states = self.start()
        for part in parts[:-1]:
            states = self.into(states, part)
        return self.takes(states, parts[-1])


def _glob(walk: "_Walk", pattern: bytes) -> Iterator[Chunk]:
    """Files that match; the part before the first wildcard is taken as it is."""
    parts = pattern.split(b"/")
    fixed = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
    folder = b"/".join(parts[:fixed]) or (b"/" if pattern.startswith(b"/") else b".")
    if not os.path.isdir(folder):
        return iter(())
    return walk.files(folder, _Glob([part for part in parts[fixed:] if part]))


# --------------------------------------------------------------------------- folders


class _Walk:
    """One input's walk; remembers the folders it has entered, and the targets of links."""

    def __init__(self, exclude: Sequence[str]) -> None:
        self._entered: set[tuple[int, int]] = set()
        self._excluded: set[tuple[int, int]] = set()
        self._linked: set[tuple[int, int]] = set()
        self._root = b""
        self._glob: _Glob | None = None
        for folder in exclude:
            try:
                facts = os.stat(folder)
            except OSError:
                continue
            self._excluded.add((facts.st_dev, facts.st_ino))

    def files(self, path: bytes, glob: _Glob | None = None) -> Iterator[Chunk]:
        """All files below a folder, or those that match."""
        self._root = os.path.realpath(path).rstrip(b"/") + b"/"
        self._glob = glob
        pending = [(path, glob.start() if glob else frozenset[int]())]
        while pending:
            here, states = pending.pop()
            below: list[tuple[bytes, frozenset[int]]] = []
            for entries in self._enter(here):
                if isinstance(entries, tuple):
                    yield entries
                    continue
                yield from self._sort_out(entries, states, below)
            pending += reversed(below)

    def _enter(self, path: bytes) -> Iterator[list[os.DirEntry[bytes]] | tuple[bytes, str]]:
        """The entries of a folder, in many parts if it is large; nothing if it was seen before."""
        try:
            scan = os.scandir(path)
        except OSError as error:
            if error.errno in _REFUSED:
                yield (path, f"a folder that cannot be listed: {error.strerror}")
                return
            raise
        with scan:
            facts = os.stat(path)
            identity = (facts.st_dev, facts.st_ino)
            if identity in self._entered or identity in self._excluded:
                return
            self._entered.add(identity)
            entries = list(itertools.islice(scan, SORT_MAX))
            if len(entries) < SORT_MAX:
                entries.sort(key=_name)
                if any(entry.name == _HIDDEN for entry in entries) and _is_run_folder(path):
                    entries = _without_ours(entries)
                yield entries
                return
            run_folder = _is_run_folder(path)
            while entries:
                yield _without_ours(entries) if run_folder else entries
                entries = list(itertools.islice(scan, SORT_MAX))

    def _sort_out(
        self,
        entries: list[os.DirEntry[bytes]],
        states: frozenset[int],
        below: list[tuple[bytes, frozenset[int]]],
    ) -> Iterator[Chunk]:
        """Files are yielded, folders are added to `below`."""
        files: list[bytes] = []
        add_file = files.append
        glob = self._glob
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                if glob is None or glob.takes(states, entry.name):
                    add_file(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                self._descend(entry, states, below)
            else:
                reason = self._special(entry, states, below)
                if reason:
                    yield (entry.path, reason)
                elif reason is not None:
                    add_file(entry.path)
        if files:
            yield files

    def _descend(
        self,
        entry: os.DirEntry[bytes],
        states: frozenset[int],
        below: list[tuple[bytes, frozenset[int]]],
    ) -> None:
        if self._glob is not None:
            states = self._glob.into(states, entry.name)
            if not states:
                return
        below.append((entry.path, states))

    def _special(
        self,
        entry: os.DirEntry[bytes],
        states: frozenset[int],
        below: list[tuple[bytes, frozenset[int]]],
    ) -> str | None:
        """A link, or neither file nor folder: why unusable, "" if it is not, None: no item."""
        wanted = self._glob is None or self._glob.takes(states, entry.name)
        try:
            facts = os.stat(entry.path)
        except OSError as error:
            return _why_lost(error) if wanted else None
        if stat.S_ISDIR(facts.st_mode):
            self._descend(entry, states, below)
            return None
        if not wanted:
            return None
        if not stat.S_ISREG(facts.st_mode):
            return _kind(facts.st_mode)
        return "" if self._is_new_target(entry, (facts.st_dev, facts.st_ino)) else None

    def _is_new_target(self, link: os.DirEntry[bytes], identity: tuple[int, int]) -> bool:
        """Whether the file that a link leads to is listed under no other name."""
        if not link.is_symlink():
            return True  # a file after all, whose kind the file system did not tell
        if identity in self._linked:
            return False
        target = os.path.realpath(link.path)
        if target.startswith(self._root):
            parts = target[len(self._root) :].split(b"/")
            if self._glob is None or self._glob.takes_path(parts):
                return False
        elif self._glob is None:
            try:
                folder = os.stat(os.path.dirname(target))
            except OSError:
                pass
            else:
                if (folder.st_dev, folder.st_ino) in self._entered:
                    return False
        if len(self._linked) < _LINKS_REMEMBERED_MAX:
            self._linked.add(identity)
        return True


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name


def _is_run_folder(path: bytes) -> bool:
    return os.path.isfile(os.path.join(path, _HIDDEN, b"version"))


def _without_ours(entries: list[os.DirEntry[bytes]]) -> list[os.DirEntry[bytes]]:
    return [entry for entry in entries if not _OURS_IN_RUN_FOLDER.fullmatch(entry.name)]


def _why_lost(error: OSError) -> str:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        return "not a regular file: a broken link"
    return f"not a regular file: {error.strerror or error}"
