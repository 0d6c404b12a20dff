"""A directory of a tree while it is fetched, and what its files are called meanwhile."""

import hashlib
import os
import sys

from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import Shard
from stack.files.target import PART_SUFFIX, Below
from stack.multiformats.cid import Cid


class Directory:
    """A directory that is not complete: it is when all that was found in it is, and gets its attributes then."""

    __slots__ = (
        "begun",
        "below",
        "cid",
        "keys",
        "left",
        "made",
        "mode",
        "mtime_ns",
        "parent",
        "position",
        "strange",
        "there",
        "unfinished",
        "unread",
    )

    def __init__(self, cid: Cid, below: Below, parent: "Directory | None") -> None:
        self.cid = cid
        self.below = below
        self.parent = parent
        self.made = False
        self.mode: int | None = None
        self.mtime_ns: int | None = None
        self.unfinished = 1
        """What is on its way in it; the reading of the directory itself is one."""
        self.unread: list[Shard | list[Entry] | None] = [None]
        """Nodes still to be read, the next one last; None is the first node. Entries that were read and left are one too."""
        self.left: list[Shard | list[Entry] | None] = []
        """Of these, what nobody has: for the end, the next one first."""
        self.begun: set[str] = set()
        """Names of files that were begun, and counted, before they were left."""
        self.position = 0
        """Where to go on in the next one."""
        self.strange: set[str] = set()
        """Names that were there before and are not known to be part of it."""
        self.there: frozenset[str] = frozenset()
        """Names that were there before, where all of the directory is wanted."""
        self.keys: dict[str, str] = {}

    def unmade(self) -> "list[Directory]":
        """This one and those above it, the highest first, that are not made yet."""
        if self.made:
            return []
        return [*(self.parent.unmade() if self.parent is not None else ()), self]


def part_name(name: str, cid: Cid) -> str:
    """What a file of a tree is called while it is being fetched. The tree may have a `NAME.part` of its own, hardly this one."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:  # no file can have that name here, nor is it begun
        raw = name.encode("utf-8", "surrogatepass")
    # Long names often differ at their end only, and may be those of equal files.
    mark = hashlib.sha256(raw + b"/" + bytes(cid)).hexdigest()[:8]
    return f"{raw[:200].decode(sys.getfilesystemencoding(), 'ignore')}.{mark}{PART_SUFFIX}"
