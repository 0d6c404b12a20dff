"""What a fetch, and an import, tell while they run: the same events for `--jsonl`, for the control protocol and for the library.

Frozen and complete; fields are of the types that `node/schema.py` knows. Sizes are bytes, rates bytes a second.
"""

from collections import deque
from pathlib import Path

import anyio

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.values import dataclass

WAITING_EVENTS_MAX = 1024
"""Events kept for a consumer that does not come; beyond it the oldest go. Progress is kept once only, the latest."""


HIDDEN = "hidden"
EXCLUDED = "excluded"
IGNORED = "ignored"
NOT_WANTED = frozenset({HIDDEN, EXCLUDED, IGNORED})
"""Reasons of what an import leaves out because it was told to: they count as no loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchStarted:
    """What is sought is known well enough to begin."""

    root: Cid
    name: str
    target: Path
    size: int
    """All content bytes that are wanted, as claimed by the DAG; of a whole tree some more, because it counts the nodes too. 0
    for a part of a large tree: how much that is is learnt on the way."""
    files: int
    """0 for a tree, whose files are found while it is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResumed:
    """An earlier fetch to the same target is continued."""

    bytes_present: int
    """On record from before; checked again as the fetch reaches them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting:
    """The first event where somebody is named who should have it: they are connected to."""

    peer: PeerId
    address: str
    """The first of its addresses, as `10.77.0.10:33510`; empty when none was named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgress:
    """How far it is. Told a few times a second; one that nobody took is replaced by the next."""

    bytes_done: int
    total: int
    rate: float
    """Bytes a second that came in the last seconds."""
    peers: int
    """Peers that deliver."""
    files: int = 0
    """Of a tree, those that are complete."""
    received: int = 0
    """Bytes that came from peers in this run."""
    arriving: int = 0
    """Bytes of blocks that are not whole yet, and counted nowhere else: on a slow line a block takes many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForProvider:
    """Nobody who has it is connected; the search goes on."""

    seconds: float
    """Since the search began, or since the last provider went."""
    tried: int
    """Peers known so far."""
    peer: PeerId | None = None
    """The first of them that is not reached or does not deliver."""
    address: str = ""
    """Where it was dialled last, as `10.77.0.10:33510`; empty when it has not been."""
    reason: str = ""
    """Why it does not deliver, as far as that is known: `connection refused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFound:
    """A peer delivers."""

    peer: PeerId
    source: str = ""
    """How it was found: `ticket`, `user`, `announced`, `swarm` (named by others who fetch it), `connected`."""
    address: str = ""
    """Where it was dialled, as `10.77.0.10:33510`; empty when it came by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDropped:
    """A peer is no longer asked, and why."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinished:
    """A file is complete, checked and has its final name."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySkipped:
    """An entry of the tree is left out, and why: it could not be kept under its name, or not be read, or it was not wanted."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryUpdated:
    """An update has made, replaced or deleted something; one that only shows what it would do says it as well."""

    path: str
    """With the name of the tree that is updated in front."""
    change: str
    """`new`, `changed`, `deleted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFinished:
    """Everything is there. The last event."""

    root: Cid
    target: Path
    size: int
    files: int
    received: int
    """Bytes that came from peers in this run."""
    seconds: float
    already_complete: bool
    """It had all been there before; nothing was written."""
    skipped: int
    deleted: int = 0
    """Names that an update has deleted, or would delete, directories counted once."""


Figures = FetchProgress | WaitingForProvider

FetchEvent = (
    Connecting
    | FetchStarted
    | FetchResumed
    | FetchProgress
    | WaitingForProvider
    | ProviderFound
    | PeerDropped
    | FileFinished
    | EntrySkipped
    | EntryUpdated
    | FetchFinished
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddProgress:
    """How far an import is, told some times a second."""

    path: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryAdded:
    """A file, link or directory has its CID."""

    cid: Cid
    path: str
    size: int
    """Content bytes; of a directory the bytes of all blocks below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was imported."""

    cid: Cid
    name: str
    size: int
    """Content bytes of all files."""
    files: int
    """Files and symbolic links."""
    skipped: int
    """Entries left out because they could not be read or are no files; those that are hidden are not counted."""
    hidden: int
    leaf_size: int
    """Of a single file cut into pieces of one size, that size; else 0. What leaves are numbered by."""


AddEvent = AddProgress | EntryAdded | EntrySkipped


class EventQueue:
    """Between a fetch, which never waits, and its consumer, who may be slow or absent.

    Commands: `put`, `end`. Output: iteration, once; it raises what the fetch failed with.
    """

    def __init__(self) -> None:
        self._events: deque[FetchEvent] = deque(maxlen=WAITING_EVENTS_MAX)
        self._changed = anyio.Event()
        self._ended = False
        self._error: BaseException | None = None
        self.latest: Figures | None = None
        """How it goes, as told last."""

    def put(self, event: FetchEvent) -> None:
        """Tell `event`; a progress that nobody has taken is replaced."""
        if isinstance(event, FetchProgress) and self._events and isinstance(self._events[-1], FetchProgress):
            self._events.pop()
        if isinstance(event, FetchProgress | WaitingForProvider):
            self.latest = event
        self._events.append(event)
        self._changed.set()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; `error` is raised after the events that wait."""
        self._ended = True
        self._error = error
        self._changed.set()

    def __aiter__(self) -> "EventQueue":
        return self

    async def __anext__(self) -> FetchEvent:
        while not self._events:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._changed = anyio.Event()
            await self._changed.wait()
        return self._events.popleft()
