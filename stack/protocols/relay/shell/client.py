"""What a peer asks of relays: a connection to somebody, or a place so that others can ask for one to us."""

import time
from collections.abc import Callable

import anyio

from stack.errors import DecodeError, NegotiationError, RemoteProtocolError, StackError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import RELAYED, Reach, is_relayed, reach_of, relay_of
from stack.net.connection import Connection
from stack.net.failures import ASK_ERRORS
from stack.net.host import Host
from stack.protocols.relay.keeping import time_left
from stack.protocols.relay.messages import (
    MESSAGE_BYTES_MAX,
    STOP,
    Hop,
    HopType,
    Status,
    Stop,
    StopType,
    decode_hop,
    decode_stop,
)
from stack.protocols.relay.service import HOP
from stack.protocols.relay.shell.listener import PlaceTaken, RelayListener
from stack.protocols.relay.shell.stream import RelayedStream
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from stack.streams.patience import patient
from stack.transports.interfaces import ListenError

ANSWER_SECONDS = 20.0
"""For a relay, which asks the other end first, to answer; while the line is busy with a fetch, longer (`patient`)."""
OFFER_SECONDS = 10.0
"""For a relay to say on a stream to us who is there."""
CIRCUITS_MAX = 64
"""Streams from one relay at a time; as many connections are let in (`NetLimits.connections_per_relay`)."""
CIRCUIT = Multiaddr.parse(f"/{RELAYED}")

_REASONS = {
    Status.RESERVATION_REFUSED: "the relay has no place left",
    Status.RESOURCE_LIMIT_EXCEEDED: "the relay carries too many connections",
    Status.PERMISSION_DENIED: "the relay does not let us",
    Status.CONNECTION_FAILED: "the relay cannot reach it",
    Status.NO_RESERVATION: "it is not at this relay now",
}


class RelayClient:
    """Commands: `dial`, `listen`, `wait_over`."""

    def __init__(self, host: Host, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._host = host
        self._wall_clock = wall_clock
        self._listeners: dict[PeerId, RelayListener] = {}

    async def dial(self, address: Multiaddr) -> RelayedStream:
        """A stream to the peer behind a relay. Raises TransportError."""
        front, text = address.split_peer()
        if text is None:
            raise TransportError("it does not say who is behind the relay")
        connection = await self._at(front)
        stream = await self._ask(connection, Hop(type=HopType.CONNECT, peer=PeerId.parse(text)))
        return RelayedStream(stream[0], _circuit(connection), limited=stream[1].limit.binds)

    async def listen(self, address: Multiaddr) -> RelayListener:
        """A place at a relay, and who comes through it. Raises ListenError."""
        try:
            connection = await self._at(address)
            if connection.peer in self._listeners:
                raise TransportError("there is a place at this relay already")
            place = await self._reserve(connection)
        except StackError as error:
            raise ListenError(address, str(error)) from error
        relay = connection.peer
        listener = RelayListener(relay, _announced(connection, place), place, self._renew, self._left)
        self._listeners[relay] = listener
        listener.stop_listening = self._host.listen_to_peers(listener)
        listener.unprotect = self._host.protect(relay, "our place at a relay")
        self._host.handle(STOP, self._serve, streams=CIRCUITS_MAX)
        if self._host.best_connection(relay) is None:
            listener.peer_disconnected(relay)  # before it could hear of it
        self._host.start(listener.keep, owner="keeping a place at a relay")
        return listener

    async def wait_over(self, address: Multiaddr) -> None:
        """Return when the place that is listened on at `address` is no more."""
        for listener in tuple(self._listeners.values()):
            if listener.address == address:
                await listener.over.wait()

    async def _renew(self, relay: PeerId) -> PlaceTaken:
        connection = self._host.best_connection(relay)
        if connection is None:
            raise TransportError("the connection to the relay has ended")
        return await self._reserve(connection)

    def _left(self, listener: RelayListener) -> None:
        if self._listeners.get(listener.relay) is listener:
            del self._listeners[listener.relay]

    async def _reserve(self, connection: Connection) -> PlaceTaken:
        stream, answer = await self._ask(connection, Hop(type=HopType.RESERVE))
        stream.reset()
        if answer.reservation is None:
            raise TransportError("the relay names no reservation")
        seconds = time_left(answer.reservation.expire, self._wall_clock())
        return PlaceTaken(seconds, answer.reservation.addresses, limited=answer.limit.binds)

    async def _at(self, address: Multiaddr) -> Connection:
        """The connection to the relay in front of an address; dialled if there is none. Raises TransportError."""
        where, text = relay_of(address)
        relay = PeerId.parse(text) if text is not None else self._standing(where)
        try:
            relay = await self._host.connect(relay, [where] if where else ())
        except StackError as error:
            raise TransportError(f"the relay cannot be reached: {error}") from error
        connection = self._host.best_connection(relay)
        if connection is None:
            raise TransportError("the connection to the relay has ended")
        if connection.relayed:
            raise TransportError("a relay behind a relay is not used")
        return connection

    def _standing(self, address: Multiaddr) -> PeerId | None:
        """Who is at this address, as far as we are connected to it."""
        found = (info.peer for info in self._host.connections() if info.address == address)
        return next(found, None)

    async def _ask(self, connection: Connection, question: Hop) -> tuple[Stream, Hop]:
        """The stream after a question that was granted, and the answer. Raises TransportError."""
        stream: Stream | None = None
        try:
            stream = await connection.open_stream([HOP], self._host.protocols(connection.peer))
            async with patient(stream, ANSWER_SECONDS):
                await send_message(stream, question.encode())
                answer = decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX))
            if answer.type is not HopType.STATUS:
                raise RemoteProtocolError("the relay gives no answer")
            if answer.status is not Status.OK:
                raise TransportError(_REASONS.get(answer.status or Status.OK, f"the relay says {answer.status!r}"))
        except BaseException as error:
            if stream is not None:
                stream.reset()
            if isinstance(error, NegotiationError):
                raise TransportError("it is no relay") from error
            if isinstance(error, (*ASK_ERRORS, DecodeError)) and not isinstance(error, TransportError):
                raise TransportError(f"the relay does not answer: {error}") from error
            raise
        return stream, answer

    async def _serve(self, stream: Stream) -> None:
        """A relay says that somebody is there."""
        try:
            with anyio.fail_after(OFFER_SECONDS):
                offer = decode_stop(await receive_message(stream, MESSAGE_BYTES_MAX))
        except (DecodeError, RemoteProtocolError, TimeoutError):
            await self._answer(stream, Status.MALFORMED_MESSAGE)
            return
        listener = self._listeners.get(stream.remote_peer)
        if offer.type is not StopType.CONNECT:
            await self._answer(stream, Status.UNEXPECTED_MESSAGE)
        elif offer.peer is None:
            await self._answer(stream, Status.MALFORMED_MESSAGE)
        elif listener is None or is_relayed(stream.remote_address):
            await self._answer(stream, Status.PERMISSION_DENIED)  # of a relay at which we have no place
        elif listener.full:
            await self._answer(stream, Status.RESOURCE_LIMIT_EXCEEDED)
        else:
            await self._answer(stream, Status.OK)
            relayed = RelayedStream(stream, listener.address, limited=offer.limit.binds)
            if listener.over.is_set():
                stream.reset()
                return
            listener.arrived(relayed)
            await relayed.over.wait()

    async def _answer(self, stream: Stream, status: Status) -> None:
        await send_message(stream, Stop(type=StopType.STATUS, status=status).encode())


def _circuit(connection: Connection) -> Multiaddr:
    return connection.address.with_peer(str(connection.peer)).encapsulate(CIRCUIT)


def _announced(connection: Connection, place: PlaceTaken) -> Multiaddr:
    """Where others come to us: as we reached the relay if that is public, else as it says that it is reached."""
    theirs = (address.with_peer(str(connection.peer)) for address in place.addresses if not is_relayed(address))
    candidates = [connection.address.with_peer(str(connection.peer)), *theirs]
    best = max(candidates, key=reach_of) if reach_of(candidates[0]) is not Reach.PUBLIC else candidates[0]
    return best.encapsulate(CIRCUIT)
