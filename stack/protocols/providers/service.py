"""`/stack/providers/1.0.0` on a host."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.net.addresses import group_of
from stack.net.failures import ASK_ERRORS, STREAM_ERRORS
from stack.net.interfaces import Host
from stack.protocols.providers.interfaces import MayKnow, RangeBook, RangeSource, SwarmListener, announce_key
from stack.protocols.providers.messages import MESSAGE_BYTES_MAX, PROTOCOL, Update, decode_update, encode_update
from stack.protocols.providers.subscription import MEMBERS_MAX, PeerFound, RangesChanged, SendUpdates, SubscriptionId
from stack.protocols.providers.swarm import STREAMS_PER_PEER_MAX, SwarmMachine
from stack.protocols.providers.work import PeerWork
from stack.sansio.budget import Resource
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor, supervised
from stack.streams.turns import Turn
from stack.trace import TraceEvent
from stack.values import dataclass

OPEN_SECONDS = 30.0
"""For a stream and the first word on it."""

SEND_SECONDS = 30.0
"""For one batch of updates. Who does not read for so long is not followed any more."""

AGAIN_SECONDS = 5.0
"""Before a peer is asked again whose stream broke while it is connected: with one of its connections, beside which there is another,
as of who has moved to another network, or is reached without a relay by now."""

LEAVING_SECONDS = 5.0
"""For those who are told at the end that all is here, to have heard it; so long a node that stops waits for them at most."""

READ_BYTES = 64 * 1024
LISTENER = "a listener for providers"


class RecordHost(Host, Protocol):
    """A host that can sign where it is."""

    def signed_record(self) -> bytes:
        """Our own signed peer record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverTold(TraceEvent):
    """A peer says on a stream what it has of a root, for the first time, or that it has all of it, or all that it wanted, now."""

    peer: PeerId
    root: Cid
    complete: bool
    finished: bool = False


class _Outbox:
    """What waits to be sent on one stream; the machine gives the next only when this has gone."""

    __slots__ = ("batch", "event", "said", "stream")

    def __init__(self, stream: Stream, said: anyio.Event) -> None:
        self.stream = stream
        self.said = said
        """Set when the peer has said something."""
        self.batch: SendUpdates | None = None
        self.event = anyio.Event()


class ProvidersService:
    """Row "providers" of `SERVICES`. Implements `Swarm` of bitswap. Made by `open`, a context that owns its tasks."""

    def __init__(
        self, host: RecordHost, tasks: Supervisor, source: RangeSource, may_know: MayKnow | None = None
    ) -> None:
        self._host = host
        self._tasks = tasks
        self._source = source
        self._machine = SwarmMachine(source, may_know=may_know)
        self._listeners: dict[Cid, list[SwarmListener]] = {}
        self._outboxes: dict[SubscriptionId, _Outbox] = {}
        self._asking: dict[tuple[Cid, PeerId], anyio.Event] = {}
        self._work = PeerWork()
        self._clock = time.thread_time
        """Of the processor's time: a busy machine is nobody's fault."""
        self._next_id = 0
        self._wake = anyio.Event()
        self._left = anyio.Event()

    def __repr__(self) -> str:
        return f"<ProvidersService {self._machine!r}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, host: RecordHost, source: RangeSource | None = None, *, may_know: MayKnow | None = None
    ) -> AsyncIterator["ProvidersService"]:
        """Answer for what `source` knows, to those who `may_know`, and ask others for what is joined, until the context is left."""
        async with supervised(host.trace) as tasks:
            service = cls(host, tasks, source if source is not None else RangeBook(), may_know)
            host.handle(PROTOCOL, service._serve, streams=2 * STREAMS_PER_PEER_MAX)  # beyond the half it says BUSY
            tasks.keep(service._run_ticker, owner="the clock of providers")
            try:
                yield service
                with anyio.move_on_after(LEAVING_SECONDS):
                    await service.settled()
            finally:
                host.unhandle(PROTOCOL)

    async def settled(self) -> None:
        """Wait until everybody who is to hear that something is complete has heard it."""
        while self._machine.leaving or any(self._is_over(root) for root, _ in self._asking):
            self._left = anyio.Event()
            await self._left.wait()

    def _is_over(self, root: Cid) -> bool:
        """Whether all is here, or all that was wanted: then that is to be told, though nobody fetches it any more."""
        ranges = self._source.ranges(root)
        return (ranges is not None and ranges.complete) or self._source.is_finished(root)

    def receivers(self, root: Cid) -> dict[PeerId, float]:
        """Who asks about a root, and what part of its leaves each says it has."""
        return self._machine.receivers(root)

    def join(self, root: Cid, listener: SwarmListener) -> Callable[[], None]:
        """Tell `listener` of the other peers of `root`, first of those known, until the returned function is called."""
        self._listeners.setdefault(root, []).append(listener)
        self._machine.join(root)
        self._drain()

        def leave() -> None:
            self._listeners[root].remove(listener)
            if not self._listeners[root]:
                del self._listeners[root]
            for id in self._machine.leave(root):
                self._outboxes[id].stream.reset()
            self._drain()

        return leave

    def ask(self, root: Cid, peer: PeerId) -> anyio.Event:
        """Ask this peer, once, as long as `root` is joined. See Swarm."""
        said = self._asking.get((root, peer)) or anyio.Event()
        protocols = self._host.protocols(peer)
        if self._machine.knows(root, peer) or (protocols is not None and PROTOCOL not in protocols):
            said.set()
        elif (root, peer) not in self._asking:
            self._asking[root, peer] = said
            self._tasks.start(self._subscribe, root, peer, said, owner="asking for providers")
        return said

    async def ask_name(self, root: Cid, peer: PeerId) -> str:
        """What this connected peer calls `root`, whatever else it may say of it; empty when it does not say."""
        try:
            stream = await self._host.open_stream(peer, PROTOCOL)
            try:
                await stream.send_buffers(encode_delimited(encode_update(Update(key=announce_key(root.multihash)))))
                reader = DelimitedReader(MESSAGE_BYTES_MAX)
                while (message := reader.next_message()) is None:
                    reader.receive_data(await stream.receive())
                return decode_update(message).name
            finally:
                stream.reset()
        except ASK_ERRORS:
            return ""

    async def _subscribe(self, root: Cid, peer: PeerId, said: anyio.Event) -> None:
        try:
            with anyio.fail_after(OPEN_SECONDS):
                stream = await self._host.open_stream(peer, PROTOCOL)
        except STREAM_ERRORS:
            said.set()
            return
        finally:
            del self._asking[root, peer]
            self._left.set()
        if root not in self._listeners and not self._is_over(root):
            stream.reset()
            said.set()
            return
        id, broke = self._new_id(), False
        try:
            self._machine.subscribe(id, peer, root, self._host.signed_record(), anyio.current_time())
            await self._run(id, stream, said)
        except STREAM_ERRORS:
            stream.reset()
            broke = True
        finally:
            said.set()
            self._left.set()
        if broke:
            await anyio.sleep(AGAIN_SECONDS)
            if root in self._listeners and self._host.is_connected(peer):
                self.ask(root, peer)

    async def _serve(self, stream: Stream) -> None:
        await self._run(self._new_id(), stream, anyio.Event())

    def _new_id(self) -> SubscriptionId:
        self._next_id += 1
        return SubscriptionId(self._next_id)

    async def _run(self, id: SubscriptionId, stream: Stream, said: anyio.Event) -> None:
        """Both directions of one stream, until either side ends it. Raises STREAM_ERRORS."""
        scope = self._host.peer_budget(stream.remote_peer)
        outbox = self._outboxes[id] = _Outbox(stream, said)
        failure: Exception | None = None
        try:
            # What the peer and those it names may make us keep, at the worst.
            with scope.reserve(Resource.ROWS, 1 + MEMBERS_MAX):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._send_updates, id, outbox, tasks)
                    self._drain()
                    try:
                        await self._receive_updates(id, outbox)
                    except STREAM_ERRORS as error:
                        failure = error
                    tasks.cancel_scope.cancel()
        finally:
            del self._outboxes[id]
            self._machine.stream_closed(id)
            stream.reset()
        if failure is not None:
            raise failure

    async def _receive_updates(self, id: SubscriptionId, outbox: _Outbox) -> None:
        stream = outbox.stream
        reader = DelimitedReader(MESSAGE_BYTES_MAX)
        buffer = memoryview(bytearray(4096))
        first, turn = True, Turn()
        told: tuple[tuple[Cid, bool] | None, Cid | None] = None, None
        scope = self._host.peer_budget(stream.remote_peer)
        with scope.reserve(Resource.BYTES, 0) as charged, scope.reserve(Resource.BYTES, 0) as bitmaps:
            while True:
                try:
                    with anyio.fail_after(OPEN_SECONDS if first else None):
                        size = await stream.receive_into(buffer)
                except anyio.EndOfStream:
                    return
                turn.begin()
                charged.grow(size)
                reader.receive_data(buffer[:size])
                while (message := reader.next_message()) is not None:
                    outbox.said.set()
                    # What the peer sends waits meanwhile, and what it has to tell comes together later.
                    if rest := self._work.take(stream.remote_peer, 0.0, anyio.current_time()):
                        await anyio.sleep(rest)
                    began = self._clock()
                    try:
                        update = decode_update(message)
                        # Only the first is answered with it, and each receiver of a swarm hears dozens of updates a second.
                        record = self._host.signed_record() if first else b""
                        group = group_of(stream.remote_address) if first else None
                        self._machine.receive_update(
                            id, stream.remote_peer, update, record, anyio.current_time(), group=group
                        )
                        self._drain()
                    finally:
                        self._work.take(stream.remote_peer, self._clock() - began, anyio.current_time())
                    charged.shrink(len(message) + 4)
                    if first:
                        bitmaps.grow(self._machine.bytes_kept(id))
                        first = False
                    await turn.give_way()
                now = self._machine.told(id), self._machine.finished(id)
                if now != told and self._host.trace is not None:
                    told = now
                    root, complete = now[0] or (now[1], False)
                    if root is not None:
                        self._host.trace(
                            ReceiverTold(
                                peer=stream.remote_peer, root=root, complete=complete, finished=now[1] is not None
                            )
                        )
                if len(buffer) < READ_BYTES and size == len(buffer):
                    buffer = memoryview(bytearray(READ_BYTES))

    async def _send_updates(self, id: SubscriptionId, outbox: _Outbox, tasks: TaskGroup) -> None:
        while True:
            await outbox.event.wait()
            outbox.event = anyio.Event()
            batch, outbox.batch = outbox.batch, None
            if batch is None:
                continue
            try:
                with anyio.fail_after(SEND_SECONDS):
                    await outbox.stream.send_buffers(*(encode_delimited(encode_update(each)) for each in batch.updates))
                    if batch.close:
                        await outbox.stream.send_eof()
            except STREAM_ERRORS:
                batch = None
            if batch is not None and batch.linger:
                await anyio.sleep(LEAVING_SECONDS)
            if batch is None or batch.close:
                tasks.cancel_scope.cancel()
                return
            self._machine.sent(id)

    def _drain(self) -> None:
        while (effect := self._machine.next_effect()) is not None:
            match effect:
                case SendUpdates(id=id):
                    outbox = self._outboxes.get(id)
                    if outbox is not None:
                        outbox.batch = effect
                        outbox.event.set()
                case PeerFound(root=root, peer=peer, addresses=addresses):
                    if peer != self._host.peer_id:
                        for listener in tuple(self._listeners.get(root, ())):
                            self._tasks.call(listener.peer_found, peer, addresses, owner=LISTENER)
                case RangesChanged(root=root, peer=peer, ranges=ranges, hearsay=hearsay):
                    for listener in tuple(self._listeners.get(root, ())):
                        tell = partial(listener.peer_ranges, hearsay=hearsay)
                        self._tasks.call(tell, peer, ranges, owner=LISTENER)
        self._wake.set()

    async def _run_ticker(self) -> None:
        while True:
            deadline = self._machine.next_timeout()
            if deadline is None:
                self._wake = anyio.Event()
                await self._wake.wait()
                continue
            await anyio.sleep_until(deadline)
            self._machine.handle_timeout(anyio.current_time())
            self._drain()
