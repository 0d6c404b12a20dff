"""What the parts of one fetch share: store, blocks, progress, limits on what is under way, and where events go."""

import threading
from collections.abc import Callable
from dataclasses import field

import anyio

from stack.blocks.interfaces import BlockStore, WholeFiles
from stack.files.events import EntrySkipped, FetchEvent, FetchResumed
from stack.files.found import Found
from stack.files.gather import Gatherer
from stack.files.ranges import LeafTracker
from stack.files.storage import grouping
from stack.files.update import Update
from stack.values import dataclass

LEAF_BATCH = 512
"""Leaves asked for in one call."""

LEAF_BATCHES = 8
"""Such calls at a time. 4,096 leaves are 1 to 4 GiB: more than any order within the look-ahead needs, at 2 MiB of memory."""

FILES_OPEN = 16
"""Files of a tree written at a time; each holds a descriptor and waits for the disk at its end."""

LEAVE_SECONDS = 1.0
"""What everybody says for so long that it has not got is left for the end: a file that its sharer has lost keeps no other waiting."""

AGAIN_SECONDS = 30.0
"""At the end it is asked for once more, so long at a time; files of a tree twice as long each time in which nothing comes."""
AGAIN_SECONDS_MAX = 960.0

CHECKERS = 2
"""Worker threads that hash what lies on the disk already."""


class Progress:
    """Bytes of the content. Added to from worker threads, read on the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._again = 0
        self.written = 0
        """Of it, what this fetch has put on the disk; holes only where they are asked for as if they were written."""
        self.total = 0
        """As claimed by the DAG."""

    @property
    def done(self) -> int:
        """On the disk and checked, whether it came from peers or was there."""
        return self._done

    def add(self, size: int, *, written: bool = True) -> None:
        """Bytes that have been written, or else found to be right."""
        with self._lock:
            counted = min(size, self._again)
            self._again -= counted
            self._done += size - counted
            self.written += size if written else 0

    def comes_again(self, size: int) -> None:
        """So many bytes that have been added will be found to be right once more."""
        with self._lock:
            self._again += size


@dataclass(slots=True, kw_only=True)
class Work:
    """One fetch at work. Made on the event loop."""

    store: BlockStore
    gatherer: Gatherer
    tell: Callable[[FetchEvent], None]
    tracker: LeafTracker | None = None
    """Of the root, when it is one file."""
    update: Update | None = None
    """Set when what is there with other content is replaced."""
    leaves_holes: bool = False
    """Set where the whole would not fit on the disk: holes are neither asked for nor counted as written then."""
    progress: Progress = field(default_factory=Progress)
    leaf_batches: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(LEAF_BATCHES))
    open_files: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(FILES_OPEN))
    checkers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(CHECKERS))
    files: int = 0
    """Complete now."""
    files_written: int = 0
    """Complete by this fetch, not before."""
    directories: int = 0
    """Made, or found to be there."""
    directories_made: int = 0
    skipped: int = 0
    told_resumed: bool = False
    patience: float | None = field(default_factory=lambda: LEAVE_SECONDS)
    """Seconds for which what nobody has is waited for before the rest; None: no more can be left."""
    comes_back: bool = False
    """Of a tree: a file whose leaves nobody has ends with `Lacking`, and is begun again when all else is there."""
    lost: dict[str, None] = field(default_factory=dict)
    """Paths in a tree of what was left so."""
    no_directories: set[bytes] = field(default_factory=set)
    """Multihashes of entries that were looked at and are neither chosen nor directories: they are not asked for again."""
    small_files: WholeFiles = field(init=False)
    """What writes many of them at once."""
    found: Found = field(init=False)
    """What was there already."""

    def __post_init__(self) -> None:
        self.small_files = grouping(self.store)
        self.found = Found(self.store)

    @property
    def writes(self) -> bool:
        """Unless it is only to be said what would be done."""
        return self.update is None or not self.update.dry_run

    def resumed(self, bytes_present: int) -> None:
        """An earlier fetch is continued; told once."""
        if not self.told_resumed:
            self.told_resumed = True
            self.tell(FetchResumed(bytes_present=bytes_present))

    def skip(self, path: str, reason: str) -> None:
        """An entry of the tree cannot be kept."""
        self.skipped += 1
        self.tell(EntrySkipped(path=path, reason=reason))
