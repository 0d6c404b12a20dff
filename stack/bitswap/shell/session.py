"""A session: calls that wait for blocks, on top of the machine that decides whom to ask."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Protocol, cast

import anyio
import anyio.to_thread

from stack.bitswap.events import BlocksNotKept
from stack.bitswap.interfaces import BlockSink, Enclosure, PeerReport, Provider, ProviderJudge, ProviderSource
from stack.bitswap.introductions import Introductions
from stack.bitswap.seeking import Seeking
from stack.bitswap.session import SessionMachine
from stack.bitswap.shell.call import FetchCall
from stack.bitswap.shell.found import look_into_store
from stack.bitswap.wants import SessionId, WantedBlocks
from stack.blocks.hashing import put_verified
from stack.blocks.interfaces import NOT_HERE, BlockStore, RealmId, RealmStore
from stack.errors import LocalProtocolError, StackError, StoreError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.multiformats.multihash import BLAKE3, IDENTITY, SHA2_256, hasher
from stack.protocols.providers.ranges import LeafRanges
from stack.streams.supervision import Supervisor
from stack.trace import TraceEvent

MIB = 1024 * 1024

KEEP_HIGH = 16 * MIB
KEEP_LOW = 8 * MIB
"""Blocks that wait to be put into the store: above the first nothing new is asked for until they are below the second."""

FLUSH_SECONDS = 30.0
"""At the end of a session, for what is still to be put into the store."""

ADDRESSES_MAX = 32
"""Of one provider, however many sources name others."""

EMPTY_OF = frozenset({SHA2_256, 0x13, 0xB220, BLAKE3})
"""sha2-256, sha2-512, blake2b-256, blake3: whose blocks of no bytes at all, such as an empty file's, are known. boxo says HAVE when asked
for one and never sends it (decision/engine.go: `isWantBlock := blockSize != 0 && ...`), so nobody is asked."""


@lru_cache
def _digest_of_nothing(code: int) -> bytes | None:
    """Made when one of its function is wanted: for all but sha2-256 that loads py-multihash."""
    return hasher(code)(b"") if code in EMPTY_OF else None


class Hub(Protocol):
    """What a session asks of the exchange it belongs to."""

    @property
    def store(self) -> BlockStore: ...
    @property
    def wanted(self) -> WantedBlocks: ...
    @property
    def limiter(self) -> anyio.CapacityLimiter:
        """Of worker calls that hand over what is here already."""
        ...

    def drain(self, session: "FetchSession") -> None:
        """Do what the session's machine wants done."""
        ...

    def provider_added(self, session: "FetchSession", peer: PeerId) -> None:
        """The session knows one more peer, or more of one; then drain."""
        ...

    def blocks_added(self, cids: Sequence[Cid], sizes: Sequence[int], realms: frozenset[RealmId] | None = None) -> None:
        """These are in the store now, for those realms or for everybody."""
        ...

    async def found_here(self, cid: Cid, block: bytes) -> None:
        """Somebody waits for a block that has come into the store by another way; returns when there is room for the next one."""
        ...

    def trace(self, event: TraceEvent) -> None: ...


class FetchSession:
    """Implements `Session`. Facts from the exchange: `receive_block`, `put_later`, `peer_unreachable`, `peer_found`,
    `peer_unproved`, `peer_ranges`, `peer_left_out`, `fail`."""

    def __init__(
        self,
        hub: Hub,
        id: SessionId,
        root: Cid,
        machine: SessionMachine,
        protect: Callable[[PeerId], Callable[[], None]],
        seeking: Seeking,
        enclosure: Enclosure | None = None,
    ) -> None:
        self.id = id
        self.root = root
        self.machine = machine
        self.seeking = seeking
        self._seek = anyio.Event()
        self._received = 0
        self.enclosure = enclosure
        self._store = hub.store
        if enclosure is not None:
            self._store = cast(RealmStore, hub.store).within(enclosure.realm)
        self.addresses: dict[PeerId, tuple[Multiaddr, ...]] = {}
        self.introductions = Introductions()
        self._judges: dict[PeerId, ProviderJudge] = {}
        """Who wants to know what comes of a peer, until it is known."""
        self._hub = hub
        self._protect = protect
        self._protected: dict[PeerId, Callable[[], None]] = {}
        self._calls: set[FetchCall] = set()
        self._to_keep: list[tuple[FetchCall | None, Cid, bytes]] = []
        self._keep_bytes = 0
        self._keep = anyio.Event()
        self._kept = anyio.Event()
        self._error: Exception | None = None
        self._closed = False
        self._told_lost = False

    def __repr__(self) -> str:
        return f"<FetchSession {self.id} of {self.root}: {self.machine!r}>"

    @property
    def realms(self) -> frozenset[RealmId] | None:
        """For whom what comes is kept; None: for everybody."""
        return None if self.enclosure is None else frozenset((self.enclosure.realm,))

    @property
    def closed(self) -> bool:
        """Nothing more is wanted."""
        return self._closed

    # Session

    def add_provider(self, provider: Provider) -> None:
        """See Session. Providers of source `swarm` are asked only for what they say they have."""
        if self.machine.add_peer(provider.peer, full=provider.source != "swarm"):
            known = self.addresses.get(provider.peer, ())
            fresh = tuple(address for address in provider.addresses if address not in known)
            self.addresses[provider.peer] = (known + fresh)[:ADDRESSES_MAX]
            self.introductions.named(provider)
            if provider.peer not in self._protected:
                self._protected[provider.peer] = self._protect(provider.peer)
        self._hub.provider_added(self, provider.peer)

    async def get(self, cid: Cid) -> bytes:
        """See Session."""
        known = _known(cid)
        if known is not None:
            return known
        try:
            return await self._store.get(cid)
        except NOT_HERE:
            pass
        found: list[bytes] = []
        await self._from_peers([cid], None, lambda _, data: found.append(bytes(data)))
        self.put_later(None, cid, found[0])
        return found[0]

    async def fetch(
        self, cids: Sequence[Cid], sink: BlockSink | None = None, *, leaves: Sequence[int] | None = None
    ) -> None:
        """See Session."""
        self._check()
        numbers: dict[Cid, int] = dict(zip(cids, leaves, strict=True)) if leaves is not None else {}
        unique = list({cid.multihash: cid for cid in cids if _known(cid) is None}.values())
        known = [(cid, data) for cid in cids if (data := _known(cid)) is not None]
        if known and sink is not None:
            await self._hand_over(sink, [(cid, memoryview(data)) for cid, data in known])
        elif known:
            await self._store.put([(cid, data) for cid, data in known if cid.hash_code != IDENTITY])
        absent = await self._from_store(unique, sink) if unique else []
        if absent:
            await self._from_peers(absent, [numbers[cid] for cid in absent] if leaves is not None else None, sink)

    def lacking(self, multihashes: Iterable[bytes]) -> bool:
        """See Session."""
        return self.machine.lacking(multihashes)

    def reports(self) -> list[PeerReport]:
        """See Session."""
        return [self.introductions.of(report) for report in self.machine.reports()]

    # from the exchange

    def receive_block(self, peer: PeerId, multihash: bytes, size: int, now: float) -> None:
        """A peer has sent a block that this session waits for."""
        self._received += 1
        self.machine.receive_block(peer, multihash, size, now)
        if peer in self._judges:
            self._judges.pop(peer).delivered(peer)

    def peer_unreachable(self, peer: PeerId, now: float, reason: str | None) -> None:
        """It could not be connected or asked; with a `reason` it never will be."""
        self.machine.peer_unreachable(peer, now, reason=reason)
        if peer in self._judges:
            self._judges.pop(peer).failed(peer)

    def peer_unproved(self, peer: PeerId, now: float) -> None:
        """It does not know the secret of what is sought; asked again later, for it may have got it by then."""
        self.introductions.unproved(peer)
        self.peer_unreachable(peer, now, None)

    def handle_timeout(self, now: float) -> None:
        """A deadline of the machine has passed."""
        self.machine.handle_timeout(now)
        self._hub.drain(self)

    def look(self, now: float) -> bool:
        """Called often while something is wanted. Returns whether to ask everybody connected who has the root."""
        hopeful, wanted = self.machine.hopeful, self.machine.wanted > 0
        due = self.seeking.look(now, wanted=wanted, hopeful=hopeful, received=self._received)
        if self.seeking.active:
            self._seek.set()
        return due

    def fail(self, error: Exception) -> None:
        """A sink or the store raised: every call ends with this error."""
        if self._error is None:
            self._error = error
        for call in self._calls:
            call.done.set()
        self._kept.set()

    def put_later(self, call: FetchCall | None, cid: Cid, data: bytes) -> None:
        """A block is to go to the store; `call` waits until it is there."""
        self._to_keep.append((call, cid, data))
        self._keep_bytes += len(data)
        if self._keep_bytes > KEEP_HIGH:
            self.machine.pause()
        self._keep.set()

    def peer_left_out(self, peer: PeerId, *, forgotten: bool) -> None:
        """The session will not ask this peer again, or even (`forgotten`) knows it no longer: neither is it kept for that."""
        self.addresses.pop(peer, None)
        if peer in self._protected:
            self._protected.pop(peer)()
        if forgotten:
            self.introductions.forget(peer)
            if peer in self._judges:
                self._judges.pop(peer).failed(peer)

    def peer_found(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        """See SwarmListener."""
        self.add_provider(Provider(peer, tuple(addresses), "swarm"))

    def peer_ranges(self, peer: PeerId, ranges: LeafRanges | None, *, hearsay: bool) -> None:
        """See SwarmListener."""
        self.machine.receive_ranges(peer, ranges, hearsay=hearsay)
        self._hub.drain(self)

    async def run(self, sources: Sequence[ProviderSource], scope: anyio.CancelScope, ended: anyio.Event) -> None:
        """Keep blocks and, once that is due, look for providers until `scope` is cancelled; `ended` tells that it is over."""
        try:
            with scope:
                async with anyio.create_task_group() as group:
                    tasks = Supervisor(group)
                    tasks.start(self.keep_blocks, owner="keeping blocks of a session")
                    look = partial(look_into_store, self._store, lambda: self._received, self._waited_for)
                    tasks.start(look, self._hub.found_here, owner="a session that looks into the store")
                    await self._seek.wait()
                    for source in sources:
                        tasks.start(self.find_providers, source, owner="a source of providers")
        finally:
            ended.set()

    async def find_providers(self, source: ProviderSource) -> None:
        """Take all that this source finds. Runs as long as the session, or until the source ends."""
        try:
            async for provider in source.find_providers(self.root, self.enclosure.secret if self.enclosure else b""):
                is_new = provider.peer not in self.addresses
                self.add_provider(provider)
                if is_new and provider.peer in self.addresses and isinstance(source, ProviderJudge):
                    self._judges[provider.peer] = source
        except StackError:
            pass  # this source finds no more; others, and the providers that are known, go on

    async def keep_blocks(self) -> None:
        """Put what has come into the store, many blocks at a time. Runs as long as the session."""
        while True:
            await self._keep.wait()
            self._keep = anyio.Event()
            batch, self._to_keep = self._to_keep, []
            try:
                await put_verified(self._store)([(cid, data) for _, cid, data in batch])
            except Exception as error:  # noqa: BLE001 - whatever it is, these blocks are not kept, and who waits is told
                self.fail(error)
                return
            self._hub.blocks_added([cid for _, cid, _ in batch], [len(data) for _, _, data in batch], self.realms)
            for call, cid, data in batch:
                self._keep_bytes -= len(data)
                if call is not None:
                    call.arrived(cid.multihash)
            if self._keep_bytes < KEEP_LOW:
                self.machine.resume()
                self._hub.drain(self)
            if not self._keep_bytes:
                self._kept.set()

    async def aclose(self) -> None:
        """Let what has come reach the store, then want nothing any more. Raises what made the session fail, StoreError (no time)."""
        await self.flush()
        if self._error is not None:
            raise self._error

    async def flush(self) -> None:
        """Let what has come reach the store, whatever ends the session: `get` has returned it."""
        self._closed = True
        if self._keep_bytes and self._error is None:
            self._kept = anyio.Event()
            with anyio.move_on_after(FLUSH_SECONDS, shield=True):
                await self._kept.wait()
        if self._keep_bytes and not self._told_lost:
            self._told_lost = True
            lost = f"{self._keep_bytes} bytes of blocks that were fetched could not be kept within {FLUSH_SECONDS:g} s"
            self._hub.trace(BlocksNotKept(root=self.root, bytes=self._keep_bytes))
            self.fail(StoreError(lost))

    def end(self) -> None:
        """Nothing is wanted any more; calls that still wait end with LocalProtocolError."""
        self._closed = True
        for unprotect in self._protected.values():
            unprotect()
        for report in self.machine.reports():
            if report.peer in self._judges and (report.misses or report.dropped is not None):
                self._judges[report.peer].failed(report.peer)
        if self._calls:
            self.fail(LocalProtocolError("the session has ended"))

    # inside

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise LocalProtocolError("the session has ended")

    async def _from_store(self, cids: list[Cid], sink: BlockSink | None) -> list[Cid]:
        """Serve from the store what is there; returns what is not."""
        here = await self._store.has(cids)
        absent = [cid for cid, there in zip(cids, here, strict=True) if not there]
        if sink is None:
            return absent
        for cid, there in zip(cids, here, strict=True):
            if there:
                try:
                    data = await self._store.get(cid)
                except NOT_HERE:
                    absent.append(cid)
                else:
                    await self._hand_over(sink, [(cid, memoryview(data))])
        return absent

    async def _hand_over(self, sink: BlockSink, blocks: Sequence[tuple[Cid, memoryview]]) -> None:
        def run() -> None:
            for cid, data in blocks:
                sink(cid, data)

        await anyio.to_thread.run_sync(run, limiter=self._hub.limiter)

    async def _from_peers(self, cids: Sequence[Cid], leaves: Sequence[int] | None, sink: BlockSink | None) -> None:
        self._check()
        call = FetchCall(self, cids, sink)
        self._calls.add(call)
        for cid in cids:
            self._hub.wanted.add(call, cid)
        try:
            # What another call waits for already is not asked for twice, and ends with neither alone.
            self.machine.want(cids, leaves)
            self._hub.drain(self)
            await call.done.wait()
        finally:
            self._end_call(call, cids)
        if self._error is not None:
            raise self._error

    def _waited_for(self, limit: int) -> list[Cid]:
        takers = (taker for call in self._calls for each in call.missing for taker in self._hub.wanted.takers(each)[:1])
        return [taker.cid for taker in islice(takers, limit)]

    def _end_call(self, call: FetchCall, cids: Sequence[Cid]) -> None:
        call.ended = True
        self._calls.discard(call)
        wanted = self._hub.wanted
        for cid in cids:
            wanted.remove(call, cid.multihash)
        self.machine.cancel([cid for cid in cids if not wanted.needed_by(self.id, cid.multihash)])
        self._hub.drain(self)


def _known(cid: Cid) -> bytes | None:
    """The bytes of a block whose CID alone tells them."""
    if cid.hash_code == IDENTITY:
        return cid.digest
    return b"" if cid.digest == _digest_of_nothing(cid.hash_code) else None
