"""What a fetch finds to be there already is recorded where it lies, as what it writes is: both are served."""

import threading
from pathlib import Path

from stack.blocks.interfaces import BlockStore, FileStamp, Leaf
from stack.errors import Refused, StoreError
from stack.files.storage import in_place

LEAVES_TOGETHER = 4096
"""Recorded in one transaction, some 2 MiB of memory."""


class Found:
    """Commands: `add` and `drop`, from worker threads; `keep`, on the event loop."""

    def __init__(self, store: BlockStore) -> None:
        self._files = in_place(store)
        self._lock = threading.Lock()
        self._waiting: dict[Path, tuple[FileStamp, list[Leaf]]] = {}
        self._leaves = 0

    def add(self, path: Path, stamp: FileStamp, leaf: Leaf) -> None:
        """A leaf is in a file that looked so before it was read."""
        if self._files is not None:
            with self._lock:
                known = self._waiting.setdefault(path, (stamp, []))
                if known[0] != stamp:
                    known = self._waiting[path] = stamp, []
                known[1].append(leaf)
                self._leaves += 1

    def drop(self, path: Path) -> None:
        """It is not the file that is wanted, or looks otherwise now."""
        with self._lock:
            self._leaves -= len(self._waiting.pop(path, (None, ()))[1])

    async def keep(self, least: int = 1) -> None:
        """Record what was found, once it is so many leaves. Raises NoSpace, StoreError; it can be tried again then."""
        if self._leaves < least or self._files is None:
            return
        with self._lock:
            waiting, self._waiting, self._leaves = self._waiting, {}, 0
        try:
            await self._files.add_files([(path, *found) for path, found in waiting.items()])
        except Refused:
            pass  # another fetch is writing that file: it records what it has
        except StoreError:
            with self._lock:
                for path, (stamp, leaves) in waiting.items():
                    if self._waiting.setdefault(path, (stamp, []))[0] == stamp:
                        self._waiting[path][1].extend(leaves)
                        self._leaves += len(leaves)
            raise
