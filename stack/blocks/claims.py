"""Who is writing to a name: two fetches do not write to one, and what stands in the way is told. For worker threads."""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from stack.blocks import disk
from stack.errors import Refused

CLAIMED = frozenset({errno.EWOULDBLOCK, errno.EACCES})
"""What flock says of what another one has; anything else (ENOLCK, EOPNOTSUPP) says nothing about others."""


def claim(fd: int, *, shared: bool = False) -> bool:
    """Have an open file or directory to oneself, or with others who share it, until it is closed; False when somebody else has it.
    A file system without locks gives everything to everybody."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in CLAIMED
    return True


def adopted(part: Path, directory: int, size: int) -> int | None:
    """A descriptor of the part file that another store began and left, to oneself: one of this user, of `size` bytes or none yet, and
    with no other name. None for anything else. Raises OSError."""
    try:
        fd = os.open(part.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise
    status = os.fstat(fd)
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
    if ours and status.st_size in (0, size) and claim(fd):
        return fd
    disk.let_go(fd)
    return None


def in_the_way(part: Path, directory: int) -> Refused:
    """What to say of what lies where a file is to be written; `directory` is the one that it lies in. Raises OSError."""
    status = os.stat(part.name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        with suppress(OSError):
            fd = os.open(part.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
            try:
                if not claim(fd, shared=True):
                    return Refused(f"{part} is being written by another fetch: wait for it, or fetch to another name")
            finally:
                disk.let_go(fd)
    kinds = {stat.S_IFREG: "somebody else's", stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "no file at all")
    return Refused(f"{part} exists, and is not an unfinished file of ours but {kind}; move it away, and fetch again")
