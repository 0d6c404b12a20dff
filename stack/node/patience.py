"""A session with a time limit for each block, for requests that read rather than fetch files."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio

from stack.bitswap.interfaces import BlockSink, PeerReport, Provider, Session
from stack.blocks.interfaces import BlockNotFound, BlockStore
from stack.errors import NoProvider, Stalled
from stack.files.arrivals import Arrivals
from stack.files.events import WaitingForProvider
from stack.files.tasks import task_group
from stack.files.watch import NOT_SHARED, QUIET_SECONDS, LastDial, has_not, missing, nobody, obstacle, waiting, why_not
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid

FIRST_PROVIDER_SECONDS = 30.0
"""Design: so long a command looks for a first provider before it says that nobody was found."""


ENDED_SECONDS = 6.0
"""The same when whoever made the ticket says that it shares nothing for it: enough to ask everybody else once."""

POLL_SECONDS = 0.25


class LimitedSession:
    """What programs get of a session: see `surface.BlockSession`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, cid: Cid, *, timeout: float | None = None) -> bytes:
        """A block, from here or from peers. Waits without end, or raises BlockNotFound after `timeout` seconds."""
        with anyio.move_on_after(timeout):
            return await self._session.get(cid)
        raise BlockNotFound(cid)


class PatientSession:
    """Wraps a session: calls give up after `timeout` seconds without progress, or after 30 s when nobody has ever delivered, or
    nobody is left who may: all have gone, or say that they have not got the rest."""

    def __init__(
        self,
        session: Session,
        root: Cid,
        timeout: float | None,
        store: BlockStore,
        is_connected: Callable[[PeerId], bool],
        dialled: LastDial,
        conclude: Callable[[int], Awaitable[None]],
    ) -> None:
        self._session = session
        self.root = root
        """What is read lies below it."""
        self.waits: WaitingForProvider | None = None
        """Why nothing comes, for whoever waits for it; None while something does."""
        self._dialled = dialled
        self._conclude = conclude
        self._is_connected = is_connected
        self._store = store
        self._timeout = timeout
        self._delivered = 0
        self._calls: list[Sequence[Cid]] = []
        """What is waited for."""

    def add_provider(self, provider: Provider) -> None:
        """See Session."""
        self._session.add_provider(provider)

    @property
    def store(self) -> BlockStore:
        """Where what comes is kept, for those for whom it is."""
        return self._store

    async def get(self, cid: Cid) -> bytes:
        """See Session. Raises NoProvider when nobody was found who has it, Stalled when they ceased to deliver."""
        async with self._patience([cid]):
            return await self._session.get(cid)
        raise AssertionError("unreachable")

    async def fetch(
        self, cids: Sequence[Cid], sink: BlockSink | None = None, *, leaves: Sequence[int] | None = None
    ) -> None:
        """See Session. Raises as `get`."""
        async with self._patience(cids):
            await self._session.fetch(cids, sink, leaves=leaves)

    def lacking(self, multihashes: Iterable[bytes]) -> bool:
        """See Session."""
        return self._session.lacking(multihashes)

    def reports(self) -> list[PeerReport]:
        """See Session."""
        return self._session.reports()

    async def conclude(self) -> None:
        """All that was wanted is here, and with whoever asked for it. Who only looked at something does not say so: he may want it yet."""
        await self._conclude(sum(report.bytes for report in self.reports()))

    @asynccontextmanager
    async def _patience(self, cids: Sequence[Cid]) -> AsyncIterator[None]:
        self._calls.append(cids)
        try:
            async with task_group() as tasks:
                tasks.start_soon(self._watch)
                yield
                tasks.cancel_scope.cancel()
                self.waits = None
        finally:
            self._calls.remove(cids)

    def _lost(self) -> list[str]:
        """What nobody has of all that is waited for; of the root itself that need not be said."""
        wanted = dict.fromkeys(cid for cids in self._calls for cid in cids if cid != self.root)
        return [cid.text for cid in wanted if self._session.lacking([cid.multihash])]

    async def _watch(self) -> None:
        quiet_since = anyio.current_time()
        arrivals = Arrivals()
        while True:
            await anyio.sleep(POLL_SECONDS)
            reports = self._session.reports()
            delivered = sum(report.bytes + report.arriving for report in reports)
            self._delivered = max(delivered, self._delivered)
            if arrivals.look(reports):
                quiet_since = anyio.current_time()
            quiet = anyio.current_time() - quiet_since
            limit = FIRST_PROVIDER_SECONDS if self._timeout is None else self._timeout
            lost = self._lost() if quiet >= min(limit, QUIET_SECONDS) else []
            self.waits = waiting(reports, quiet, self._is_connected, self._dialled, lost)
            has_ended = any(report.source == "ticket" and has_not(report) for report in reports)
            awaited = any(report.awaited for report in reports)
            if not delivered and quiet >= ENDED_SECONDS and has_ended and not awaited:
                raise NoProvider(f"whoever made the ticket is {NOT_SHARED}, and nobody else was found who has it")
            if quiet < limit:
                continue
            known = obstacle(reports, self._is_connected, self._dialled, lost)
            named = missing(lost)
            if not self._delivered:
                raise nobody(reports, limit, known)
            if self._timeout is not None:
                why = why_not(known)
                raise Stalled(f"nothing came for {limit:g} s{why}{'' if named in why else named}")
            if not awaited and not any(self._may_deliver(report) for report in reports):
                raise Stalled(f"nothing came for {limit:g} s, and nobody is left who has the rest{named}")

    def _may_deliver(self, report: PeerReport) -> bool:
        return report.dropped is None and not has_not(report) and self._is_connected(report.peer)
