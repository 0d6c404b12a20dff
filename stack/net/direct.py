"""Connections without a relay beside relayed ones: waited for where the relay carries only a few words, and brought about by dialling a
peer at the moment when it dials us, so that the routers of both take what comes for an answer."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from stack.errors import LimitExceeded, NegotiationError, SecurityError, StackError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import is_relayed
from stack.net.connection import Connection
from stack.net.events import DialAttempted, DialOutcome
from stack.net.interfaces import DialError
from stack.net.peerstore import Peerstore
from stack.net.swarm import Swarm
from stack.trace import Trace

DIRECT_SECONDS = 20.0
"""For a direct connection to come about beside one that is only good for coordination: three tries of hole punching."""
LIMITED = (
    "the routers let no direct connection through, and the relay carries a few KiB: files only with --relay-allow there"
)
PUNCH_SECONDS = 5.0
"""For one try: go-libp2p's figure. A lost SYN is sent again after one second and after three."""
AGAIN_SECONDS, AGAIN_GROWTH = 0.1, 1.5
"""A router that refuses what it does not know yet is asked again so soon, and each time so much later: nine times in all, since it is a
stranger who says where."""
COORDINATION = ("/ipfs/id/", "/ipfs/ping/", "/libp2p/dcutr", "/stack/access/", "/stack/code/", "/stack/providers/")
"""Protocols of a few words: what is spoken over a relay that carries little."""

Dial = Callable[[PeerId, Sequence[Multiaddr], Sequence[Multiaddr]], Awaitable[object]]
"""As `Dialer.dial`."""


class Direct:
    """Fact: `changed`. Commands: `wait`, `punch`. Getters: `connections`, `left_by`, `listening`, `addresses`."""

    def __init__(
        self,
        swarm: Swarm,
        peerstore: Peerstore,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        trace: Trace | None = None,
    ) -> None:
        self._swarm = swarm
        self._best = swarm.best
        self._peerstore = peerstore
        self._clock = clock
        self._trace = trace
        self._wall_clock = wall_clock
        self._changed = anyio.Event()

    def connections(self) -> list[Connection]:
        """Those without a relay."""
        return [connection for connection in self._swarm.all() if not connection.relayed]

    def left_by(self, gone: Connection) -> list[Connection]:
        """When this was the last direct one beside a relayed one: that."""
        left = self._swarm.of(gone.peer)
        return [] if gone.relayed or not all(each.relayed for each in left) else left[:1]

    def listening(self) -> list[Multiaddr]:
        """What is listened on without a relay."""
        return [address for address in self._swarm.listen_addresses if not is_relayed(address)]

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """What is known of a peer, relayed addresses too."""
        return self._peerstore.addresses(peer, self._wall_clock())

    def changed(self) -> None:
        """Some connection has come or gone."""
        self._changed.set()
        self._changed = anyio.Event()

    async def wait(self, peer: PeerId, relayed: Connection, dial: Dial) -> Connection:
        """A connection that carries more, which the other end, or we, are trying to bring about. `dial` goes where the peer is known to
        be: there may have been one that is lost. Raises DialError."""
        async with anyio.create_task_group() as meanwhile:
            meanwhile.start_soon(self._try, peer, dial)
            with anyio.move_on_after(DIRECT_SECONDS):
                while (best := self._best(peer)) is not None and best.limited:
                    await self._changed.wait()
            meanwhile.cancel_scope.cancel()
        if best is None or best.limited:
            if self._trace is not None:
                outcome = DialOutcome.TRANSPORT
                self._trace(
                    DialAttempted(
                        peer=peer, address=relayed.address, outcome=outcome, seconds=DIRECT_SECONDS, reason=LIMITED
                    )
                )
            raise DialError(peer, [(relayed.address, LIMITED)])
        return best

    def is_reached(self, peer: PeerId) -> bool:
        """Connected by more than what only a few words may go through."""
        best = self._best(peer)
        return best is not None and not best.limited

    async def punch(
        self, peer: PeerId, addresses: Sequence[Multiaddr], *, client: bool, seconds: float = PUNCH_SECONDS
    ) -> bool:
        """Dial all addresses at once from the port that is listened on, again where it is refused, until a connection without a relay
        stands, whoever has begun it; False when none does after so long. `client` is for what runs over it: of the two that dial each
        other just one has to be it, and by QUIC only that one dials."""
        if client:
            self._swarm.expected.add(addresses, seconds, self._clock())
        with anyio.move_on_after(seconds if addresses else 0):
            async with anyio.create_task_group() as dials:
                for address in addresses:
                    dials.start_soon(self._keep_dialling, peer, address, client)
                while not self._is_direct(peer):
                    await self._changed.wait()
                dials.cancel_scope.cancel()
        return self._is_direct(peer)

    def _is_direct(self, peer: PeerId) -> bool:
        best = self._best(peer)
        return best is not None and not best.relayed

    async def _keep_dialling(self, peer: PeerId, address: Multiaddr, client: bool) -> None:
        pause = AGAIN_SECONDS
        while True:
            try:
                await self._swarm.punch(peer, address, client=client)
            except (TransportError, SecurityError, NegotiationError, LimitExceeded):
                await anyio.sleep(pause)
                pause *= AGAIN_GROWTH
            else:
                return

    async def _try(self, peer: PeerId, dial: Dial) -> None:
        with suppress(StackError):  # the trace tells of every attempt
            await dial(peer, (), [address for address in self.addresses(peer) if not is_relayed(address)])
