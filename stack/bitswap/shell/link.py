"""All that goes to one peer: what we want and whether we have, on one stream; blocks, on another."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import anyio

from stack.bitswap.engine import Engine, SendBlocks
from stack.bitswap.events import BlockSent
from stack.bitswap.messages import (
    PROTOCOL_1_2,
    OutgoingMessage,
    Presence,
    Want,
    WantKind,
    encode_message,
)
from stack.bitswap.served_peer import PIECE_BYTES
from stack.bitswap.shell.buffers import MessageBuffers
from stack.bitswap.shell.inbound import Inbound
from stack.bitswap.shell.lane import Lane, Throttle
from stack.bitswap.shell.shelf import Shelf, Shelved
from stack.bitswap.wants import PeerWants
from stack.blocks.interfaces import NOT_HERE, BlockStore, DirectReads, ReadFailed, ReadsToSend, RealmId, RealmStore
from stack.errors import LimitExceeded, NegotiationError, StoreError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.net.failures import SEND_ERRORS
from stack.net.interfaces import Host
from stack.sansio.budget import Resource
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import Stream
from stack.streams.seldom import Seldom

WANTS_PER_MESSAGE = 512
PRESENCES_PER_MESSAGE = 1024
"""About 25 and 45 KB: what others need not wait for."""

FAILURES_MAX = 4
"""Attempts to tell a peer what we want, with pauses of 0.2 s, 0.4 s, 0.8 s between them."""

LOOK_UP_PAUSE = 0.1
LOOK_UP_PAUSE_MAX = 10.0
"""Seconds after the first attempt to ask the index that failed, and after many."""

READ_SECONDS = 600.0
"""For a peer to read what is on its way to it: a full window of 16 MiB at 30 KB/s."""

READ_PAUSES = (0.1, 0.3, 1.0)
"""Seconds after each attempt to read that the disk refused."""

FAULTS = Seldom(logging.getLogger(__name__))
"""Of the store, while others are served."""

BUFFERS = MessageBuffers()
"""For blocks on their way out, of this process. What is lent is bounded by the engine."""


class LinkOwner(Protocol):
    """The exchange."""

    @property
    def host(self) -> Host: ...
    @property
    def store(self) -> BlockStore: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def throttle(self) -> Throttle | None: ...
    @property
    def shelf(self) -> Shelf: ...
    @property
    def inbound(self) -> Inbound: ...

    def peer_unreachable(self, peer: PeerId, reason: str | None) -> None: ...
    def pump(self) -> None: ...


class Link:
    """Commands: `wake`, `send_blocks`, `close`. `run` is started by the owner."""

    def __init__(self, owner: LinkOwner, peer: PeerId, wants: PeerWants | None = None) -> None:
        """`wants` is what was left of an earlier link to this peer."""
        self.wants = wants if wants is not None else PeerWants()
        self._owner = owner
        self._peer = peer
        self._control = Lane(owner.host, peer, spoken_on=owner.inbound.spoken_on)
        self._blocks = Lane(owner.host, peer, owner.throttle)
        self._handed_over: set[Stream] = set()
        """Streams of blocks whose end is waited for."""
        self._event = anyio.Event()
        self._scope = anyio.CancelScope()

    def __repr__(self) -> str:
        return f"<Link to {self._peer}: {len(self.wants)} wants>"

    def wake(self) -> None:
        """There may be something to be told."""
        self._event.set()

    def close(self) -> None:
        """The connection is gone, the peer cannot be told anything, or the exchange ends: no stream of ours is left, nor opened."""
        self._scope.cancel()
        self._control.close()
        self._blocks.close()
        for stream in self._handed_over:
            stream.reset()

    async def run(self) -> None:
        """Tell the peer what we want and what we have, until `close`, or until it cannot be told."""
        failures = 0
        with self._scope:
            while True:
                presences = self._owner.engine.take_presences(self._peer, PRESENCES_PER_MESSAGE)
                if not presences and not self.wants.pending:
                    await self._event.wait()
                    self._event = anyio.Event()
                    continue
                wants, full = self.wants.take(WANTS_PER_MESSAGE)
                try:
                    await self._control.send(lambda protocol: _control_message(protocol, wants, full, presences))  # noqa: B023
                    failures = 0
                except NegotiationError:
                    self._owner.peer_unreachable(self._peer, "does not speak bitswap")
                    return
                except SEND_ERRORS:
                    failures += 1
                    if failures >= FAILURES_MAX:
                        self._owner.peer_unreachable(self._peer, None)
                    self._owner.engine.presences_failed(self._peer, presences)
                    self._owner.pump()
                    if failures >= FAILURES_MAX:
                        return
                    self.wants.restart()
                    await anyio.sleep(0.1 * 2**failures)

    async def send_blocks(self, message: SendBlocks) -> None:
        """Read and send; tells the engine how it went, and when what did not go can be sent again."""
        engine = self._owner.engine
        sent: tuple[list[Cid], int] | None = None
        ours = False
        again_at = now = anyio.current_time()
        try:
            sent = await (self._send_in_pieces(message) if message.in_pieces else self._send_whole(message))
        except (LimitExceeded, StoreError) as error:
            ours = True
            self._cannot_read(error)
        except SEND_ERRORS:
            pass
        finally:
            now = anyio.current_time()
            if sent is None:
                again_at = engine.message_failed(message.id, now, ours=ours)
            else:
                engine.message_sent(message.id, *sent, now)
        self._owner.pump()
        if again_at > now:
            await anyio.sleep_until(again_at)
            self._owner.pump()

    async def _send_whole(self, message: SendBlocks) -> tuple[list[Cid], int]:
        """Hold all of it until the peer has taken it. Returns what could not be read, and how many bytes of blocks went."""
        with self._owner.host.peer_budget(self._peer).reserve(Resource.BYTES, message.size):
            buffer = BUFFERS.borrow(message.size)
            try:
                blocks, missing = await self._read(message.cids, memoryview(buffer)[: message.size])
                if blocks:
                    await self._blocks.send(lambda protocol: _blocks_message(protocol, blocks, message))
                self._tell([(cid, len(data)) for cid, data in blocks])
                return missing, sum(len(data) for _, data in blocks)
            finally:
                BUFFERS.give_back(buffer)

    async def _send_in_pieces(self, message: SendBlocks) -> tuple[list[Cid], int]:
        """The same, holding only a piece while the peer takes it: the blocks are read anew when their place was needed."""
        shelf = self._owner.shelf
        last: Shelved | None = None

        async def next_piece(protocol: str, position: int) -> bytes:
            nonlocal last
            found = shelf.find(message.id) if position else None
            if found is None:
                found = await shelf.put(message.id, lambda: self._shelve(message, protocol))
                if last is not None and position and found.size != last.size:
                    raise anyio.BrokenResourceError("a block has gone while it was sent")
            last = found
            return found.piece(position)

        try:
            with self._owner.host.peer_budget(self._peer).reserve(Resource.BYTES, min(message.size, PIECE_BYTES)):
                await self._blocks.send_pieces(next_piece)
        finally:
            shelf.drop(message.id)
        assert last is not None
        self._tell(last.blocks)
        return last.missing, sum(size for _, size in last.blocks)

    async def _shelve(self, message: SendBlocks, protocol: str) -> Shelved:
        reservation = self._owner.host.peer_budget(self._peer).reserve(Resource.BYTES, message.size)
        buffer = BUFFERS.borrow(message.size)
        try:
            blocks, missing = await self._read(message.cids, memoryview(buffer)[: message.size])
        except BaseException:
            BUFFERS.give_back(buffer)
            reservation.release()
            raise

        def give_back() -> None:
            BUFFERS.give_back(buffer)
            reservation.release()

        parts = _blocks_message(protocol, blocks, message) if blocks else []
        return Shelved(parts, [(cid, len(data)) for cid, data in blocks], missing, message.size, give_back)

    async def read_by_peer(self) -> bool:
        """Wait until the peer has read all blocks that were sent to it; False when that cannot be known."""
        stream = await self._blocks.take()
        if stream is None:
            return False
        self._handed_over.add(stream)
        try:
            with anyio.fail_after(READ_SECONDS):
                await stream.send_eof()
                while True:
                    await stream.receive()
        except anyio.EndOfStream:  # who ends its side after ours has read to the end
            return True
        except SEND_ERRORS:
            return False
        finally:
            self._handed_over.discard(stream)
            stream.reset()

    async def _read(self, cids: Sequence[Cid], out: memoryview) -> tuple[list[tuple[Cid, Buffer]], list[Cid]]:
        """The blocks that can be read, and those that cannot. A disk that fails is tried again: not read is not absent."""
        for pause in READ_PAUSES:
            try:
                return await self._read_together(cids, out)
            except ReadFailed:
                await anyio.sleep(pause)
        return await self._read_one_by_one(cids)

    async def _read_together(self, cids: Sequence[Cid], out: memoryview) -> tuple[list[tuple[Cid, Buffer]], list[Cid]]:
        store = self._owner.store
        blocks: list[tuple[Cid, Buffer]] = []
        missing: list[Cid] = []
        if hasattr(store, "read_into"):
            position = 0
            read = (
                cast(ReadsToSend, store).read_to_send
                if hasattr(store, "read_to_send")
                else cast(DirectReads, store).read_into
            )
            for cid, size in zip(cids, await read(cids, out), strict=True):
                if size is None:
                    missing.append(cid)
                else:
                    blocks.append((cid, out[position : position + size]))
                    position += size
            return blocks, missing
        return await self._read_one_by_one(cids)

    async def _read_one_by_one(self, cids: Sequence[Cid]) -> tuple[list[tuple[Cid, Buffer]], list[Cid]]:
        """So that a block on a bad sector keeps none of the others back."""
        blocks: list[tuple[Cid, Buffer]] = []
        missing: list[Cid] = []
        for cid in cids:
            try:
                blocks.append((cid, await self._owner.store.get(cid)))
            except NOT_HERE as error:
                missing.append(cid)
                self._cannot_read(error)
        return blocks, missing

    def _cannot_read(self, error: Exception) -> None:
        """Whose disk it is wants to know why others get nothing."""
        if isinstance(error, StoreError):
            FAULTS.warning("cannot send what %s asks for: %s", self._peer, error)

    def _tell(self, blocks: Sequence[tuple[Cid, int]]) -> None:
        trace = self._owner.host.trace
        if trace is not None:
            for cid, size in blocks:
                trace(BlockSent(peer=self._peer, cid=cid, size=size))


async def look_up(
    store: BlockStore, cids: Sequence[Cid], awaited: Callable[[], bool], admitted: frozenset[RealmId] = frozenset()
) -> list[int | None]:
    """The sizes of the blocks that are here, and for a peer that was admitted to those realms. An index that is busy is asked again
    while the answer is awaited: busy is not absent."""
    pause = LOOK_UP_PAUSE
    while awaited():
        try:
            if hasattr(store, "sizes_for"):
                return await cast(RealmStore, store).sizes_for(cids, admitted)
            return list(await store.sizes(cids))
        except Exception as error:  # noqa: BLE001 - no thread to be had, or anything else: not looked at is not absent either
            FAULTS.warning("cannot look up what others ask for: %s", error if str(error) else repr(error))
            await anyio.sleep(pause)
            pause = min(2 * pause, LOOK_UP_PAUSE_MAX)
    return [None] * len(cids)


def _blocks_message(protocol: str, blocks: Sequence[tuple[Cid, Buffer]], message: SendBlocks) -> list[Buffer]:
    return encode_message(OutgoingMessage(blocks=blocks, pending_bytes=message.pending_bytes), protocol=protocol)


def _control_message(protocol: str, wants: Sequence[Want], full: bool, presences: Sequence[Presence]) -> list[Buffer]:
    """Before 1.2 there is neither HAVE nor WANT_HAVE, which such a peer would answer with the block."""
    if protocol != PROTOCOL_1_2:
        wants = [want for want in wants if want.cancel or want.kind is WantKind.BLOCK]
        presences = ()
    return encode_message(OutgoingMessage(wants=wants, full=full, presences=presences), protocol=protocol)
