"""A file that is being fetched in place, as the event loop sees it."""

from pathlib import Path

from anyio import CapacityLimiter, to_thread

from stack.blocks.core import StoreCore
from stack.blocks.ending import let_go_with
from stack.blocks.interfaces import Leaf, SegmentId
from stack.blocks.partfile import PartFile
from stack.sansio.interfaces import Buffer


class DiskFileWriter:
    """Implements FileWriter. Made by `DiskStore.create_file`.

    `write` records by itself when much is waiting, or something for a second; the owner calls `checkpoint` at least
    every 2 s, because nothing is recorded while nothing arrives.
    """

    def __init__(self, core: StoreCore, part: PartFile, limiter: CapacityLimiter) -> None:
        self._core = core
        self._part = part
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"<DiskFileWriter {self._part.segment.path}>"

    @property
    def segment(self) -> SegmentId:
        """The id of the file in the store."""
        return self._part.segment.id

    def write(self, leaf: Leaf, payload: Buffer) -> None:
        """Put a verified leaf's payload at its offset, in the calling worker thread. It is readable at once.

        Raises NoSpace, StoreError; ValueError when leaf, payload and file do not fit together.
        """
        self._part.write(leaf, payload)

    async def checkpoint(self) -> int:
        """Sync the data, then record its rows. Returns bytes newly on record. Raises NoSpace, StoreError."""
        return await to_thread.run_sync(self._part.checkpoint, limiter=self._limiter)

    async def present(self) -> list[tuple[int, int]]:
        """(offset, length) of each leaf on record, in order: what a resumed fetch need not ask for again."""
        return await to_thread.run_sync(self._part.present, limiter=self._limiter)

    async def seal(
        self, target: Path, *, mode: int | None = None, mtime_ns: int | None = None, over: bool = False
    ) -> None:
        """Checkpoint, set mode and mtime, record `target`, rename the part file to it; `over` a file that is there, if wanted.

        Raises Refused if the name is taken or the place cannot be written to: the part file stays then, and `seal` may be called
        again. Raises NoSpace, StoreError.
        """
        await to_thread.run_sync(self._core.seal_part, self._part, target, mode, mtime_ns, over, limiter=self._limiter)

    async def abandon(self, *, remove: bool) -> None:
        """Stop writing; the part file and its rows stay for a later resume unless `remove`. Raises NoSpace, StoreError."""
        await let_go_with(self._core.abandon_part, self._part, remove, limiter=self._limiter)

    async def aclose(self) -> None:
        """Checkpoint and let go of the file. May be called again, and after `seal`. Raises NoSpace, StoreError."""
        await self.abandon(remove=False)
