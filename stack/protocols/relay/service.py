"""Peers behind relays on a host: the transport for addresses with `/p2p-circuit`. What speaks with relays is loaded when there is one
to speak with."""

from typing import TYPE_CHECKING, Final

import anyio

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import RELAYED
from stack.net.host import Host
from stack.streams.supervision import Supervisor
from stack.transports.interfaces import Listener

if TYPE_CHECKING:
    from stack.protocols.relay.shell.client import RelayClient
    from stack.protocols.relay.shell.stream import RelayedStream

HOP: Final = "/libp2p/circuit/relay/0.2.0/hop"


class RelayService:
    """Row "relay" of `SERVICES`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.transport = RelayTransport(host)
        host.carry(self.transport)

    async def keep_places(self, tasks: Supervisor) -> None:
        """Have places at relays among the peers that we meet, from when there is one."""
        offers = _Offers()
        end = self._host.listen_to_peers(offers)
        await offers.seen.wait()
        end()
        from stack.protocols.relay.shell.keeper import RelayKeeper

        RelayKeeper(self._host, self.transport, (), tasks)


class _Offers:
    """A `PeerListener` that waits for the first relay."""

    def __init__(self) -> None:
        self.seen = anyio.Event()

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""
        if HOP in protocols:
            self.seen.set()

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""


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
        """See `Transport.listen`: a place at the relay, which is kept until the listener is closed."""
        return await self.client.listen(address)

    @property
    def client(self) -> "RelayClient":
        """What speaks with relays."""
        if self._client is None:
            from stack.protocols.relay.shell.client import RelayClient

            self._client = RelayClient(self._host)
        return self._client
