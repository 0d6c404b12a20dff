"""Whether a file still has its name: of one that is being written whoever may write to the directory may put something else there; of
one that was written before, the disk may be away."""

import os
from pathlib import Path

from stack.blocks.index import NUMBER_MASK
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


def is_gone(path: Path, stamp: FileStamp | None) -> bool:
    """Whether a file is not at its place any more. False where that cannot be told: the disk does not answer, the directory is not there
    either (a disk that is not plugged in), or lies on another file system than in the `stamp` (a mount point without it)."""
    try:
        path.lstat()
    except FileNotFoundError:
        try:
            device = os.stat(path.parent).st_dev
        except OSError:
            return False
        return stamp is None or device & NUMBER_MASK == stamp.device & NUMBER_MASK
    except OSError:
        return False
    return False


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
