"""What a transport gives: outgoing byte streams, and listeners from which incoming ones are taken."""

from typing import NoReturn, Protocol, runtime_checkable

from stack.errors import TransportError
from stack.identity.keys import PrivateKey, PublicKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Scope
from stack.streams.interfaces import MuxedConnection, RawStream
from stack.streams.supervision import Supervisor


class ListenError(TransportError):
    """An address could not be listened on."""

    def __init__(self, address: Multiaddr, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


@runtime_checkable
class SecuredConnection(Protocol):
    """What a transport gives that secures and multiplexes by itself: the peer has proved who it is, and streams come next."""

    @property
    def remote_peer(self) -> PeerId: ...
    @property
    def remote_key(self) -> PublicKey: ...

    def multiplexed(self, *, scope: Scope) -> MuxedConnection:
        """Its streams. They, and what they hold, are reserved in `scope`, and returned when `MuxedConnection.run` ends; the caller must
        run it, or `aclose` it."""
        ...

    async def aclose(self) -> None:
        """Close it at once; never waits for the peer."""
        ...


NewConnection = RawStream | SecuredConnection
"""What has been dialled, or has come, before the host knows whose it is."""


class Incoming(Protocol):
    """A connection that has arrived but has cost us nothing yet, so that it can be refused by its address alone."""

    @property
    def remote_address(self) -> Multiaddr: ...

    async def open(self) -> NewConnection:
        """Finish the transport's own handshake (none for TCP; TLS and the HTTP upgrade for WebSocket; all of it for QUIC).

        Raises TransportError, SecurityError; the connection is closed then, and when this is cancelled.
        """
        ...

    async def aclose(self) -> None:
        """Drop it at once, without a word; harmless when it has been opened or closed."""
        ...


class Listener(Protocol):
    """An address that is listened on."""

    @property
    def address(self) -> Multiaddr:
        """As given to `listen`, with the port that was really taken."""
        ...

    async def accept(self) -> Incoming:
        """The next connection. Raises ClosedResourceError after `aclose`; everything else is survived inside."""
        ...

    async def aclose(self) -> None:
        """Stop listening; what was accepted lives on."""
        ...


class Transport(Protocol):
    """Dials and listens on the addresses it understands; `/p2p` is not part of them.

    A transport that gives plain streams of bytes says so by an attribute `protectable = True`: a private network's key can be
    laid around them. One that encrypts and multiplexes by itself (QUIC) cannot carry a private network, and lacks it. One whose dials
    may leave from a port that it listens on has a method `apart()`: another of its kind, which listens on none.
    """

    def can_dial(self, address: Multiaddr) -> bool: ...

    def can_listen(self, address: Multiaddr) -> bool: ...

    async def dial(self, address: Multiaddr) -> RawStream:
        """A finished byte stream. Raises TransportError with the reason; may be cancelled at any time."""
        ...

    async def listen(self, address: Multiaddr) -> Listener:
        """Raises ListenError."""
        ...


class SecuringTransport(Transport, Protocol):
    """One whose connections are secured and multiplexed by themselves (QUIC). A transport that is so has the methods."""

    def hosted(self, key: PrivateKey, tasks: Supervisor) -> "SecuringTransport":
        """Another of its kind, which shows the identity `key`, and runs in `tasks` what serves many connections at once."""
        ...

    async def dial_secured(self, address: Multiaddr, expected: PeerId | None) -> SecuredConnection:
        """In place of `dial`: a connection to `expected`, if that is said. Raises TransportError, SecurityError (PeerIdMismatch); may be
        cancelled at any time."""
        ...


class PunchingTransport(Transport, Protocol):
    """One that can also dial from a port that it listens on: what the other end, and each router on the way, sees then belongs to that
    port. A transport that can has the method."""

    async def dial_from_port(self, address: Multiaddr) -> RawStream:
        """As `dial`. Raises TransportError, also when no port is listened on."""
        ...


class KnockingTransport(SecuringTransport, Protocol):
    """One whose connections are secured by themselves, which dials from what it listens on, and can have routers on the way let in who
    dials us from there. A transport that can has the method."""

    async def knock(self, address: Multiaddr) -> NoReturn:
        """Send what means nothing from a port that is listened on, for routers to see, until cancelled. Raises TransportError, also when
        no port is listened on."""
        ...
