"""A QUIC connection on the event loop: secured, and with streams once it is taken over."""

from typing import Protocol

import anyio
import anyio.lowlevel

from stack.errors import SecurityError, TransportError, without_frames
from stack.identity.keys import PublicKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.events import PongReceived, StreamEnded, StreamOpened, StreamReadable, StreamReset, WindowOpened
from stack.sansio.budget import Scope
from stack.sansio.interfaces import StreamId
from stack.streams.muxed import MachineStream
from stack.streams.signs import Signs
from stack.transports.quic.library import Address
from stack.transports.quic.machine import ConnectionEnded, HandshakeFinished, QuicMachine, RouteAdded, RouteRemoved
from stack.transports.quic.streams import Unwanted

STILL_SECONDS = 1.0
"""A connection that we close waits for what its streams were given to arrive, until nothing has come for so long."""
LINGER_SECONDS = 3.0
"""And for so long in all, or until whoever runs it is cancelled."""


class Line(Protocol):
    """What a connection asks of the socket it shares with others."""

    def send(self, datagrams: list[tuple[bytes, Address]], source: str | None) -> None:
        """Send what goes at once, from `source` of our addresses if that is given; the rest is lost, as on any line."""
        ...

    def add(self, id: bytes, connection: "QuicConnection") -> None:
        """Datagrams to `id` are for `connection`."""
        ...

    def remove_id(self, id: bytes) -> None:
        """Nobody is there any more."""
        ...

    def leave(self, connection: "QuicConnection", farewell: bytes) -> None:
        """Nothing is for it any more; a peer that goes on with it is told `farewell` again, if there is one."""
        ...


class QuicConnection:
    """A `SecuredConnection`, and a `MuxedConnection` from `multiplexed` on."""

    def __init__(
        self, machine: QuicMachine, line: Line, *, local: Multiaddr, remote: Multiaddr, source: str | None = None
    ) -> None:
        """`source`: which of our addresses the peer has come to, and is answered from."""
        self.machine = machine
        self.local_address = local
        self.remote_address = remote
        self._line = line
        self._source = source
        self._proof: HandshakeFinished | None = None
        self._streams: dict[StreamId, MachineStream] = {}
        self._incoming: dict[StreamId, MachineStream] = {}
        self._pongs: dict[int, float | None] = {}
        self._changed = anyio.Event()
        self._pause = anyio.CancelScope()
        self._adopted = False
        self._runs = False
        self._over = False
        self._heard_at = anyio.current_time()
        self._heard = 0
        self.closed = False
        """It has ended, for whatever reason."""
        self.reason: Exception | None = None
        """Why, when we did not close it."""
        line.add(machine.id, self)

    def __repr__(self) -> str:
        peer = self._proof.remote_peer if self._proof is not None else self.remote_address
        return f"<QuicConnection {peer} {'closed' if self.closed else repr(self.machine)}>"

    @property
    def remote_peer(self) -> PeerId:
        """The peer that has proved its identity."""
        return self._proven.remote_peer

    @property
    def remote_key(self) -> PublicKey:
        """Its identity key."""
        return self._proven.remote_key

    @property
    def stream_count(self) -> int:
        """Streams that are not over."""
        return len(self.machine.streams)

    @property
    def signs(self) -> Signs:
        """See `MuxedConnection.signs`. An acknowledgement, too, is a datagram that comes; but so small that who counts bytes sees by
        itself alone a line on which a lot goes out as one on which nothing moves."""
        return Signs(self._heard_at, self.machine.handed_over, self.machine.acknowledged, self._heard)

    async def handshake(self) -> None:
        """Return when the peer has proved who it is. Raises SecurityError, TransportError; the caller sets the deadline, and drops
        the connection when this raises."""
        self.flush()
        while self._proof is None and not self.closed:
            await self._pass_time()
        await anyio.lowlevel.checkpoint()
        if self.closed:
            reason = self.reason
            kept = isinstance(reason, (SecurityError, TransportError))
            raise reason if kept and reason else TransportError(f"the handshake failed: {reason or 'it was closed'}")

    def multiplexed(self, *, scope: Scope) -> "QuicConnection":
        """See `SecuredConnection.multiplexed`."""
        self._adopted = True
        self.machine.adopt(scope, anyio.current_time())
        self.flush()
        return self

    async def run(self) -> None:
        """Keep time until the connection ends; returns when it was closed by either side or broke."""
        self._runs = True
        try:
            while not self.closed:
                await self._pass_time()
            await self._arrive()
        finally:
            self.drop()

    async def open_stream(self) -> MachineStream:
        """A new outbound stream. Raises BrokenResourceError when the connection is gone, LimitExceeded."""
        await anyio.lowlevel.checkpoint()
        if self.closed:
            raise anyio.BrokenResourceError("the connection is closed")
        id = self.machine.streams.open()
        stream = self._streams[id] = MachineStream(self, self.machine.streams, id)
        return stream

    async def accept_stream(self) -> MachineStream:
        """The next inbound stream. Raises EndOfStream when the connection has ended."""
        while not self._incoming:
            if self.closed:
                raise anyio.EndOfStream
            await self._changed.wait()
        id = next(iter(self._incoming))
        self.machine.streams.accept(id)
        return self._incoming.pop(id)

    async def ping(self) -> float:
        """Seconds for a round trip. Raises BrokenResourceError; the caller sets the deadline."""
        if self.closed:
            raise anyio.BrokenResourceError("the connection is closed")
        number = self.machine.ping(anyio.current_time())
        self._pongs[number] = None
        try:
            self.flush()
            while (round_trip := self._pongs[number]) is None:
                if self.closed:
                    raise anyio.BrokenResourceError("the connection is closed")
                await self._changed.wait()
            return round_trip
        finally:
            del self._pongs[number]

    async def aclose(self) -> None:
        """Close; never waits for the peer. What was handed over still arrives while `run` goes on, for some seconds."""
        self.flush()
        self._end(None)
        if not self._runs:
            self.drop()

    def drop(self) -> None:
        """It is over, at once: tell the peer, and give everything back."""
        if self._over:
            return
        self._over = True
        self._end(None)
        self.machine.close()
        last = self.machine.datagrams(anyio.current_time())
        self._line.send(last, self._source)
        self._line.leave(self, last[-1][0] if last and self._adopted else b"")
        if self._adopted:
            self.machine.streams.end()

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """A datagram has come; `flush` follows."""
        self._heard_at = now
        self._heard += len(data)
        self.machine.receive_datagram(data, address, now)

    def flush(self) -> None:
        """Tell what has happened, send what there is to send."""
        if self._over:
            return
        self._dispatch()
        self._line.send(self.machine.datagrams(anyio.current_time()), self._source)
        if self.closed and not self.machine.owes:
            self._notify()
        timeout = self.machine.next_timeout()
        self._pause.deadline = float("inf") if timeout is None else timeout

    def forget(self, id: StreamId) -> None:
        """A stream was closed by the application."""
        self._streams.pop(id, None)
        self._incoming.pop(id, None)

    @property
    def _proven(self) -> HandshakeFinished:
        assert self._proof is not None  # nobody is given the connection before
        return self._proof

    async def _pass_time(self) -> None:
        """Until something has changed, or the machine wants to do something."""
        changed = self._changed
        timeout = self.machine.next_timeout()
        with anyio.CancelScope(deadline=float("inf") if timeout is None else timeout) as self._pause:
            await changed.wait()
        if self._pause.cancelled_caught:
            self.machine.handle_timeout(anyio.current_time())
            self.flush()

    async def _arrive(self) -> None:
        """We have closed: wait until what was handed over has arrived, or the peer is gone."""
        until = anyio.current_time() + LINGER_SECONDS
        while self.machine.owes and (now := anyio.current_time()) < until:
            if self.machine.is_silent(STILL_SECONDS, now):
                return
            await self._pass_time()

    def _end(self, reason: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self.reason = reason and without_frames(reason)
        for stream in tuple(self._streams.values()):
            stream.broke()
        self._streams.clear()
        self._incoming.clear()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _dispatch(self) -> None:
        while (event := self.machine.next_event()) is not None:
            match event:
                case Unwanted(stream=id):
                    if (stream := self._streams.get(id)) is not None:
                        stream.unwanted()
                case StreamReadable(stream=id) | WindowOpened(stream=id):
                    if (stream := self._streams.get(id)) is not None:
                        stream.wake()
                case StreamEnded(stream=id):
                    if (stream := self._streams.get(id)) is not None:
                        stream.ended()
                case StreamReset(stream=id):
                    self._incoming.pop(id, None)
                    if (stream := self._streams.pop(id, None)) is not None:
                        stream.broke()
                case StreamOpened(stream=id):
                    if not self.closed:
                        self._streams[id] = self._incoming[id] = MachineStream(self, self.machine.streams, id)
                        self._notify()
                case PongReceived(ping=number, round_trip=round_trip):
                    if number in self._pongs:
                        self._pongs[number] = round_trip
                        self._notify()
                case HandshakeFinished():
                    self._proof = event
                    self._notify()
                case RouteAdded(id=id):
                    self._line.add(id, self)
                case RouteRemoved(id=id):
                    self._line.remove_id(id)
                case ConnectionEnded(reason=reason):
                    self._end(reason)
                    self._notify()
