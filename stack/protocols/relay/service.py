"""Peers behind relays on a host: the transport for addresses with `/p2p-circuit`. What speaks with relays is loaded when there is one
to speak with."""

from typing import TYPE_CHECKING

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import RELAYED
from stack.net.host import Host
from stack.transports.interfaces import Listener

if TYPE_CHECKING:
    from stack.protocols.relay.shell.client import RelayClient
    from stack.protocols.relay.shell.stream import RelayedStream


class RelayService:
    """Row "relay" of `SERVICES`."""

    def __init__(self, host: Host) -> None:
        self._transport = RelayTransport(host)
        host.carry(self._transport)


class RelayTransport:
    """A `Transport` for `/…/p2p/RELAY/p2p-circuit`; without `/p2p/RELAY` whoever is there will do, since who is behind it has to
    prove who it is. What is dialled ends in `/p2p/PEER`."""

    protectable = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self._client: RelayClient | None = None

    def can_dial(self, address: Multiaddr) -> bool:
        """True for one relay, and nothing behind it."""
        return address.protocols.count(RELAYED) == 1 and address.split_peer()[0].protocols[-1] == RELAYED

    def can_listen(self, address: Multiaddr) -> bool:
        """True for one relay."""
        return address.protocols.count(RELAYED) == 1 and address.protocols[-1] == RELAYED

    async def dial(self, address: Multiaddr) -> "RelayedStream":
        """See `Transport.dial`."""
        return await self.client.dial(address)

    async def listen(self, address: Multiaddr) -> Listener:
        """See `Transport.listen`: a place at the relay, which is kept by accepting from the listener."""
        return await self.client.listen(address)

    @property
    def client(self) -> "RelayClient":
        """What speaks with relays."""
        if self._client is None:
            from stack.protocols.relay.shell.client import RelayClient

            self._client = RelayClient(self._host)
        return self._client
