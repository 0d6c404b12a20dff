"""A relay: the hop protocol on a host."""

import logging
import time
from collections.abc import Callable, Collection

import anyio

from stack.errors import DecodeError, LimitExceeded, RemoteProtocolError, StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, is_relayed, reach_of
from stack.net.host import Host
from stack.protocols.relay.messages import (
    ADDRESSES_MAX,
    MESSAGE_BYTES_MAX,
    STOP,
    VOUCHER_DOMAIN,
    VOUCHER_TYPE,
    Hop,
    HopType,
    Reservation,
    Status,
    Stop,
    StopType,
    Voucher,
    decode_hop,
    decode_stop,
)
from stack.protocols.relay.places import Circuit, RelayParameters, RelayPlaces
from stack.protocols.relay.service import HOP
from stack.protocols.relay.shell.bridge import BUFFER_BYTES, join
from stack.sansio.budget import Resource, Scope
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream

_log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
"""For a question to arrive; a stream on which none comes is nobody's."""
CONNECT_SECONDS = 15.0
"""For the other end to say whether it takes a connection: less than who dials waits."""
BYTES_MAX = 24 * 1024 * 1024
"""Of buffers of all circuits: 192 of them. go-libp2p's figure for a relay, 16 MiB, is what those between strangers may have."""
PART_OF_MEMORY = 3, 8
"""They are never more than this part of what the node may hold."""
PART_OF_STRANGERS, PART_BETWEEN_STRANGERS = (5, 6), (4, 6)
"""Of these bytes, the most for all circuits that strangers ask for, and of those the most where strangers are at both ends: so much is left
for who seeks a peer that is allowed by name, and so much for what such peers ask for."""
QUESTIONS_AT_ONCE = 4
"""Streams of one peer beside its circuits."""


def _budgets(whole: Scope) -> tuple[Scope, Scope, Scope]:
    """Of all circuits, of those that strangers ask for, of those between strangers."""
    memory = whole.limit(Resource.BYTES)
    most = BYTES_MAX if memory is None else min(BYTES_MAX, _part(memory, PART_OF_MEMORY))
    budget = whole.child("circuits of the relay", {Resource.BYTES: most})
    asked = budget.child("circuits that strangers ask for", {Resource.BYTES: _part(most, PART_OF_STRANGERS)})
    between = asked.child("circuits between strangers", {Resource.BYTES: _part(most, PART_BETWEEN_STRANGERS)})
    return budget, asked, between


def _part(whole: int, part: tuple[int, int]) -> int:
    return whole * part[0] // part[1]


class RelayServer:
    """Serves as a relay until `close`. Peers that are `allowed` by name have places of their own and no limits."""

    def __init__(
        self,
        host: Host,
        *,
        allowed: Collection[PeerId] = (),
        parameters: RelayParameters | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._clock = clock
        self._wall_clock = wall_clock
        self._budget, self._of_strangers, self._between_strangers = _budgets(host.budget)
        parameters = parameters or RelayParameters()
        self.places = RelayPlaces(parameters, allowed)
        """For tests and for `stack doctor`."""
        streams = max(parameters.circuits_of_peer, parameters.circuits_of_allowed if allowed else 0)
        host.handle(HOP, self._serve, streams=streams + QUESTIONS_AT_ONCE)
        self._stop_listening = host.listen_to_peers(self)
        self._protected: dict[PeerId, Callable[[], None]] = {}

    def close(self) -> None:
        """Take no more questions."""
        self._host.unhandle(HOP)
        self._stop_listening()
        for end in self._protected.values():
            end()

    async def _serve(self, stream: Stream) -> None:
        if not self.places.may_ask(stream.remote_peer, self._clock()):
            await self._answer(stream, Status.RESOURCE_LIMIT_EXCEEDED)
            return
        try:
            with anyio.fail_after(REQUEST_SECONDS):
                question = decode_hop(await receive_message(stream, MESSAGE_BYTES_MAX))
        except (DecodeError, RemoteProtocolError, TimeoutError):
            await self._answer(stream, Status.MALFORMED_MESSAGE)
            return
        match question:
            case Hop(type=HopType.RESERVE):
                await self._reserve(stream)
            case Hop(type=HopType.CONNECT, peer=PeerId() as target):
                await self._connect(stream, target)
            case Hop(type=HopType.STATUS):
                await self._answer(stream, Status.UNEXPECTED_MESSAGE)
            case _:
                await self._answer(stream, Status.MALFORMED_MESSAGE)

    async def _reserve(self, stream: Stream) -> None:
        peer = stream.remote_peer
        if not self._host.is_connected(peer):
            return  # it has gone while it asked, and nobody would take its place away for an hour
        granted = self.places.reserve(peer, stream.remote_address, self._clock())
        if isinstance(granted, Status):
            await self._answer(stream, granted)
            return
        if peer not in self._protected and not self.places.limit(peer).binds:
            self._protected[peer] = self._host.protect(peer, "reservation at the relay")
        expire = int(self._wall_clock()) + granted
        voucher = Voucher(relay=self._host.peer_id, peer=peer, expiration=expire)
        reservation = Reservation(
            expire=expire,
            addresses=tuple(self._addresses()),
            voucher=self._host.seal(VOUCHER_DOMAIN, VOUCHER_TYPE, voucher.encode()),
        )
        answer = Hop(type=HopType.STATUS, status=Status.OK, reservation=reservation, limit=self.places.limit(peer))
        await send_message(stream, answer.encode())

    async def _connect(self, stream: Stream, target: PeerId) -> None:
        source = stream.remote_peer
        granted = self.places.connect(source, stream.remote_address, target, self._clock())
        if isinstance(granted, Status):
            await self._answer(stream, granted)
            return
        try:
            of_source = self._of_strangers if granted.asked_by_stranger else self._budget
            pot = self._between_strangers if granted.counted else of_source
            scope = self._host.peer_budget(source).child("a circuit", {}, self._host.peer_budget(target), pot)
            with scope.reserve(Resource.BYTES, 2 * BUFFER_BYTES):
                await self._relay(stream, granted)
        except LimitExceeded:
            await self._answer(stream, Status.RESOURCE_LIMIT_EXCEEDED)
        finally:
            self.places.ended(granted)

    async def _relay(self, stream: Stream, circuit: Circuit) -> None:
        """Open the second half and join the two."""
        # The newest: whoever is in another network now has dialled again, and what it had before is dead, which nobody has told us.
        direct = [each for each in self._host.direct.connections() if each.peer == circuit.target]
        connection = max(direct, key=lambda each: each.opened_at, default=None)
        if connection is None:
            await self._answer(stream, Status.CONNECTION_FAILED)
            return
        other: Stream | None = None
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                other = await connection.open_stream([STOP], frozenset({STOP}))
                offer = Stop(type=StopType.CONNECT, peer=circuit.source, limit=circuit.limit)
                await send_message(other, offer.encode())
                answer = decode_stop(await receive_message(other, MESSAGE_BYTES_MAX))
            if answer.type is not StopType.STATUS or answer.status is not Status.OK:
                raise RemoteProtocolError(f"{circuit.target} does not take the connection: {answer.status!r}")
        except (StackError, TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            _log.debug("no circuit from %s: %r", circuit.source, error)
            if other is not None:
                other.reset()
            await self._answer(stream, Status.CONNECTION_FAILED)
            return
        except BaseException:
            if other is not None:
                other.reset()
            raise
        try:
            await send_message(stream, Hop(type=HopType.STATUS, status=Status.OK, limit=circuit.limit).encode())
        except BaseException:
            other.reset()
            raise
        await join(stream, other, circuit.limit)

    async def _answer(self, stream: Stream, status: Status) -> None:
        await send_message(stream, Hop(type=HopType.STATUS, status=status).encode())

    def _addresses(self) -> list[Multiaddr]:
        """Where we are reached from outside, if from anywhere: what stands in front of others' relayed addresses."""
        ours = [address for address in self._host.addresses() if not is_relayed(address)]
        public = [address for address in ours if reach_of(address) is Reach.PUBLIC]
        return [address.with_peer(str(self._host.peer_id)) for address in (public or ours)[:ADDRESSES_MAX]]

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        self.places.peer_disconnected(peer)
        if (end := self._protected.pop(peer, None)) is not None:
            end()
