"""What protocols and the node ask of a host; `net/host.py` is the one that is real."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from stack.errors import TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Scope
from stack.streams.interfaces import Stream, StreamHandler
from stack.trace import Trace
from stack.transports.interfaces import ListenError as ListenError
from stack.values import dataclass


class DialError(TransportError):
    """No address of a peer answered; `attempts` pairs each address with why it failed."""

    def __init__(self, peer: PeerId | None, attempts: Sequence[tuple[Multiaddr, str]]) -> None:
        tried = "; ".join(f"{address}: {reason}" for address, reason in attempts) or "no address is known"
        super().__init__(f"cannot reach {peer if peer is not None else 'peer'}: {tried}")
        self.peer = peer
        self.attempts = tuple(attempts)


class Direction(Enum):
    """Who dialled."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionInfo:
    """A connection as shown to users (`stack peers`)."""

    peer: PeerId
    address: Multiaddr
    direction: Direction
    opened_at: float
    """Monotonic seconds."""
    streams: int
    latency: float | None
    """Seconds, from the last ping."""
    agent: str | None
    relayed: bool = False
    """Through another peer."""
    limited: bool = False
    """And through one that carries only some KiB."""


class PeerListener(Protocol):
    """Told of peers, synchronously, on the event loop; must not block."""

    def peer_connected(self, peer: PeerId) -> None:
        """The first connection to this peer is ready for streams."""
        ...

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """Identify has told (again) which protocols the peer speaks."""
        ...

    def peer_disconnected(self, peer: PeerId) -> None:
        """The last connection to this peer has ended."""
        ...


class Host(Protocol):
    """Connections to peers and streams on them."""

    @property
    def peer_id(self) -> PeerId: ...
    @property
    def trace(self) -> Trace | None: ...
    @property
    def budget(self) -> Scope: ...

    def peer_budget(self, peer: PeerId) -> Scope:
        """The scope from which everything this peer makes us hold is drawn."""
        ...

    def handle(self, protocol: str, handler: StreamHandler, *, streams: int = ...) -> None:
        """Serve inbound streams of `protocol`, at most so many of one peer at a time; identify tells it to every peer."""
        ...

    def unhandle(self, protocol: str) -> None: ...

    async def listen(self, address: Multiaddr) -> Multiaddr:
        """Listen, return the address with its real port. Raises ListenError."""
        ...

    def addresses(self) -> list[Multiaddr]:
        """Where others can dial us, without `/p2p`: concrete interface addresses, observed ones last."""
        ...

    async def connect(self, peer: PeerId | None, addresses: Sequence[Multiaddr] = ()) -> PeerId:
        """Be connected: returns at once when that is so, else dials. With `peer` None the addresses decide (and must
        carry `/p2p/` or any identity is accepted). Raises DialError, SecurityError (PeerIdMismatch), LimitExceeded."""
        ...

    async def disconnect(self, peer: PeerId, *, misbehaved: bool = False) -> bool:
        """Close all connections to a peer, who comes back late if it `misbehaved`; False if there were none."""
        ...

    def is_connected(self, peer: PeerId) -> bool: ...

    def connections(self) -> list[ConnectionInfo]: ...

    async def open_stream(self, peer: PeerId, *protocols: str) -> Stream:
        """A stream on which the first of `protocols` that both speak is agreed; dials known addresses if need be.

        Raises DialError, NegotiationError, BrokenResourceError, LimitExceeded.
        """
        ...

    def protocols(self, peer: PeerId) -> frozenset[str] | None:
        """What identify told of this peer, or None when it has not yet."""
        ...

    def protect(self, peer: PeerId, tag: str) -> Callable[[], None]:
        """Keep the connection to `peer` when connections are trimmed, until the returned function is called."""
        ...

    def on_wake(self, callback: Callable[[float], None]) -> Callable[[], None]:
        """Call `callback` when the machine has slept or its clock was set, with how many seconds the wall clock went on more
        than the monotonic one (less than 0: it was set back); the returned function ends it."""
        ...

    def listen_to_peers(self, listener: PeerListener) -> Callable[[], None]:
        """Tell `listener` of all peers, those already connected first; the returned function ends it."""
        ...
