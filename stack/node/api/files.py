"""Files and trees: adding, sharing, fetching, reading."""

from dataclasses import field
from pathlib import Path

from stack.files.events import Added, AddProgress, EntryAdded, EntrySkipped, FetchEvent, WaitingForProvider
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api.interfaces import Ask, Read, Watch
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFlags:
    """Options of an import, as typed; None means what the profile says. Names as in `stack add --help` and in Kubo."""

    profile: str | None = None
    cid_version: int | None = None
    raw_leaves: bool | None = None
    chunker: str | None = None
    trickle: bool | None = None
    hash: str | None = None
    inline: bool | None = None
    inline_limit: int | None = None
    max_file_links: int | None = None
    max_directory_links: int | None = None
    max_hamt_fanout: int | None = None
    wrap_with_directory: bool = False
    mode: int | None = None
    mtime: int | None = None
    mtime_nsecs: int | None = None
    preserve_mode: bool = False
    preserve_mtime: bool | None = None
    hidden: bool = False


AddEvent = AddProgress | EntryAdded | EntrySkipped | Added


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Watch[AddEvent]):
    """`stack add PATH`."""

    paths: tuple[Path, ...]
    flags: ImportFlags = field(default_factory=ImportFlags)
    include: tuple[str, ...] = ()
    """Patterns of what alone is taken of a tree (`files.chosen`)."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out of a tree."""
    ignore_files: tuple[Path, ...] = ()
    """Files with lines as in `.gitignore`, of what is left out of a tree; files called `.stackignore` in it are always heeded."""
    gitignore: bool = False
    """Heed the files called `.gitignore` in it too."""
    only_hash: bool = False
    copy: bool = False
    rehash: bool = False
    """Read files too that have not changed since they were last read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A share is being served. The last event of `Share`."""

    ticket: str
    cid: Cid
    name: str
    size: int
    peer_id: str
    addrs: tuple[Multiaddr, ...]
    announced: bool = False
    """Whoever knows the CID can find it."""
    open: bool = False
    """Everybody who knows the CID and asks this node gets it: because that was asked for, or because it is so already."""
    public_name: str | None = None
    """Anybody can find it by this."""
    code: str = ""
    """What others may type in place of the ticket, for a moment (`stack share --code`)."""


ShareEvent = AddProgress | EntrySkipped | Shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Watch[ShareEvent]):
    """`stack share PATH...`: import in place, pin, remember, make the ticket."""

    paths: tuple[Path, ...]
    name: str = ""
    """What receivers call it, in place of its own name."""
    include: tuple[str, ...] = ()
    """As in `Add`, and so are the three that follow."""
    exclude: tuple[str, ...] = ()
    ignore_files: tuple[Path, ...] = ()
    gitignore: bool = False
    unsafe_links: bool = False
    """Take symbolic links too that lead out of the tree."""
    hidden: bool = False
    flags: ImportFlags = field(default_factory=ImportFlags)
    open: bool = False
    """Everybody who knows the CID may fetch it; without, only who has the ticket."""
    announce: bool = False
    """Let whoever knows the CID find it; without, only who has the ticket does. Implies `open`."""
    public_name: str | None = None
    """Let anybody find it by the words of this name; implies `announce`."""
    rehash: bool = False
    """Read files too that have not changed since they were last read."""
    owner: str = ""
    """Who shares it (`node.owners`): it ends with that process. Without one the home keeps it until it is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverInfo:
    """Somebody to whom a share went."""

    peer_id: str
    bytes_sent: int
    part: float | None
    """What part of it he says he has, 0 to 1; None when he says nothing, or has gone."""
    complete: bool
    """He has all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareInfo:
    """Something that this home gives to others: why, whether it does so now, and to whom it went."""

    cid: Cid
    name: str
    paths: tuple[str, ...]
    size: int
    """0 where it is not known: of a pin that was fetched."""
    since: float
    """Unix seconds; 0 for a pin."""
    bytes_sent: int
    copies: int
    """Peers that have all of it."""
    peers: tuple[str, ...]
    state: str
    """`serving`; `not served` (no node runs that serves anybody), `changed`, `missing`."""
    kept: bool
    """The home keeps it until it is removed; otherwise it ends with the command that shares it."""
    why: tuple[str, ...] = ()
    """`shared`, `seeded`, `partly seeded`, `pinned`, `announced`."""
    ticket: str = ""
    """With the addresses that this node has now."""
    served_by: str | None = None
    """The process that serves it, as `stack daemon, process 123`."""
    receivers: tuple[ReceiverInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListShares(Ask[tuple[ShareInfo, ...]]):
    """`stack shares ls`: all that the home gives to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareEnded:
    """What was ended of one root."""

    cid: Cid
    name: str
    paths: tuple[str, ...]
    what: tuple[str, ...]
    """As `ShareInfo.why`."""
    still_pinned: bool
    """It is still given to others, because the user has pinned it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesRemoved:
    """What was ended; `count` 0 when there was nothing of that name."""

    count: int = 0
    ended: tuple[ShareEnded, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveShare(Ask[SharesRemoved]):
    """`stack shares rm CID|NAME|PATH`: stop sharing and announcing one thing; the user's files stay as they are. What is only pinned is
    unpinned. Refused when several have that name or path."""

    target: str
    path: Path | None = None
    """`target` as a place, absolute where the command runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketInfo:
    """What is here, with a ticket for it that has this node's addresses of now."""

    ticket: str
    cid: Cid
    name: str
    size: int
    why: tuple[str, ...] = ()
    """As `ShareInfo.why`, but for `announced`."""
    kept: bool = True
    """A daemon of this home serves it; otherwise it ends with the command that shares it."""
    paths: tuple[str, ...] = ()
    """Where it is, of what is shared or seeded."""
    below: str = ""
    """Of what is partly seeded the path below the root that is here, where it is one and that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTicket(Ask[tuple[TicketInfo, ...]]):
    """`stack ticket`: of all that is shared, seeded or pinned here and has this CID, name or place."""

    target: str
    path: Path
    """`target` as a place, absolute where the command runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendProgress:
    """Block bytes that went out for a share, told at most a few times a second."""

    peer_id: str
    bytes_sent: int
    complete: bool
    """This peer has all of it now: it says so or, where it does not say what it has, it was sent all and has read it."""
    needless: bool = False
    """It says that it has all that it wanted, and nothing of that went from here: it had it before, or has it of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLost:
    """A shared file is no longer served: it was removed or moved (`gone`), or its bytes are others now."""

    path: str
    gone: bool


ShareProgress = SendProgress | SourceLost


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchShare(Watch[ShareProgress]):
    """To whom a share goes, as it goes, and which of its files can no longer be served."""

    cid: Cid
    owner: str = ""
    """Leaving the context ends the share for this owner."""
    once: bool = False
    """It is over when a receiver has all that it wanted, and no other has begun and is still here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Watch[FetchEvent]):
    """`stack get`: `source` is a ticket or a CID, with or without a path below it; `target` an absolute path as typed with `-o`, or None.

    `directory` is where the command runs: relative names end up there.
    """

    source: str
    directory: Path
    target: Path | None = None
    into_directory: bool = False
    """`target` was typed with a slash at its end: it is a directory, made if need be."""
    contents: bool = False
    """`target` was typed as `.` or with `/.` at its end: what is in a tree goes straight into it, beside what is there."""
    providers: tuple[Multiaddr, ...] = ()
    timeout: float | None = None
    deadline: float | None = None
    include: tuple[str, ...] = ()
    """Patterns of what alone is fetched of a tree (`files.chosen`)."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is not fetched of a tree."""
    unsafe_links: bool = False
    """Make symbolic links of a tree too that lead out of it."""
    update: bool = False
    """Bring what is there to this version; `target` is the tree itself then, also where it exists."""
    delete: bool = False
    """With `update`: delete what is not part of this version."""
    dry_run: bool = False
    """With `update`: only tell what would be done."""
    serve: bool = True
    detach: bool = False
    """Leaving the context leaves the job running."""
    seed: bool = False
    """Share it when it is complete, until `owner` ends or, without one, until it is removed."""
    owner: str = ""
    """As in `Share`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cat(Read):
    """`stack cat TICKET|CID[/path]`; verified before a byte comes out."""

    source: str
    offset: int = 0
    length: int | None = None
    providers: tuple[Multiaddr, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryEntry:
    """One name in a directory."""

    name: str
    cid: Cid
    size: int | None
    type: str
    """`file`, `directory`, `symlink`, or `unknown` when the entry has not been fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDirectory(Watch[DirectoryEntry]):
    """`stack ls TICKET|CID[/path]`: the entries of a directory; of a file or link, itself."""

    source: str
    providers: tuple[Multiaddr, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How much there is: files (links too), directories below the root, bytes of contents as they are claimed."""

    files: int
    directories: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTotals(Ask[Totals]):
    """How much a ticket or a CID names, before any of it is fetched: directories are read, contents are not."""

    source: str
    providers: tuple[Multiaddr, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchWaiting(Watch[WaitingForProvider]):
    """While what other requests read below the root of a ticket or a CID does not come: why, once a second. It ends when it is left."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a path leads to."""

    cid: Cid


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve(Ask[Resolved]):
    """The CID at the end of the path in `source`, a ticket or a CID with one."""

    source: str
    providers: tuple[Multiaddr, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Which leaves of a DAG are here: a bitmap in hexadecimal, leaf 0 in the lowest bit of its first byte."""

    leaves: int
    bitmap: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPresence(Ask[Presence]):
    """What of a root that is being fetched or shared is here; no leaves when nothing is known of it."""

    cid: Cid
