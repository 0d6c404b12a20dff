"""Keeps places at relays: at those that the owner of the node names, else at some of the peers that offer it."""

from collections.abc import Sequence

import anyio

from stack.errors import TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, is_relayed, reach_of
from stack.net.host import Host
from stack.protocols.relay.keeping import Relays
from stack.protocols.relay.service import HOP, RelayTransport
from stack.protocols.relay.shell.client import CIRCUIT
from stack.streams.supervision import Supervisor

PLACES_WANTED = 2
"""Relays among peers: when one goes, the other is there."""
FIRST_SECONDS = 2.0
"""For the relays that are named to answer, before tickets are made without them."""


class RelayKeeper:
    """Lives as long as `tasks`."""

    def __init__(self, host: Host, transport: RelayTransport, named: Sequence[Multiaddr], tasks: Supervisor) -> None:
        self._host = host
        self._client = transport.client
        self._relays = Relays[Multiaddr | PeerId](max(len(named), PLACES_WANTED) if named else PLACES_WANTED)
        self._named = bool(named)
        self._tasks = tasks
        self._changed = anyio.Event()
        self._asking = 0
        self.tried = anyio.Event()
        """Each relay that was named has been asked once."""
        self._left = len(named)
        for address in named:
            self._relays.offered(address)
        if not named:
            self.tried.set()
            host.listen_to_peers(self)
            host.on_change(lambda: self._changed.set())
        tasks.keep(self._keep, owner="places at relays")

    async def _keep(self) -> None:
        while True:
            now, wanted = anyio.current_time(), self._named or self._wanted()
            relay = self._relays.next_relay(now, self._latency) if wanted else None
            if relay is not None:
                await self._ask(relay)
                continue
            due = self._relays.next_timeout() if wanted else None
            with anyio.move_on_at(float("inf") if due is None else due):
                await self._changed.wait()
            self._changed = anyio.Event()

    async def _ask(self, relay: Multiaddr | PeerId) -> None:
        front = relay if isinstance(relay, Multiaddr) else Multiaddr.parse(f"/p2p/{relay}")
        try:
            bound = await self._host.listen(front.encapsulate(CIRCUIT))
        except TransportError:
            self._relays.failed(relay, anyio.current_time())
        else:
            self._relays.placed(relay)
            self._tasks.start(self._watch, relay, bound, owner="a place at a relay")
        finally:
            self._left -= 1
            if self._left <= 0:
                self.tried.set()

    async def _watch(self, relay: Multiaddr | PeerId, bound: Multiaddr) -> None:
        await self._client.wait_over(bound)
        self._relays.lost(relay, anyio.current_time())
        self._changed.set()

    def _wanted(self) -> bool:
        """Others cannot come to us by themselves, and it is not only this computer that we listen for."""
        reaches = {reach_of(address) for address in self._host.addresses() if not is_relayed(address)}
        return Reach.PUBLIC not in reaches and Reach.PRIVATE in reaches

    def _latency(self, relay: Multiaddr | PeerId) -> float | None:
        connection = self._host.best_connection(relay) if isinstance(relay, PeerId) else None
        return connection.latency if connection is not None else None

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener. A relay that is not public itself leads nobody to us."""
        connection = self._host.best_connection(peer)
        if connection is None or connection.relayed or HOP not in protocols:
            self._relays.gone(peer)
        elif reach_of(connection.address) is Reach.PUBLIC:
            self._relays.offered(peer)
            self._changed.set()

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        self._relays.gone(peer)
