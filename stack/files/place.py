"""Where a fetch goes, once it is known what is fetched: a tree, or one file or link."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from stack.blocks.disk import store_error
from stack.dag.unixfs.data import NodeKind
from stack.dag.unixfs.names import printable
from stack.dag.unixfs.reader import UnixFSNode
from stack.errors import Refused
from stack.files.jobs import Job
from stack.files.request import FetchRequest
from stack.files.target import file_name

_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What a place says where there is nothing, or a link to nothing."""


def settled(request: FetchRequest, target: Path, node: UnixFSNode, name: str) -> Path:
    """`target`, or something in it: what is no tree goes into a directory that was named for one. Of a link to a directory that directory
    is meant, where it is gone on with; a link to anything else is replaced, and what it leads to stays.

    Raises Refused for an update that would take away what was never part of it, StoreError where that cannot be seen.
    """
    if not (request.update or request.contents):
        return target
    if not node.is_directory and _is_directory_named(request, target, node):
        target = Path(os.path.realpath(target)) / file_name(name, request.root)
    elif node.is_directory and target.is_dir():
        target = Path(os.path.realpath(target))
    if request.update:
        _refuse_to_replace(target, node)
    return target


def going_to(target: Path, jobs: Sequence[Job]) -> list[Job]:
    """Those of these jobs that fetch to that place, by whatever name."""
    place = os.path.realpath(target)
    return [job for job in jobs if os.path.realpath(job.target) == place]


def _is_directory_named(request: FetchRequest, target: Path, node: UnixFSNode) -> bool:
    if request.contents:
        return True
    if request.out is None or request.into_directory or not target.is_dir():
        return False
    return node.kind is not NodeKind.SYMLINK or not target.is_symlink()


def _holds_home(target: Path) -> bool:
    try:
        home = Path(os.path.realpath(Path.home()))
    except RuntimeError:
        return False  # whoever runs this has none
    return home.is_relative_to(target)


def _refuse_to_replace(target: Path, node: UnixFSNode) -> None:
    try:
        mode = (target.lstat() if node.kind is NodeKind.SYMLINK else target.stat()).st_mode
    except OSError as error:
        if error.errno not in _NOTHING:
            raise store_error(f"looking at {target}", error) from error
        mode = None
    shown = printable(str(target))
    if node.is_directory:
        if _holds_home(target):
            reason = "your home folder, or above it, and an update lets who shared it change hidden files there"
            raise Refused(f"{shown} is {reason}: fetch to a directory of its own")
        if (mode is not None and not stat.S_ISDIR(mode)) or (mode is None and target.is_symlink()):
            raise Refused(
                f"{shown} is no directory, and what is fetched is one: move it away, or fetch to another name"
            )
    elif mode is not None and stat.S_ISDIR(mode):
        raise Refused(f"{shown} is a directory, and what is fetched is none: move it away, or fetch to another name")
