"""What a tree takes of the disk: known file by file while it is listed, whatever it says of itself."""

import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from stack.blocks import disk
from stack.errors import NoSpace
from stack.files.parts import WrongSize
from stack.files.small import TreeFile
from stack.files.target import bytes_there
from stack.files.work import Progress
from stack.multiformats.cid import Cid

RESERVE_PART = 64
RESERVE_MAX = 256 * 1024 * 1024
"""A 64th of a disk, at most 256 MiB, is left free: for the block store, directories, and whoever else uses the disk."""


class Space:
    """Command: `take`, from worker threads, for files before they are written."""

    def __init__(self, progress: Progress, base: Path, root: Cid, told: int | None) -> None:
        """`base` lies on the disk; `told` is how large the tree `root` says to be, where it does."""
        self._progress = progress
        self._base = base
        self._root = root
        self._told = told
        self._lock = threading.Lock()
        self._content = 0
        self._needed = 0

    def take(self, files: Sequence[TreeFile], sizes: Sequence[int], names: Collection[str] | None = None) -> None:
        """`sizes` are what is to be written of each, were nothing there; `names` are all that are in their directory, if that is known.

        Raises WrongSize when the tree is larger than it said, NoSpace when what is known of it does not fit.
        """
        needed = 0
        for file, size in zip(files, sizes, strict=True):
            if names is None or file.path.name in names or file.part in names:
                size = max(size - bytes_there(file.path, file.path.with_name(file.part)), 0)
            needed += size
        with disk.translated(f"looking at {self._base}"):
            figures = os.statvfs(self._base)
            free = disk.free_bytes(self._base)
        reserve = min(figures.f_blocks * figures.f_frsize // RESERVE_PART, RESERVE_MAX)
        with self._lock:
            self._content += sum(file.node.file_size for file in files)
            self._needed += needed
            content, waiting = self._content, self._needed - self._progress.written
        if self._told is not None and content > self._told:
            raise WrongSize(self._root, self._told, content)
        if waiting > free - reserve:
            raise NoSpace(
                f"{self._base}: the tree needs {waiting:,} bytes more, as far as it is known; "
                f"{max(free - reserve, 0):,} of {free:,} free bytes may be used"
            )
        if figures.f_files and figures.f_favail <= len(files):
            raise NoSpace(f"{self._base}: the file system takes no more files")
