"""One peer's streams: ours, kept open to write to, and its, read from. Source: libp2p/specs, pubsub/README.md, "Stream management":
"These streams are treated as unidirectional streams".
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio
import anyio.to_thread

from stack.errors import LimitExceeded, NegotiationError, RemoteProtocolError, SecurityError, StackError, TransportError
from stack.gossipsub.decoding import decode_quickly, decode_rpc
from stack.gossipsub.events import Connect
from stack.gossipsub.messages import PROTOCOLS, RPC_BYTES_MAX, Rpc
from stack.gossipsub.outbox import Kind, Outbox
from stack.gossipsub.params import GossipsubParams
from stack.identity.peer_id import PeerId
from stack.net.interfaces import Host
from stack.net.limits import TokenBucket
from stack.sansio.budget import Resource, Scope
from stack.sansio.buffer import ReceiveBuffer
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor
from stack.streams.turns import Turn

KIB = 1024

RECEIVE_BYTES = 64 * KIB
"""Read at a time: one frame of Noise."""
MESSAGE_SECONDS = 30.0
"""For one whole RPC, from its first byte: a peer that sends a byte a minute holds no buffer for long."""
OPEN_SECONDS = 30.0
"""For opening a stream, negotiation included."""
WRITE_SECONDS = 30.0
"""For one write; a peer that reads nothing for so long is given up (go-libp2p-pubsub's figure)."""
CLOSE_SECONDS = 1.0
"""For closing a stream politely."""
RETRY_SECONDS = (0.1, 1.0, 5.0, 10.0)
"""Before each new attempt to open a stream that has failed, while the connection stands; then nothing is tried any more."""
STEADY_SECONDS = 60.0
"""A stream that lasted for so long had no fault of its own: attempts count from the start again."""
STALLED_SECONDS = 1.0
"""A peer that has taken nothing for so long is not waited for by publishers."""
BUDGET_STEP = 256 * KIB
"""What waits for a peer is drawn from its budget in steps of this size."""
CHEAP_RATE, CHEAP_BURST = 100.0, 20_000
"""Subscriptions, GRAFTs, PRUNEs and empty RPCs of one stream: four times as many at once as topics one may be in, since who is honest
tells them when it connects; then so many a second. Who sends more loses its stream."""
PATIENCE_BYTES = 256 * KIB
"""Publishers wait while more than this waits for every peer that gets the message."""


class Hub(Protocol):
    """What a link tells its owner."""

    def link_opened(self, link: "Link", protocol: str) -> None:
        """The peer can be sent to."""
        ...

    def link_closed(self, link: "Link") -> None:
        """It cannot any more, for now."""
        ...

    def link_drained(self) -> None:
        """Something has been written."""
        ...


class Link:
    """Our stream to one peer, opened again when it fails. `run` is its life."""

    def __init__(self, peer: PeerId, host: Host, hub: Hub) -> None:
        self.peer = peer
        self.opened = anyio.Event()
        """Set while the peer can be sent to."""
        self.scope = anyio.CancelScope()
        self.topics: tuple[str, ...] = ()
        """What the peer was in when the stream failed."""
        self._host = host
        self._hub = hub
        self._outbox = Outbox()
        self._held = host.peer_budget(peer).reserve(Resource.BYTES, 0)
        self._wake = anyio.Event()
        self._stream_scope = anyio.CancelScope()
        """Of the present stream; cancelled when the peer has let too much pile up."""
        self._moved_at = -math.inf
        self._writing = False

    def __repr__(self) -> str:
        return f"<Link to {self.peer}: {self._outbox.size} bytes wait>"

    def push(self, kind: Kind, data: bytes) -> bool:
        """An encoded RPC, with its length. False when it, or something that waited, was dropped."""
        outbox = self._outbox
        if not outbox:
            self._moved_at = anyio.current_time()
        if outbox.size + len(data) > self._held.amount:
            try:
                self._held.grow(max(BUDGET_STEP, len(data)))
            except LimitExceeded:
                if kind is not Kind.CONTROL:
                    return False
        self._wake.set()
        whole = outbox.push(kind, data)
        if outbox.overflown:
            self._stream_scope.cancel()
        return whole

    def is_writing(self, now: float) -> bool:
        """Something waits for the peer, and it is taking it."""
        return (bool(self._outbox) or self._writing) and now - self._moved_at < STALLED_SECONDS

    def is_full(self) -> bool:
        """Much waits for the peer, and it is taking it: one does well to wait."""
        return self._outbox.size > PATIENCE_BYTES and anyio.current_time() - self._moved_at < STALLED_SECONDS

    async def run(self) -> None:
        """Keep a stream open until the scope is cancelled, the peer does not speak any of our protocols, or it keeps failing."""
        with self.scope:
            attempt = 0
            while attempt <= len(RETRY_SECONDS):
                began = anyio.current_time()
                if not await self._run_once():
                    return
                if anyio.current_time() - began > STEADY_SECONDS:
                    attempt = 0
                if attempt < len(RETRY_SECONDS):
                    await anyio.sleep(RETRY_SECONDS[attempt])
                attempt += 1

    async def _run_once(self) -> bool:
        """One stream; False when it is not worth trying again."""
        try:
            with anyio.fail_after(OPEN_SECONDS):
                stream = await self._host.open_stream(self.peer, *PROTOCOLS)
        except (NegotiationError, SecurityError, TransportError):
            return False
        except (LimitExceeded, TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return True
        broken = False
        try:
            self._hub.link_opened(self, stream.protocol)
            self.opened.set()
            async with anyio.create_task_group() as tasks:
                self._stream_scope = tasks.cancel_scope
                tasks.start_soon(self._watch, stream)
                await self._write(stream)
                tasks.cancel_scope.cancel()
            broken = True
        finally:
            if broken:
                stream.reset()
            else:
                # We are closing: what has been written is still to arrive.
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await stream.aclose()
            self.opened = anyio.Event()
            self._outbox = Outbox()
            self._writing = False
            self._held.release()
            self._hub.link_closed(self)
        return True

    async def _write(self, stream: Stream) -> None:
        """Write what waits, until the stream breaks."""
        while True:
            data = self._outbox.take()
            if not data:
                self._held.release()
                self._wake = anyio.Event()
                await self._wake.wait()
                continue
            self._writing = True
            try:
                with anyio.fail_after(WRITE_SECONDS):
                    await stream.send(data)
            except (TimeoutError, RemoteProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            self._writing = False
            self._moved_at = anyio.current_time()
            self._hub.link_drained()

    async def _watch(self, stream: Stream) -> None:
        """The peer sends nothing on our stream, but this is how we learn that it has reset it. That it closes its side
        (js does) means nothing."""
        try:
            while True:
                await stream.receive()
        except anyio.EndOfStream:
            return
        except (NegotiationError, RemoteProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._stream_scope.cancel()


class Dials:
    """Dials peers, a few at a time; what is too many is forgotten, since more will be named."""

    def __init__(self, host: Host, params: GossipsubParams, tasks: Supervisor) -> None:
        self._host = host
        self._timeout = params.connection_timeout
        self._send, self._connects = anyio.create_memory_object_stream[Connect](params.max_pending_connections)
        for _ in range(params.connectors):
            tasks.keep(self._run, owner="dials of gossipsub")

    def push(self, connect: Connect) -> None:
        """A peer to dial, unless too many wait."""
        try:
            self._send.send_nowait(connect)
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            pass

    def close(self) -> None:
        """Nobody is dialled any more."""
        self._send.close()
        self._connects.close()

    async def _run(self) -> None:
        while True:
            try:
                connect = await self._connects.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                return
            try:
                with anyio.fail_after(self._timeout):
                    await self._host.connect(connect.peer, connect.addresses)
            except (StackError, TimeoutError):
                pass  # the host has told its trace


async def receive_rpcs(
    stream: Stream, budget: Scope, receive: Callable[[Sequence[tuple[Rpc, int]]], Awaitable[None]]
) -> None:
    """Hand the RPCs that arrive, and their sizes, to `receive`, those that came together at once, until the peer ends the
    stream. What comes before a bad one is still received.

    Raises RemoteProtocolError (also for RPCs without end that say nothing), TimeoutError (a message that does not end),
    LimitExceeded (the peer's budget) and what streams raise.
    """
    turn = Turn()
    cheap = TokenBucket(CHEAP_RATE, CHEAP_BURST, anyio.current_time())
    buffer = ReceiveBuffer(RPC_BYTES_MAX + RECEIVE_BYTES + KIB)
    with anyio.fail_after(None) as scope, budget.reserve(Resource.BYTES, 0) as held:
        while True:
            try:
                data = await stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                return
            now = anyio.current_time()
            held.grow(len(data))
            buffer.append(data)
            rpcs: list[tuple[Rpc, int]] = []
            fault: RemoteProtocolError | None = None
            try:
                while (message := _next_message(buffer)) is not None:
                    if not rpcs:
                        scope.deadline = math.inf
                    rpc = decode_quickly(message)
                    if rpc is None:  # it is much work
                        rpc = await anyio.to_thread.run_sync(decode_rpc, message)
                    if not cheap.take(now, _worthless(rpc)):
                        raise RemoteProtocolError("gossipsub RPCs without end that say nothing")
                    rpcs.append((rpc, len(message)))
                    if turn.over:
                        await turn.give_way()
            except RemoteProtocolError as error:
                fault = error
            await receive(rpcs)
            if fault is not None:
                raise fault
            held.shrink(held.amount - len(buffer))
            if len(buffer) and scope.deadline == math.inf:
                scope.deadline = anyio.current_time() + MESSAGE_SECONDS


def _worthless(rpc: Rpc) -> int:
    """What of an RPC costs its sender nothing, and need not ever end: what it is in and has left, and RPCs without content."""
    control = rpc.control
    if control is None:
        return len(rpc.subscriptions) if rpc.subscriptions or rpc.publish or rpc.skipped_bytes else 1
    return len(rpc.subscriptions) + len(control.graft) + len(control.prune)


def _next_message(buffer: ReceiveBuffer) -> bytes | None:
    size = buffer.take_uvarint()
    if size is None:
        return None
    if size > RPC_BYTES_MAX:
        raise RemoteProtocolError(f"gossipsub RPC of {size} bytes, at most {RPC_BYTES_MAX} are allowed")
    message = buffer.take(size)
    if message is None:
        buffer.rollback()
    else:
        buffer.commit()
    return message
