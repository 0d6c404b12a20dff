"""A store seen as what files need of it: leaves in place where it can, plain files and copied blocks where it cannot."""

import errno
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import Enclosure
from stack.blocks import disk
from stack.blocks.claims import adopted, claim, in_the_way
from stack.blocks.ending import let_go_with
from stack.blocks.interfaces import (
    BlockStore,
    DirectReads,
    FileStamp,
    FileWriter,
    InPlaceStore,
    Leaf,
    PinStore,
    ReadsMany,
    SegmentId,
    WholeFile,
    WholeFiles,
)
from stack.blocks.named import check_part, has_name
from stack.blocks.sparse import write_sparse
from stack.blocks.wholefiles import Keeping, SmallFiles
from stack.errors import Refused, StackError, StoreError
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer


class Enclosing(Protocol):
    """Knows for whom what is fetched is (`node.access`)."""

    async def for_fetch(self, root: Cid, secret: bytes) -> Enclosure | None: ...
    def store(self, enclosure: Enclosure | None) -> BlockStore: ...


@runtime_checkable
class _InPlace(Protocol):
    """What tells an `InPlaceStore` at run time."""

    def add_file(self, path: Path, stamp: FileStamp, leaves: Sequence[Leaf]) -> object: ...
    def create_file(self, part: Path, size: int) -> object: ...


@runtime_checkable
class _Direct(Protocol):
    """What tells a store with `DirectReads` at run time."""

    def read_into(self, cids: object, out: object) -> object: ...


@runtime_checkable
class _Many(Protocol):
    """What tells a store with `ReadsMany` at run time."""

    def get_many(self, cids: object, most: int) -> object: ...


@runtime_checkable
class _Holding(Protocol):
    """What tells a store that collects garbage."""

    def hold(self, *roots: Cid) -> AbstractContextManager[object]: ...


def hold(store: BlockStore, *roots: Cid) -> AbstractContextManager[object]:
    """While the context lasts, no collection of garbage removes what is put, nor what is below `roots`."""
    return store.hold(*roots) if isinstance(store, _Holding) else nullcontext()


def pins(store: BlockStore) -> PinStore | None:
    """The store, if it keeps pins."""
    return cast(PinStore, store) if isinstance(store, _Pinning) else None


@runtime_checkable
class _Pinning(Protocol):
    """What tells a `PinStore` at run time."""

    def add_pin(self, cid: Cid, name: str = "") -> object: ...


def in_place(store: BlockStore) -> InPlaceStore | None:
    """The store, if blocks may lie in the user's own files for it."""
    return cast(InPlaceStore, store) if isinstance(store, _InPlace) else None


@runtime_checkable
class _Grouping(Protocol):
    """What tells a store that writes many small files at once."""

    def keep_files(self, directory: Path, files: Sequence[WholeFile], *, base: Path) -> object: ...


def grouping(store: BlockStore) -> WholeFiles:
    """The store, if it writes many small files at once; else what does so for one fetch, and records none of them."""
    return cast(WholeFiles, store) if isinstance(store, _Grouping) else PlainFiles()


def direct(store: BlockStore) -> DirectReads | None:
    """The store, if it reads many blocks in one call."""
    return cast(DirectReads, store) if isinstance(store, _Direct) else None


def many(store: BlockStore) -> ReadsMany | None:
    """The store, if it gives out many blocks in one call."""
    return cast(ReadsMany, store) if isinstance(store, _Many) else None


async def create_file(
    store: BlockStore, part: Path, size: int, *, base: Path | None = None, adopt: bool = False
) -> FileWriter:
    """A writer for a file that is fetched: recorded by the store, or plain where the store records no files; `adopt` as there.

    Below `base`, a directory above it (or its own), no link is followed. Raises NoSpace, Refused.
    """
    files = in_place(store)
    if files is not None:
        return await files.create_file(part, size, base=base, adopt=adopt)
    return await anyio.to_thread.run_sync(PlainWriter, part, size, base, adopt)


class PlainWriter:
    """A `FileWriter` that nobody remembers: a fetch by a node without a disk store starts again when it is interrupted."""

    segment = SegmentId(0)

    def __init__(self, part: Path, size: int, base: Path | None = None, adopt: bool = False) -> None:
        self._part = part
        self._size = size
        self._lock = threading.Condition()
        self._writing = 0
        self._fresh = 0
        self._fd: int | None = None
        base = part.parent if base is None else base
        try:
            self._directory = disk.open_below(base, part.parent.relative_to(base).parts)
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    fd = os.open(part.name, flags, 0o666, dir_fd=self._directory)
                except FileExistsError:
                    taken = adopted(part, self._directory, size) if adopt else None
                    if taken is None:
                        raise in_the_way(part, self._directory) from None
                    fd = taken
                try:
                    claim(fd)
                    os.ftruncate(fd, size)
                except BaseException:
                    disk.let_go(fd)
                    os.unlink(part.name, dir_fd=self._directory)
                    raise
            except BaseException:
                disk.let_go(self._directory)
                raise
        except OSError as error:
            raise refusal(part, error) from error
        self._fd = fd

    def write(self, leaf: Leaf, payload: Buffer) -> None:
        """Put a leaf's payload at its offset. Raises NoSpace, StoreError."""
        with self._lock:
            fd = self._fd
            if fd is None:
                raise StoreError(f"{self._part} is no longer being written")
            self._writing += 1
        try:
            with disk.translated(f"writing {self._part}"):
                write_sparse(fd, payload, leaf.offset)
        finally:
            with self._lock:
                self._writing -= 1
                self._fresh += leaf.length
                self._lock.notify_all()

    async def checkpoint(self) -> int:
        """Nothing is recorded; the figure is what was written since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, 0
        return fresh

    async def present(self) -> list[tuple[int, int]]:
        """Nothing."""
        return []

    async def seal(
        self, target: Path, *, mode: int | None = None, mtime_ns: int | None = None, over: bool = False
    ) -> None:
        """Set mode and mtime, then rename. Raises Refused if the target exists, unless `over`."""
        await anyio.to_thread.run_sync(self._seal, target, mode, mtime_ns, over)

    def _seal(self, target: Path, mode: int | None, mtime_ns: int | None, over: bool) -> None:
        assert self._fd is not None
        with disk.translated(f"finishing {self._part}"):
            check_part(self._fd, self._part, self._directory, self._size)
            disk.set_attributes(self._fd, mode, mtime_ns)
            disk.sync_file(self._fd)
        try:
            disk.rename_to(self._part, target, self._directory, over=over)
        except OSError as error:
            raise refusal(target, error) from error
        self._close()

    async def abandon(self, *, remove: bool) -> None:
        """Stop; without a record the part file is of no use later, so it goes in any case."""
        await let_go_with(self._abandon)

    async def aclose(self) -> None:
        """As `abandon`, unless sealed."""
        if self._fd is not None:
            await self.abandon(remove=True)

    def _abandon(self) -> None:
        self._close(remove=True)

    def _close(self, *, remove: bool = False) -> None:
        """Wait for writes on their way: a descriptor closed under them may be another file's by then."""
        with self._lock:
            fd, self._fd = self._fd, None
            self._lock.wait_for(lambda: not self._writing)
        if fd is None:
            return
        try:
            if remove:
                with disk.translated(f"removing {self._part}"), suppress(FileNotFoundError):
                    if has_name(fd, self._part.name, self._directory):
                        os.unlink(self._part.name, dir_fd=self._directory)
        finally:
            disk.let_go(fd)
            disk.let_go(self._directory)


class PlainFiles:
    """`WholeFiles` that nobody remembers."""

    def __init__(self) -> None:
        self._files = SmallFiles(None)
        self._turn = anyio.Lock()

    async def keep_files(self, directory: Path, files: Sequence[WholeFile], *, base: Path) -> list[WholeFile]:
        """See `WholeFiles`. Raises Refused, NoSpace, StoreError."""
        keeping = Keeping(base, directory, files)
        self._files.submit(keeping)
        try:
            async with self._turn:
                while not keeping.done:
                    await anyio.to_thread.run_sync(self._files.keep_next)
        finally:
            keeping.given_up = True
        if keeping.error is not None:
            raise keeping.error
        return keeping.left


_REFUSALS = {
    errno.EEXIST: "it exists already",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "it is on a read-only file system",
    errno.ENOTDIR: "part of the path is no directory",
    errno.ENOENT: "part of the path does not exist",
    errno.ELOOP: "part of the path is a symbolic link",
    errno.ENAMETOOLONG: "the path is too long",
    errno.EISDIR: "it is a directory",
}


def refusal(path: Path, error: OSError) -> StackError:
    """The error to raise when something could not be made at `path`: Refused with the reason, NoSpace or StoreError."""
    if error.errno in _REFUSALS:
        return Refused(f"{path} cannot be written: {_REFUSALS[error.errno]}")
    return disk.store_error(f"writing {path}", error)
