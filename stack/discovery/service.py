"""Finding peers, for as long as a node runs: neighbours on the link, the bootstrap list, peers of earlier runs."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from stack.discovery.dns import Name
from stack.discovery.interfaces import DiscoveryFact
from stack.discovery.mdns.machine import SERVICE, PeerFound
from stack.discovery.mdns.service import MdnsService
from stack.discovery.neighbours import Neighbours
from stack.discovery.saved import SavedPeer, SavedPeers, decode_saved, encode_saved
from stack.errors import DecodeError, StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.streams.supervision import Supervisor, supervised
from stack.streams.turns import Turn
from stack.values import dataclass

_log = logging.getLogger(__name__)

BOOTSTRAP_FIRST_SECONDS = 5.0
BOOTSTRAP_LAST_SECONDS = 600.0
"""Between two dials of a bootstrap peer: doubled from the first to the last, and begun anew when the network changes."""
STEADY_SECONDS = 60.0
"""A connection that stood for so long ends the back-off."""
REDIALLED_MAX = 8
"""Peers of earlier runs that are dialled at the start: one that answers is enough to find the others."""
SAVE_SECONDS = 60.0
"""Between two writes of who is known; what a crash costs at most."""
SAVE_STEADY_SECONDS = 3600.0
"""And when nobody came or went: when they were last seen is worth keeping too."""
CLOSE_SECONDS = 2.0
"""For the last write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """What is tried."""

    mdns: bool = False
    service: Name = SERVICE
    """The mDNS service; a private network has one of its own."""
    bootstrap: Sequence[Multiaddr] = ()
    """Each is a connection that is never trimmed; how many there are is up to the caller."""
    saved: bytes | None = None
    """The file of earlier runs."""
    save: Callable[[bytes], None] | None = None
    """Writes that file, called in a worker thread; None remembers nobody."""
    saved_fault: str = ""
    """Why nobody is remembered, though that is wanted."""


@dataclass(slots=True)
class _Kept:
    """A bootstrap address."""

    address: Multiaddr
    backoff: float = BOOTSTRAP_FIRST_SECONDS
    peer: PeerId | None = None
    error: str | None = None


class Discovery:
    """Made by `Discovery.open`, a context. Getters: `facts`. `settled` waits until everything was tried once."""

    def __init__(self, host: Host, settings: DiscoverySettings, tasks: Supervisor) -> None:
        self._host = host
        self._settings = settings
        self._tasks = tasks
        self._neighbours = Neighbours(host.peer_id, anyio.current_time())
        self._mdns = MdnsService(host.peer_id, host.addresses, self._heard, service=settings.service, trace=host.trace)
        self._kept = [_Kept(address) for address in settings.bootstrap]
        self._saved = SavedPeers()
        self._saved_fault = settings.saved_fault
        self._redialled = 0
        self._answered = 0
        self._dirty = False
        self._saved_at = time.time()
        self._peers_changed = anyio.Event()
        self._network_changed = anyio.Event()
        self._neighbours_changed = anyio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Discovery mdns={self._settings.mdns}, {len(self._kept)} bootstrap peers, {len(self._saved)} saved>"

    @classmethod
    @asynccontextmanager
    async def open(cls, host: Host, settings: DiscoverySettings) -> AsyncIterator["Discovery"]:
        """Start everything; nothing of it is waited for, and nothing that fails harms the host."""
        async with supervised(host.trace) as tasks:
            self = cls(host, settings, tasks)
            await self._load()
            end = host.listen_to_peers(self)
            host.on_change(self._changed)
            stop_waking = host.on_wake(self._woken)
            for kept in self._kept:
                tasks.keep(self._keep, kept, owner="a bootstrap peer")
            for saved in self._saved.recent(time.time())[:REDIALLED_MAX] if settings.save else ():
                self._redialled += 1
                tasks.start(self._redial, saved, owner="a peer of an earlier run")
            if settings.save is not None:
                tasks.keep(self._save_now_and_then, owner="the list of peers")
            if settings.mdns:
                tasks.keep(self._mdns.run, owner="mDNS")
                tasks.keep(self._meet, owner="meeting neighbours")
            try:
                yield self
            finally:
                self._closed = True
                end()
                stop_waking()
                tasks.cancel()
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await self._save(last=True)

    # --- facts

    def peer_connected(self, peer: PeerId) -> None:
        """See `PeerListener`."""
        self._neighbours.connected(peer)
        self._wake()

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See `PeerListener`."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """See `PeerListener`."""
        self._neighbours.disconnected(peer, anyio.current_time())
        self._remember(peer, time.time())
        self._wake()

    def _wake(self) -> None:
        self._dirty = True
        self._peers_changed.set()
        self._peers_changed = anyio.Event()
        self._neighbours_changed.set()

    def _changed(self) -> None:
        """Our addresses, or the protocols we serve, have changed."""
        if not self._closed:
            self._mdns.look_again()
            self._network_changed.set()
            self._network_changed = anyio.Event()

    def _woken(self, seconds: float) -> None:
        """The machine has slept: neighbours are asked for, bootstrap peers dialled again without waiting. Or its clock was set:
        who is connected is remembered by the new one."""
        self._mdns.ask_again()
        self._dirty = True
        self._changed()

    def _heard(self, found: PeerFound) -> None:
        connected = self._host.is_connected(found.peer)
        self._neighbours.heard(found.peer, found.addresses, anyio.current_time(), connected=connected)
        self._neighbours_changed.set()

    # --- what is known

    def facts(self) -> list[DiscoveryFact]:
        """What was tried, and what came of it."""
        return [*self._mdns_facts(), *self._bootstrap_facts(), *self._saved_facts()]

    async def settled(self, seconds: float) -> None:
        """Until every bootstrap peer has been tried, or `seconds` are over; where mDNS speaks, they are needed in full."""
        with anyio.move_on_after(seconds):
            while self._settings.mdns or any(kept.peer is None and kept.error is None for kept in self._kept):
                await anyio.sleep(0.05)

    def _mdns_facts(self) -> list[DiscoveryFact]:
        if not self._settings.mdns:
            return [DiscoveryFact(what="mdns", subject="", ok=None, detail="switched off")]
        links = self._mdns.facts()
        if not links:
            return [DiscoveryFact(what="mdns", subject="", ok=False, detail="no interface that is up knows multicast")]
        facts = [
            DiscoveryFact(
                what="mdns", subject=str(fact.link), ok=fact.error is None, detail=fact.error or "asks and answers"
            )
            for fact in links
        ]
        rows = self._neighbours.rows()
        detail = f"{len(rows)} peers heard of, {self._mdns.packets} packets read"
        facts.append(DiscoveryFact(what="mdns", subject="", ok=bool(rows) or None, detail=detail))
        for peer, addresses, connected in rows:
            state = "connected" if connected else f"not connected, tells {', '.join(map(str, addresses))}"
            facts.append(DiscoveryFact(what="neighbour", subject=str(peer), ok=connected or None, detail=state))
        return facts

    def _bootstrap_facts(self) -> list[DiscoveryFact]:
        return [
            DiscoveryFact(
                what="bootstrap",
                subject=str(kept.address),
                ok=True if kept.peer else False if kept.error else None,
                detail=f"connected to {kept.peer}" if kept.peer else kept.error or "being dialled",
            )
            for kept in self._kept
        ]

    def _saved_facts(self) -> list[DiscoveryFact]:
        if self._settings.save is None and not self._saved_fault:
            return []
        detail = f"{len(self._saved)} remembered, {self._redialled} dialled at the start, {self._answered} answered"
        ok = False if self._saved_fault else bool(self._answered) or None
        return [DiscoveryFact(what="saved peers", subject="", ok=ok, detail=self._saved_fault or detail)]

    # --- tasks

    async def _keep(self, kept: _Kept) -> None:
        """Be connected to a bootstrap peer, always."""
        while True:
            network_changed = self._network_changed
            try:
                kept.peer = await self._host.connect(None, [kept.address])
            except StackError as error:
                kept.error = str(error)
            else:
                kept.error = None
                since = anyio.current_time()
                end = self._host.protect(kept.peer, "bootstrap")
                try:
                    await self._until_gone(kept.peer)
                finally:
                    end()
                kept.peer, kept.error = None, "the connection has ended"
                if anyio.current_time() - since >= STEADY_SECONDS:
                    kept.backoff = BOOTSTRAP_FIRST_SECONDS
            with anyio.move_on_after(kept.backoff) as rest:
                await network_changed.wait()
            kept.backoff = min(2 * kept.backoff, BOOTSTRAP_LAST_SECONDS)
            if not rest.cancelled_caught:
                kept.backoff = BOOTSTRAP_FIRST_SECONDS
                await anyio.sleep(1.0)  # several changes come together

    async def _until_gone(self, peer: PeerId) -> None:
        while self._host.is_connected(peer):
            await self._peers_changed.wait()

    async def _redial(self, saved: SavedPeer) -> None:
        try:
            await self._host.connect(saved.peer)
        except StackError as error:
            _log.debug("a peer of an earlier run: %s", error)
        else:
            self._answered += 1

    async def _meet(self) -> None:
        """Dial neighbours."""
        while True:
            self._neighbours_changed = anyio.Event()
            now = anyio.current_time()
            while (dial := self._neighbours.next_dial(now)) is not None:
                failed = partial(self._neighbours.failed, dial[0], now)
                self._tasks.start(self._dial, *dial, owner="a neighbour", failed=failed)
            due = self._neighbours.next_timeout(now)
            with anyio.move_on_after(None if due is None else due - now):
                await self._neighbours_changed.wait()

    async def _dial(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        try:
            await self._host.connect(peer, addresses)
        except StackError as error:
            _log.debug("a neighbour: %s", error)
            self._neighbours.failed(peer, anyio.current_time())
        else:
            if not self._host.is_connected(peer):  # it has gone already
                self._neighbours.failed(peer, anyio.current_time())
        self._neighbours_changed.set()

    # --- peers of earlier runs

    async def _load(self) -> None:
        if self._settings.saved is None:
            return
        try:
            self._saved = await anyio.to_thread.run_sync(decode_saved, self._settings.saved)
        except DecodeError as error:
            self._saved_fault = f"the list of peers of earlier runs is damaged and begun anew ({error})"
            _log.warning("%s", self._saved_fault)
            self._dirty = True
        now, turn = time.time(), Turn()
        for row in await anyio.to_thread.run_sync(self._saved.rows, now):
            self._host.peerstore.load([row], now)
            await turn.give_way()

    async def _save_now_and_then(self) -> None:
        while True:
            await anyio.sleep(SAVE_SECONDS)
            await self._save()

    def _remember(self, peer: PeerId, now: float) -> None:
        if self._settings.save is not None:
            store = self._host.peerstore
            addresses, proved = store.addresses(peer, now), store.was_dialled(peer, now)
            self._saved.seen(SavedPeer(peer, now, tuple(addresses), store.record(peer), proved))

    async def _save(self, *, last: bool = False) -> None:
        """Write down who is connected now, and who was."""
        save = self._settings.save
        now = time.time()
        if save is None or not (self._dirty or last or now - self._saved_at > SAVE_STEADY_SECONDS):
            return
        self._dirty = False
        turn, is_written = Turn(), False
        try:
            for peer in dict.fromkeys(info.peer for info in self._host.connections()):
                self._remember(peer, now)
                await turn.give_way()
            peers = self._saved.all()
            await anyio.to_thread.run_sync(lambda: save(encode_saved(peers)))
            self._saved_at, is_written = now, True
        except Exception as error:  # noqa: BLE001 - a disk that is full, or no thread to be had: it is still to be written
            fault = f"the list of peers cannot be written: {error}"
            if fault != self._saved_fault:
                _log.warning("%s", fault)
            self._saved_fault = fault
        finally:
            self._dirty |= not is_written
