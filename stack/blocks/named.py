"""Whether a file that is being written still has its name: whoever may write to the directory may put something else there."""

import os
from pathlib import Path

from stack.errors import StoreError


def has_name(fd: int, name: str, directory: int) -> bool:
    """Whether an open file is what has this name. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(fd))


def check_part(fd: int, part: Path, directory: int, size: int) -> None:
    """Before a part file gets its final name. Raises StoreError when that name would be another file's, or a link's, or when the
    file was cut; OSError."""
    if not has_name(fd, part.name, directory):
        raise StoreError(f"{part} was removed, or replaced, while it was fetched; fetch it again")
    if os.fstat(fd).st_size != size:
        raise StoreError(f"{part} was cut, or made longer, while it was fetched; fetch it again")
