"""What a block store is, in small pieces: a store need only be a `BlockStore`; what can do more says so by a second Protocol.

Blocks are known by their multihash: CIDs that differ in version or codec name the same bytes. Shape after
ipfs/boxo blockstore, with batches everywhere because calls cross into worker threads.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import NewType, Protocol

from stack.errors import StackError, StoreError
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

BLOCK_SIZE_MAX = 2 * 1024 * 1024
"""bitswap specification: implementations must support blocks of 2 MiB, and we take nothing larger from the network."""


class BlockNotFound(StackError):
    """The store does not have this block."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"block not found: {cid}")
        self.cid = cid


class BlockMismatch(StackError):
    """Bytes that do not hash to the CID they were given for; `source` names the peer or the file they came from."""

    def __init__(self, cid: Cid, source: str) -> None:
        super().__init__(f"wrong bytes for {cid} from {source}")
        self.cid = cid
        self.source = source


class ReadFailed(StoreError):
    """The disk could not read a block now. That says nothing of its bytes: it may be read in a moment, so nothing is given up."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"reading {path}: {error.strerror or error}")
        self.path = path


class SourceChanged(StackError):
    """A file that is shared in place no longer holds the bytes that were indexed; its blocks have been withdrawn."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} changed after it was shared; it is no longer served. Run `stack share` on it again.")
        self.path = path


Block = tuple[Cid, bytes]


NOT_HERE = (BlockNotFound, BlockMismatch, SourceChanged, ReadFailed)
"""What a store's `get` says of a block that has to come from elsewhere now."""


class BlockStore(Protocol):
    """The least a store does. Every method may be cancelled; what was acknowledged stays."""

    async def has(self, cids: Sequence[Cid]) -> list[bool]:
        """For each CID whether its block is here. Does not touch block data."""
        ...

    async def sizes(self, cids: Sequence[Cid]) -> list[int | None]:
        """The size of each block in bytes, None where it is absent. Does not touch block data."""
        ...

    async def get(self, cid: Cid) -> bytes:
        """The block, re-hashed. Raises BlockNotFound, BlockMismatch, SourceChanged."""
        ...

    async def put(self, blocks: Sequence[Block]) -> None:
        """Keep blocks; returns when they would survive a power cut. Raises NoSpace, BlockMismatch (nothing is kept then)."""
        ...

    async def delete(self, cids: Sequence[Cid]) -> int:
        """Forget blocks; returns how many were here."""
        ...

    def cids(self) -> AsyncIterator[Cid]:
        """Every block as a CIDv1 with the raw codec. Raises if the listing breaks off; it never just ends early."""
        ...

    async def aclose(self) -> None: ...


class DirectReads(Protocol):
    """A store that can read several blocks into one buffer without a copy in Python; the data path of the server."""

    async def read_into(self, cids: Sequence[Cid], out: memoryview) -> list[int | None]:
        """Read blocks one behind the other into `out`, each re-hashed, in one worker call.

        Returns each block's size, or None for a block that is absent, was found damaged, or did not fit any more.
        """
        ...


class ReadsMany(Protocol):
    """A store that gives out several blocks at the cost of one, without a copy."""

    async def get_many(self, cids: Sequence[Cid], most: int) -> list[bytes | None]:
        """Blocks of `most` bytes in all, each re-hashed, in one worker call. None for one that is absent, was found damaged, cannot be
        read now, or is too much."""
        ...


class KeepsVerified(Protocol):
    """A store that believes who has hashed the blocks that are to be kept."""

    async def put_verified(self, blocks: Sequence[Block]) -> None:
        """As `BlockStore.put`, but for BlockMismatch."""
        ...


class ReadsToSend(Protocol):
    """A store that knows what need not be hashed for somebody who hashes it himself."""

    async def read_to_send(self, cids: Sequence[Cid], out: memoryview) -> list[int | None]:
        """As `DirectReads.read_into`, for a peer: a block that this process has hashed in a file which has not changed since is
        not hashed again, but for one in some; and if it is in memory no worker is called."""
        ...

    async def let_go(self) -> None:
        """The duty of closing the files that lie open for it; of whoever calls the other."""
        ...


class SegmentState(Enum):
    """`FETCHING`: being written by a fetch. `SEALED`: complete. `MISSING`: its file is gone or changed."""

    FETCHING = "fetching"
    SEALED = "sealed"
    MISSING = "missing"


SegmentId = NewType("SegmentId", int)


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a block's payload lies in a file: `prefix + file[offset : offset + length] + suffix` are the block's bytes.

    Raw leaves have empty prefix and suffix; leaves wrapped in dag-pb (CIDv0 files) have the few bytes of their frame.
    """

    cid: Cid
    offset: int
    length: int
    prefix: bytes = b""
    suffix: bytes = b""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells that a file is still the one that was indexed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int | None = field(default=None, compare=False)
    """Of a file whose leaves were read and hashed after it was looked at: then they are known to be right as long as it looks so.
    Never kept, and never told of leaves that are known from elsewhere."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file or a pack in which blocks lie."""

    id: SegmentId
    kind: str
    """`file` (a user's own, in place) or `pack` (ours)."""
    path: Path
    state: SegmentState
    stamp: FileStamp | None


class FileWriter(Protocol):
    """A file that is being fetched in place. Made by `InPlaceStore.create_file`.

    `write` is synchronous and called from worker threads, several at once; everything else from the event loop.
    """

    @property
    def segment(self) -> SegmentId: ...

    def write(self, leaf: Leaf, payload: Buffer) -> None:
        """Put a verified leaf's payload at its offset. It is readable through the store at once. Raises NoSpace."""
        ...

    async def checkpoint(self) -> int:
        """Sync the data, then record its rows. Returns bytes newly on record. Raises NoSpace."""
        ...

    async def present(self) -> list[tuple[int, int]]:
        """(offset, length) of all that is on record, in order: what a resumed fetch need not ask for again."""
        ...

    async def seal(
        self, target: Path, *, mode: int | None = None, mtime_ns: int | None = None, over: bool = False
    ) -> None:
        """Checkpoint, set mode and mtime, record `target`, rename the part file to it. Raises Refused if it exists; with `over`
        a file that is there is replaced."""
        ...

    async def abandon(self, *, remove: bool) -> None:
        """Stop writing; the part file and its rows stay for a later resume unless `remove`."""
        ...

    async def aclose(self) -> None:
        """Checkpoint and let go of the file descriptor."""
        ...


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A small file to be written in place: its one leaf is all of it. One that is in its own name is not recorded."""

    name: str
    part: str
    """Where it is until it is whole, in the same directory."""
    leaf: Leaf
    payload: Buffer
    mode: int | None = None
    mtime_ns: int | None = None


class WholeFiles(Protocol):
    """A store in place that writes many small files at the cost of one."""

    async def keep_files(self, directory: Path, files: Sequence[WholeFile], *, base: Path) -> list[WholeFile]:
        """Write files of a directory below `base`, durably; returns those of which something was there before, untouched.

        Raises Refused, NoSpace.
        """
        ...


class PageCache(Enum):
    """Whether the system remembers what is fetched: then the first reading of it is from memory, and other things are forgotten."""

    AUTO = "auto"
    """Unless it is large beside the memory there is: then its beginning would be forgotten before its end has come."""
    ALWAYS = "always"
    NEVER = "never"


class RemembersPages(Protocol):
    """A store that writes files in place, and can do so past the system's memory."""

    def set_page_cache(self, policy: PageCache) -> None:
        """Holds for files that are begun from now on."""
        ...


class InPlaceStore(Protocol):
    """A store whose blocks may lie in the user's own files."""

    async def add_file(self, path: Path, stamp: FileStamp, leaves: Sequence[Leaf]) -> SegmentId:
        """Record where the leaves of a file lie; nothing is copied. May be called several times for one file."""
        ...

    async def add_files(self, files: Sequence[tuple[Path, FileStamp, Sequence[Leaf]]]) -> None:
        """The same for several files at absolute paths, together. The caller has looked at each after it was read: one that has
        changed since is recorded as it was, and withdrawn when it is next looked at. Raises Refused while one is being fetched (the
        others are recorded), NoSpace, StoreError."""
        ...

    async def create_file(self, part: Path, size: int, *, base: Path | None = None, adopt: bool = False) -> FileWriter:
        """Start, or go on with, a file that is fetched in place. Below `base`, a directory above it in which others may
        write, no link is followed. With `adopt` a file of this name and size is taken over though nothing is on record of it: its
        name tells that another store left it, and nothing in it counts until it is written again.

        It has its size from the start, but takes no space yet: whether there is enough is asked by who knows what is to be
        written, and what are holes. Raises NoSpace, Refused."""
        ...

    async def segments(self) -> list[Segment]: ...

    async def forget_file(self, path: Path) -> int:
        """Withdraw all blocks that lie in this file; returns how many rows went."""
        ...

    async def forget_files(self, places: Sequence[Path], kept: Sequence[Path]) -> int:
        """Withdraw all files that are or lie below `places`, but for those below `kept`; returns how many rows went."""
        ...

    async def check_files(self) -> list[Segment]:
        """Compare each file's stamp with the disk; those that changed or went are withdrawn and returned."""
        ...


RealmId = NewType("RealmId", int)

EVERYBODY = RealmId(0)
"""The realm that everybody may enter."""


class RealmState(Enum):
    """`CLOSED`: for who proves to know its secret. `OPEN`: for everybody, as long as it lasts. `ANNOUNCED`: for everybody as long as it
    is announced, and closed again then. `ENDED`: for nobody."""

    CLOSED = "closed"
    OPEN = "open"
    ANNOUNCED = "announced"
    ENDED = "ended"

    @property
    def is_open(self) -> bool:
        """Whether everybody may enter."""
        return self in (RealmState.OPEN, RealmState.ANNOUNCED)


@dataclass(frozen=True, slots=True)
class Realm:
    """What is given to the same people: one share, or what was fetched with one ticket."""

    id: RealmId
    root: Cid | None
    """What it is of; None while that is being made."""
    secret: bytes
    state: RealmState

    def __repr__(self) -> str:
        return f"<Realm {self.id} {self.state.value}>"


class RealmStore(Protocol):
    """A store that remembers for whom its blocks are. A block is for whoever may enter one of the realms that it was put for while it
    was here; what was put for none is for everybody."""

    def within(self, realm: RealmId) -> BlockStore:
        """The same store; what is put, added or created through it is for this realm."""
        ...

    async def sizes_for(self, cids: Sequence[Cid], admitted: frozenset[RealmId]) -> list[int | None]:
        """As `sizes`, for a peer that was admitted to these realms: None too for what is not for it."""
        ...

    async def realms_of(self, cid: Cid) -> list[RealmId]:
        """The realms of a block; none when it is not here, or always was for everybody."""
        ...

    async def realms(self) -> list[Realm]:
        """All realms, the oldest first."""
        ...

    async def add_realm(
        self, secret: bytes, *, root: Cid | None = None, state: RealmState = RealmState.CLOSED
    ) -> Realm: ...
    async def change_realm(self, id: RealmId, *, root: Cid | None, state: RealmState) -> None: ...
    async def merge_realms(self, source: RealmId, into: RealmId) -> None:
        """All that is in one realm is in another instead; the one is no more."""
        ...


class PinKind(Enum):
    """Why a root is kept. The two kinds do not see each other: removing one leaves the other."""

    USER = "user"
    """Somebody asked for it (`stack pin add`, `stack add`)."""
    SHARE = "share"
    """Implied by something that is shared or fetched; goes with it."""


class PinStore(Protocol):
    """Roots that garbage collection must keep, with all that is below them. One pin a CID and kind; a new name replaces the old."""

    async def add_pin(self, cid: Cid, name: str = "", *, kind: PinKind = PinKind.USER) -> None: ...
    async def remove_pin(self, cid: Cid, *, kind: PinKind = PinKind.USER) -> bool: ...
    async def pins(self, *, kind: PinKind = PinKind.USER) -> list[tuple[Cid, str]]: ...
