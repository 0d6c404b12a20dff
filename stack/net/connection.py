"""One connection to a peer: its streams are negotiated here, inbound ones handed to their handlers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import anyio

from stack.errors import LimitExceeded, NegotiationError, ProtocolError, RemoteProtocolError, SecurityError, StackError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import is_relayed, neighbourhood_of
from stack.net.events import CloseReason, StreamOpened
from stack.net.interfaces import ConnectionInfo, Direction
from stack.net.limits import STREAM_BYTES, STREAMS_UNCHARGED
from stack.net.negotiate import LazyStream, select_one, serve
from stack.net.pauses import Pauses
from stack.net.stream import NegotiatedStream
from stack.net.stream_places import Place, StreamPlaces
from stack.net.upkeep import LATELY_SECONDS, Standing
from stack.sansio.budget import Resource, Scope
from stack.sansio.flood import Flood
from stack.streams.interfaces import MuxedConnection, MuxedStream, Stream, StreamHandler
from stack.streams.patience import SECONDS_MAX
from stack.streams.signs import Patience, Question, Signs
from stack.streams.supervision import Supervisor
from stack.trace import Trace

_log = logging.getLogger(__name__)

NEGOTIATION_SECONDS = 10.0
"""For a stream's protocol: limits.md's bound for multistream. While the line moves, as long again, but no longer than SECONDS_MAX."""
VAIN_STREAMS_MAX = 1000
"""Streams in 10 s that no handler took or that had to give their places back: of protocols that nobody speaks, or more than the peer
may have. Each costs as much as one that is of use; the muxer counts those that end before they say anything."""
HANDLER_GRACE_SECONDS = 5.0
"""Time for handlers to finish with what they have received after the connection has ended."""
ENDINGS = (StackError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What may end an inbound stream without anybody's fault being ours."""
LATENCY_SECONDS = 10.0
"""For the first measure of a new connection's round trip."""
DOUBT_SECONDS, DOUBT_ROUND_TRIPS = 2.0, 4
"""For a sign of life of a peer that is silent while something is due: a laptop has moved there, and cannot say so; a transfer goes on
within 5 s of a move. Who is far away has as many of the round trips that were measured before."""
CLOSE_SECONDS = 2.0
"""For saying goodbye; nobody waits longer for a peer that does not read."""


class Connection:
    """A secured, multiplexed connection; `run` is its life.

    Getters: the attributes, `streams`, `signs`, `standing`. Commands: `open_stream`, `ping`, `doubt`, `aclose`, `wait_closed`.
    """

    def __init__(
        self,
        muxed: MuxedConnection,
        *,
        direction: Direction,
        address: Multiaddr,
        opened_at: float,
        scope: Scope,
        places: StreamPlaces,
        pauses: Pauses,
        starting: anyio.Lock,
        limited: bool = False,
        trace: Trace | None = None,
    ) -> None:
        """`starting` is shared by all connections: in one turn of the event loop one stream is begun, and peers take turns. So are the
        `places` of streams, and the `pauses` of lines."""
        self._muxed = muxed
        self._starting = starting
        self._places = places
        self._pauses = pauses
        self._vain = Flood(VAIN_STREAMS_MAX)
        self._trace = trace
        self.scope = scope
        self.peer = muxed.remote_peer
        self.public_key = muxed.remote_key
        self.direction = direction
        self.address = address
        """The peer's, as we dialled it or as it came."""
        self.local_address = muxed.local_address
        self.opened_at = opened_at
        self.relayed = is_relayed(address)
        self.limited = limited
        """It goes through a relay that carries so little that only coordination belongs there."""
        self.superseded_at: float | None = None
        """Since when there has been a direct one beside this relayed one."""
        self.observed: Multiaddr | None = None
        """Where the peer says that it sees us."""
        self.neighbourhood = neighbourhood_of(address)
        self.idle_since: float | None = None
        self.moved = 0
        """Bytes of streams, both ways, since the last `look`."""
        self._moved_lately = 0.0
        self._looked_at = opened_at
        self.latency: float | None = None
        self.close_reason: CloseReason | None = None
        self._doubted = False
        self._over: anyio.Event | None = None
        """For who waits until it is."""
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Connection {self.direction.value} {self.peer} at {self.address}, {self.streams} streams>"

    @property
    def streams(self) -> int:
        """How many are open, of both directions."""
        return self._muxed.stream_count

    @property
    def signs(self) -> Signs:
        """That the peer is there."""
        return self._muxed.signs

    @property
    def closed(self) -> bool:
        """It has ended, or is about to."""
        return self.close_reason is not None or self._muxed.closed

    @property
    def cut_off(self) -> bool:
        """It was ended for what came on it, or to make room for others: whoever dials again at once gains nothing by it."""
        if self.close_reason in (CloseReason.FLOODING, CloseReason.MISBEHAVED, CloseReason.TRIMMED):
            return True
        reason = getattr(self._muxed, "reason", None)  # a muxer of another package need not tell
        return _is_offence(reason) or _is_offence(reason and reason.__cause__)

    def standing(self, protected: bool) -> Standing:
        """What decisions need to know."""
        return Standing(
            direction=self.direction,
            opened_at=self.opened_at,
            moved=int(self._moved_lately) + self.moved,
            idle_since=self.idle_since,
            protected=protected,
            neighbourhood=self.neighbourhood,
            relayed=self.relayed,
            superseded_at=self.superseded_at,
        )

    def info(self, agent: str | None) -> ConnectionInfo:
        """As shown to users."""
        return ConnectionInfo(
            peer=self.peer,
            address=self.address,
            direction=self.direction,
            opened_at=self.opened_at,
            streams=self.streams,
            latency=self.latency,
            agent=agent,
            relayed=self.relayed,
            limited=self.limited,
        )

    def look(self, now: float) -> None:
        """Called every now and then, to know since when no stream has been open, and what has moved lately."""
        if self.streams:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        self._moved_lately = self._moved_lately * 0.5 ** ((now - self._looked_at) / LATELY_SECONDS) + self.moved
        self._looked_at, self.moved = now, 0

    async def run(self, handlers: Mapping[str, StreamHandler], ended: Callable[[], None]) -> None:
        """Serve inbound streams until the connection ends; then call `ended`, give handlers a moment, return."""
        try:
            async with anyio.create_task_group() as group:
                tasks = Supervisor(group, self._trace)
                tasks.start(self._move, owner="a muxer", failed=tasks.cancel)
                try:
                    while True:
                        stream = await self._muxed.accept_stream()
                        async with self._starting:
                            tasks.start(self._serve, stream, handlers, owner="an inbound stream")
                            await anyio.lowlevel.checkpoint()
                except anyio.EndOfStream:
                    ended()
                    group.cancel_scope.deadline = anyio.current_time() + HANDLER_GRACE_SECONDS
        finally:
            ended()
            await self._close()

    async def open_stream(self, protocols: Sequence[str], known: frozenset[str] | None = None) -> Stream:
        """A stream with the first of `protocols` that the peer speaks; with one that is in `known` without a round trip.

        Raises NegotiationError, BrokenResourceError, LimitExceeded.
        """
        patience, stream = self._patience(), None
        try:
            with anyio.fail_after(SECONDS_MAX):
                while stream is None:  # it waits while the peer acknowledges none of many
                    with anyio.CancelScope(deadline=patience.until):
                        stream = await self._muxed.open_stream()
                    if stream is None:
                        patience.look(anyio.current_time())
        except TimeoutError:
            raise LimitExceeded("streams that the peer has not acknowledged", self.streams) from None
        self.idle_since = None
        try:
            chosen = next((protocol for protocol in protocols if known and protocol in known), None)
            if chosen is not None:
                return self._opened(LazyStream(stream, chosen), chosen, Direction.OUTBOUND)
            with anyio.fail_after(SECONDS_MAX):
                chosen = await select_one(stream, protocols, self._patience())
            return self._opened(stream, chosen, Direction.OUTBOUND)
        except BaseException as error:
            stream.reset()
            if isinstance(error, TimeoutError):
                raise anyio.BrokenResourceError(f"no answer within {NEGOTIATION_SECONDS:g} s") from None
            if isinstance(error, ProtocolError):
                raise NegotiationError(f"{self.peer} broke the rules of negotiation: {error}") from error
            if isinstance(error, (anyio.EndOfStream, anyio.ClosedResourceError)):
                raise anyio.BrokenResourceError("the stream ended while its protocol was negotiated") from error
            raise

    def _patience(self) -> Patience:
        return Patience(lambda: self.signs, NEGOTIATION_SECONDS, anyio.current_time())

    async def ping(self, seconds: float) -> float | None:
        """The round trip in seconds, or None when there is no answer within `seconds`."""
        try:
            with anyio.fail_after(seconds):
                self.latency = await self._muxed.ping()
        except (TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError, StackError):
            return None
        return self.latency

    async def doubt(self, seconds: float | None = None) -> None:
        """Somebody waits for the peer in vain, or it has dialled again: close when nothing shows for so long that it is there. It is asked
        once at a time."""
        if self._doubted:
            return
        self._doubted = True
        # How a relay's own connection fares does not show here.
        known = None if self.relayed else self.latency
        try:
            patience = LATENCY_SECONDS if known is None else max(seconds or DOUBT_SECONDS, DOUBT_ROUND_TRIPS * known)
            now = anyio.current_time()
            await self._await_sign(max(patience, self._pauses.patience(self.peer, self.address, now)))
        finally:
            self._doubted = False

    async def _await_sign(self, seconds: float) -> None:
        question = Question(self._muxed.signs)
        while await self.ping(seconds) is None and not self.closed:
            if not question.shows_life(self._muxed.signs):
                self._pauses.gave_up(self.peer, self.address, seconds, anyio.current_time())
                await self.aclose(CloseReason.UNRESPONSIVE)

    async def aclose(self, reason: CloseReason) -> None:
        """Say goodbye and close; the first reason given is the one that is told."""
        if self.close_reason is None:
            self.close_reason = reason
        await self._close()

    async def wait_closed(self) -> None:
        """After `aclose`: return when what was handed over has arrived, or the muxer has given up waiting for it."""
        if not self._is_over:
            self._over = self._over or anyio.Event()
            await self._over.wait()

    async def _move(self) -> None:
        try:
            await self._muxed.run()
        finally:
            self._is_over = True
            if self._over is not None:
                self._over.set()

    async def _close(self) -> None:
        try:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._muxed.aclose()
        except Exception:  # noqa: BLE001 - a fault in a muxer ends its connection, not the host
            _log.exception("fault while closing %r", self)

    def _opened(
        self, stream: MuxedStream, protocol: str, direction: Direction, place: Place | None = None
    ) -> NegotiatedStream:
        if self._trace is not None:
            self._trace(StreamOpened(peer=self.peer, protocol=protocol, direction=direction))
        place = place or Place(self.peer, stream.reset)  # of a stream of ours nobody asks how it is used
        return NegotiatedStream(stream, protocol, self, place)

    async def _serve(self, stream: MuxedStream, handlers: Mapping[str, StreamHandler]) -> None:
        """One inbound stream, from its negotiation to its end (A11)."""
        with anyio.CancelScope() as scope:

            def drop() -> None:
                stream.reset()
                scope.cancel()  # who waits for something else would not see the reset

            place = self._places.take(self.peer, drop)
            try:
                await self._handle(stream, handlers, place)
            except ENDINGS as error:
                stream.reset()
                _log.debug("stream from %s ended: %r", self.peer, error)
            except BaseException:
                stream.reset()
                raise
            finally:
                self._places.release(place)
        if (scope.cancelled_caught or place.protocol is None) and self._vain.add(anyio.current_time()):
            await self.aclose(CloseReason.FLOODING)

    async def _handle(self, stream: MuxedStream, handlers: Mapping[str, StreamHandler], place: Place) -> None:
        charged = STREAM_BYTES if self._places.of(self.peer) > STREAMS_UNCHARGED else 0
        with self.scope.reserve(Resource.TASKS), self.scope.reserve(Resource.BYTES, charged):
            with anyio.fail_after(SECONDS_MAX):
                protocol = await serve(stream, handlers, self._patience())
            self._places.agree(place, protocol)
            await handlers[protocol](self._opened(stream, protocol, Direction.INBOUND, place))
            await stream.aclose()


class SwarmListener(Protocol):
    """Told of connections, synchronously."""

    def connection_opened(self, connection: Connection, first: bool) -> None:
        """It is in the table; `first` of its peer."""
        ...

    def connection_closed(self, connection: Connection, last: bool) -> None:
        """It has left the table; `last` of its peer."""
        ...

    def listener_ended(self, address: Multiaddr) -> None:
        """Nobody listens there any more."""
        ...


def supersede(connections: Sequence[Connection], now: float) -> None:
    """Of the connections to one peer the relayed ones are wanted no longer while there is a direct one."""
    direct = any(not connection.relayed for connection in connections)
    for connection in connections:
        if not (direct and connection.relayed):
            connection.superseded_at = None
        elif connection.superseded_at is None:
            connection.superseded_at = now


def _is_offence(reason: BaseException | None) -> bool:
    """Who was only silent for too long, which has no code, may have been asleep."""
    return isinstance(reason, SecurityError) or (isinstance(reason, RemoteProtocolError) and reason.code is not None)
