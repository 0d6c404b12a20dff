"""QUIC v1, behind the extra `quic`: secured by TLS and with streams of its own, so that neither Noise nor yamux is needed.

The library is loaded when the first address of QUIC is dialled or listened on.
"""

from typing import TYPE_CHECKING, NoReturn

from stack.errors import TransportError
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import RawStream
from stack.streams.supervision import Supervisor
from stack.transports.extras import has_quic
from stack.transports.interfaces import Listener, ListenError, SecuredConnection
from stack.transports.quic.address import is_quic

if TYPE_CHECKING:
    from stack.transports.quic.transport import Sockets

NO_HOST = "QUIC needs a host, whose identity it shows"


class QuicTransport:
    """A `SecuringTransport` for `/quic-v1`. Without a host it only knows its addresses."""

    def __init__(self, key: PrivateKey | None = None, tasks: Supervisor | None = None) -> None:
        self._host = (key, tasks) if key is not None and tasks is not None else None
        self._loaded: Sockets | None = None

    def can_dial(self, address: Multiaddr) -> bool:
        """True for QUIC v1 over an IP address, with the extra installed."""
        return is_quic(address) and has_quic()

    def can_listen(self, address: Multiaddr) -> bool:
        """See `can_dial`."""
        return self.can_dial(address)

    def hosted(self, key: PrivateKey, tasks: Supervisor) -> "QuicTransport":
        """See `SecuringTransport.hosted`."""
        return QuicTransport(key, tasks)

    def apart(self) -> "QuicTransport":
        """See `transports.interfaces.Transport`."""
        return QuicTransport()

    async def dial(self, address: Multiaddr) -> RawStream:
        """Never: what comes out of QUIC is no raw stream. Raises TransportError."""
        raise TransportError("QUIC gives connections that are secured: use dial_secured")

    async def dial_secured(self, address: Multiaddr, expected: PeerId | None) -> SecuredConnection:
        """See `SecuringTransport.dial_secured`."""
        return await self._sockets.dial(address, expected)

    async def knock(self, address: Multiaddr) -> NoReturn:
        """See `KnockingTransport.knock`."""
        await self._sockets.knock(address)

    async def listen(self, address: Multiaddr) -> Listener:
        """See `Transport.listen`."""
        try:
            return self._sockets.listen(address)
        except ListenError:
            raise
        except TransportError as error:
            raise ListenError(address, str(error)) from error

    @property
    def _sockets(self) -> "Sockets":
        if self._loaded is None:
            if self._host is None:
                raise TransportError(NO_HOST)
            from stack.transports.quic.transport import Sockets

            self._loaded = Sockets(*self._host)
        return self._loaded
