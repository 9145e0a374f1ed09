"""The files of `.mpirun_infer/lock/`: what stands in one, and how it comes to be there.

Owns their format, their exclusive creation (whole and durable, or not at all) and their reading.
Touches: the lock folder, through a descriptor of it.
Never:   decides who may hold a lock (`store.lock`).
"""

import errno
import os

import msgspec

from mpirun_infer.store.host import HostFacts

COUNTER_DIGITS = 20
HELD = "held    "
RELEASED = "released"


class LockFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a lock file. `counter` and `state` come first: they are rewritten in place."""

    counter: str
    state: str
    epoch: int
    launch: str
    facts: HostFacts


def head(counter: int, state: str) -> bytes:
    """The beginning of a file, of constant length: it is rewritten in place."""
    return b'{"counter":"%0*d","state":"%b"' % (COUNTER_DIGITS, counter, state.encode())


def create(folder_fd: int, content: LockFile) -> bool:
    """Make the file of an epoch, whole and durable; False when another was faster."""
    facts = content.facts
    name = str(content.epoch)
    draft = f"draft.{facts.host}.{facts.pid}.{os.urandom(6).hex()}".replace("/", "_")
    fd = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder_fd
    )
    try:
        try:
            _write(fd, msgspec.json.encode(content) + b"\n")
            made = _link(folder_fd, draft, name, fd)
        finally:
            os.close(fd)
        if made is None:
            made = _create_plainly(folder_fd, name, content)
    finally:
        os.unlink(draft, dir_fd=folder_fd)
    if made:
        os.fsync(folder_fd)
    return made


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
    os.fsync(fd)


def _link(folder_fd: int, draft: str, name: str, fd: int) -> bool | None:
    """None: this file system has no hard links."""
    try:
        os.link(draft, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except OSError as error:
        # A repeated NFS request may fail although the first one made the link.
        if os.fstat(fd).st_nlink == 2:
            return True
        if error.errno == errno.EEXIST:
            return False
        if error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            return None
        raise
    return True


def _create_plainly(folder_fd: int, name: str, content: LockFile) -> bool:
    try:
        fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder_fd
        )
    except FileExistsError:
        return False
    try:
        _write(fd, msgspec.json.encode(content) + b"\n")
    finally:
        os.close(fd)
    return True


def read(folder_fd: int, epoch: int) -> LockFile | None:
    """None when it cannot be read (yet)."""
    try:
        # What is a FIFO now must not hold us.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(str(epoch), flags, dir_fd=folder_fd)
    except OSError:
        return None
    try:
        return msgspec.json.decode(os.read(fd, 1 << 16), type=LockFile)
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        os.close(fd)
