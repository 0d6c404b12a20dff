"""Blocks, pins, garbage, CARs."""

from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api.interfaces import Ask, Done, Read, Watch, Write
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A root that garbage collection keeps; `kind` is `pin` or `share`."""

    cid: Cid
    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPin(Ask[Done]):
    """`stack pin add CID`: fetches what is missing, then keeps it."""

    cid: Cid
    name: str = ""
    timeout: float | None = None
    source: str = ""
    """The ticket, or CID and path, that led to `cid`: who has that is asked. Empty: `cid` itself is what was named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePin(Ask[Done]):
    """`stack pin rm CID`; count 0 when it was not pinned."""

    cid: Cid


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPins(Ask[tuple[Pin, ...]]):
    """`stack pin ls`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageReport:
    """What garbage collection took, or would take."""

    blocks: int
    bytes: int
    kept: int
    """Blocks that are here afterwards."""
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectGarbage(Ask[GarbageReport]):
    """`stack gc`."""

    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoStat:
    """Sizes in bytes."""

    home: str | None
    version: int
    blocks: int
    """That are here; one that lies in two places counts once, as in `GarbageReport` and `VerifyEvent`."""
    shared_files: int
    shared_bytes: int
    """Of files in place: shared, added or fetched."""
    pack_bytes: int
    index_bytes: int
    free_bytes: int
    quota_bytes: int | None
    places: int = 0
    """Of blocks: one that lies in two files has two."""
    waste_bytes: int = 0
    """Of the packs, what nothing refers to any more; the next collection gives it back when that is worth the work."""
    home_bytes: int = 0
    """What all files of the home take on the disk, as `du` counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRepoStat(Ask[RepoStat]):
    """`stack repo stat`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyEvent:
    """The result (`done`), or one thing before it that is wrong, or worth telling."""

    blocks: int
    """That are here now."""
    bytes: int
    """Read and hashed."""
    places: int = 0
    """Of blocks, read and hashed."""
    problem: str | None = None
    unread: bool = False
    """The problem is that something cannot be read now, which says nothing about its bytes."""
    note: str | None = None
    """A file that went or changed, by which nothing is lost."""
    not_whole: int = 0
    """Shares of which files have changed or gone, which is no damage."""
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRepo(Watch[VerifyEvent]):
    """`stack repo verify`: every block is read and hashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """A block of the local store."""

    cid: Cid
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStat(Ask[BlockInfo]):
    """`stack block stat CID`."""

    cid: Cid


@dataclass(frozen=True, slots=True, kw_only=True)
class HasBlocks(Ask[tuple[bool, ...]]):
    """Which of these blocks are in the local store."""

    cids: tuple[Cid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBlocks(Ask[Done]):
    """Forget blocks of the local store; `count` were there. Refused for a pinned root."""

    cids: tuple[Cid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockGet(Read):
    """`stack block get CID`."""

    cid: Cid
    timeout: float | None = None
    source: str = ""
    """The ticket, or CID and path, that led to `cid`: who has that is asked. Empty: `cid` itself is what was named."""
    providers: tuple[Multiaddr, ...] = ()
    """Who has it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPut(Write[BlockInfo]):
    """`stack block put`: at most 2 MiB."""

    codec: str = "raw"
    hash: str = "sha2-256"
    cid_version: int = 1
    cid: Cid | None = None
    """What it must be; the other fields say nothing then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarReport:
    """What was in a CAR."""

    roots: tuple[Cid, ...]
    blocks: int
    bytes: int
    missing: int = 0
    """Blocks below the roots that are nowhere here: then those roots are not pinned."""
    first_missing: Cid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CarImport(Write[CarReport]):
    """`stack car import FILE`."""

    pin: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CarExport(Read):
    """`stack car export CID`."""

    cid: Cid
    timeout: float | None = None
    source: str = ""
    """The ticket, or CID and path, that led to `cid`: who has that is asked. Empty: `cid` itself is what was named."""
