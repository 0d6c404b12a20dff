"""What this node shares, for whom, and how that ends."""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from stack.blocks.interfaces import BlockStore, PinKind
from stack.blocks.store import DiskStore
from stack.errors import StoreError
from stack.files.jobs import Jobs, Origin
from stack.files.ranges import whole_ranges
from stack.files.share_rows import HOME
from stack.files.storage import pins
from stack.multiformats.cid import Cid
from stack.node.access import Access
from stack.node.counting import Counting, ReadBy
from stack.node.owners import living
from stack.node.tally import Shared, is_below
from stack.protocols.providers.interfaces import RangeBook
from stack.streams.supervision import Supervisor
from stack.trace import TraceFan

__all__ = ["Shares", "is_below"]

_log = logging.getLogger(__name__)

OF_THE_NODE = "/"
"""How the names of pins begin that the node keeps for itself; what is shared has no slash in its name."""

CLOSING_SECONDS = 5.0
"""For what is to be taken back at the end; the rest is done when the home is opened again, before anybody is served."""


async def kept_as_shares(blocks: BlockStore) -> list[tuple[Cid, str]]:
    """The roots that a store keeps because somebody shares or fetches them, and their names."""
    keeper = pins(blocks)
    found = [] if keeper is None else await keeper.pins(kind=PinKind.SHARE)
    return [(root, name) for root, name in found if not name.startswith(OF_THE_NODE)]


async def open_jobs(home: Path | None, blocks: BlockStore) -> Jobs:
    """The rows of a home. Where they were lost nothing is taken back that the store still keeps. Raises as `Jobs.open`."""
    jobs = await Jobs.open(home / "jobs.sqlite" if home else None, await kept_as_shares(blocks))
    if jobs.found:
        _log.warning(
            "the list of what is shared is new, and %d that are kept here are on it by name only: share them again, or end them"
            " with `stack shares rm`",
            jobs.found,
        )
    return jobs


class Shares(Counting):
    """Remembers what is given to others, and for whom. `run` lives as long as the node.

    A share lives as long as one of its owners; what is fetched is given on while that lasts. What has ended is taken out of the store,
    so that no later node of this home gives a block of it.
    """

    def __init__(
        self,
        blocks: object,
        jobs: Jobs,
        book: RangeBook,
        trace: TraceFan,
        read_by: ReadBy | None = None,
        access: Access | None = None,
    ) -> None:
        """Whoever makes it sets, before it runs, how it is to be known that others have heard of all that is complete (`told`),
        what an end of a share means to the rest of the node (`ending`), and who hears of each change of what is shared (`changed`).
        `access` knows for whom it is what is shared."""
        super().__init__(blocks, jobs, trace, read_by)
        self._book = book
        self._access = access
        self.told: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint
        self.ending: Callable[[Cid, str], Awaitable[object]] = self.end
        self.changed: Callable[[], object] = lambda: None
        self._home: Path | None = None
        self._looked: anyio.Event | None = None
        self._changing = anyio.Lock()
        self._owners: dict[Cid, frozenset[str]] = {}
        self._since: dict[tuple[Cid, str], int] = {}
        self._origins: dict[Cid, Origin] = {}
        self._fetching: Counter[Cid] = Counter()
        self._fetched: set[Cid] = set()
        """What is served for the sake of fetches only."""
        self.handing_over = False
        """This node ends: what others of this home share through it goes on with the next."""
        self.ended: list[Cid] = []
        """Shares whose owners had gone before this node began."""

    async def restore(self, home: Path | None) -> None:
        """Before anybody is served: take back what nobody needs any more, and tell others again of the rest. What was being fetched when
        its process ended is served no more either."""
        rows = await self._jobs.shares()
        if home is not None:
            self._home = home
            alive = await anyio.to_thread.run_sync(living, home) | {HOME}
            for row in rows:
                if await self._jobs.disown_share(row.root, *(row.owners - alive)):
                    self.ended.append(row.root)
            rows = [row for row in rows if row.root not in self.ended]
            if self._access is not None:
                for root in self.ended:
                    await self._access.ended(root)
        for row in rows:
            if row.origin is not Origin.PART:
                self._book.add(row.root, whole_ranges(), row.name)
        self._shared = Shared([(row.root, row.paths) for row in rows])
        self._owners = {row.root: row.owners for row in rows}
        self._origins = {row.root: row.origin for row in rows}
        if self._store is not None:
            orphans = [root for root, _ in await kept_as_shares(self._store) if root not in self._shared.roots]
            await self._store.leave_parts()
            await self._take_back(list(dict.fromkeys([*self.ended, *orphans])))

    async def _take_back(self, roots: Sequence[Cid]) -> bool:
        """Remove from the store what is below roots that are not shared any more; whether that was possible."""
        if self._store is None or not roots:
            return True
        try:
            await self._store.withdraw(roots)
        except StoreError as error:
            _log.warning("what is no longer shared could not be taken out of the store: %s", error)
            return False
        return True

    async def close(self) -> None:
        """Take back what was only fetched. Nobody may be served any more; what is left is done when the home is opened again."""
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await self._take_back([root for root in self._fetched if root not in self._shared.roots])

    async def run(self, supervisor: Supervisor) -> None:
        """Write counts down, and end what has lost its owner, once a second, until cancelled."""
        while True:
            await self.count(supervisor)
            for root, owner in await self._ownerless():
                await self.ending(root, owner)

    async def _ownerless(self) -> list[tuple[Cid, str]]:
        """Shares of commands that have gone without a word (`kill -9`)."""
        owned = [(root, owner) for root, owners in self._owners.items() for owner in owners if owner != HOME]
        if not owned or self._home is None:
            return []
        alive = await anyio.to_thread.run_sync(living, self._home)
        return [(root, owner) for root, owner in owned if owner not in alive]

    async def check_files(self, supervisor: Supervisor) -> None:
        """Wait until all files have been compared with what was shared. Who gives up waiting leaves the look going on, and who
        comes meanwhile joins it: on a mount that hangs it keeps one thread, not one for each."""
        if self._store is None:
            return
        if self._looked is None:
            self._looked = anyio.Event()
            supervisor.start(self._check_files, self._store, self._looked, owner="a look at the shared files")
        await self._looked.wait()

    async def _check_files(self, store: DiskStore, looked: anyio.Event) -> None:
        try:
            await store.check_files()
        finally:
            self._looked = None
            looked.set()

    async def add(
        self,
        root: Cid,
        name: str,
        paths: tuple[Path, ...],
        size: int,
        *,
        owner: str = HOME,
        origin: Origin = Origin.SHARED,
    ) -> None:
        """Share a root from now on, until `owner` ends or, with `HOME`, until it is removed."""
        async with self._changing:
            for path in self.lost(paths):
                del self._lost[path]
            if self._store is not None:
                await self._store.add_pin(root, name, kind=PinKind.SHARE)
            await self._jobs.add_share(root, name, paths, size, owner=owner, origin=origin)
            self._needed.pop(root, None)
            if root not in self._shared.roots:
                self._receiving.pop(root, None)
            self._shared = self._shared.changed({root: paths})
            self._owners[root] = self._owners.get(root, frozenset()) | {owner}
            self._since[root, owner] = self.revision
            self._origins[root] = origin
            self._fetched.discard(root)
            known = self._book.ranges(root)
            if origin is Origin.SHARED or (origin is Origin.SEEDED and (known is None or not known.complete)):
                self._book.add(root, whole_ranges(), name)
        self.changed()

    async def end(self, root: Cid, owner: str) -> bool:
        """An owner needs a share no longer; whether it has ended with that, because nobody else does."""
        async with self._changing:
            self._since.pop((root, owner), None)
            if await self._jobs.disown_share(root, owner):
                await self._end([root])
                return True
            self._owners[root] = self._owners.get(root, frozenset()) - {owner}
            return False

    async def remove(self, *roots: Cid) -> None:
        """Share these no longer, whoever needs them."""
        async with self._changing:
            await self._end(roots)
            if self._access is not None:
                for root in roots:
                    await self._access.removed(root)

    def since(self, root: Cid, owner: str) -> int:
        """The revision at which this owner has shared it, or the present one."""
        return self._since.get((root, owner), self.revision)

    def shares(self, root: Cid) -> bool:
        """Whether a root is shared now, for whomever."""
        return root in self._shared.roots

    def whole(self) -> dict[Cid, bool]:
        """What is shared now and all of it is here, and whether it was fetched."""
        return {root: origin is Origin.SEEDED for root, origin in self._origins.items() if origin is not Origin.PART}

    async def _end(self, roots: Sequence[Cid]) -> None:
        for root in roots:
            self._shared = self._shared.changed({root: None})
            self._owners.pop(root, None)
            self._origins.pop(root, None)
            self._forget(root)
            await self._jobs.abandon_share(root)
            if self._access is not None:
                await self._access.ended(root)
            if self._fetching[root]:
                self._fetched.add(root)
            else:
                self._book.remove(root)
        self._tell()
        self.changed()
        if await self._take_back([root for root in roots if not self._fetching[root]]):
            for root in roots:
                await self._jobs.remove_share(root)

    @asynccontextmanager
    async def fetching(self, root: Cid, supervisor: Supervisor | None) -> AsyncIterator[None]:
        """While it is fetched it is given to others; afterwards, unless it is shared, only as long as this node lives or, with a
        supervisor, no longer than it takes to let others know that all is here."""
        self._fetching[root] += 1
        self._fetched.add(root)
        try:
            yield
        finally:
            self._fetching[root] -= 1
            if supervisor is not None:
                supervisor.start(self._let_go, root, owner="the end of a fetch")

    async def _let_go(self, root: Cid) -> None:
        with anyio.move_on_after(CLOSING_SECONDS):
            await self.told()
        async with self._changing:
            if root in self._fetched and not self._fetching[root] and root not in self._shared.roots:
                self._book.remove(root)
                if await self._take_back([root]):
                    self._fetched.discard(root)
                if self._store is not None:
                    await self._store.leave_parts()
