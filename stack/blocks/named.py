"""Whether a file that is being written still has its name: whoever may write to the directory may put something else there."""

import os
from pathlib import Path

from stack.blocks.interfaces import FileStamp
from stack.errors import StoreError


def has_name(fd: int, name: str, directory: int) -> bool:
    """Whether an open file is what has this name. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(fd))


def has_stamped(stamp: FileStamp, name: str, directory: int) -> bool:
    """The same of a file that was closed. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino, status.st_size) == (stamp.device, stamp.inode, stamp.size)


def replaced(part: Path) -> StoreError:
    """What is told of a file that has lost its name."""
    return StoreError(f"{part} was removed, or replaced, while it was fetched; fetch it again")


def check_part(fd: int, part: Path, directory: int, size: int) -> None:
    """Before a part file gets its final name. Raises StoreError when that name would be another file's, or a link's, or when the
    file was cut; OSError."""
    if not has_name(fd, part.name, directory):
        raise replaced(part)
    if os.fstat(fd).st_size != size:
        raise StoreError(f"{part} was cut, or made longer, while it was fetched; fetch it again")
