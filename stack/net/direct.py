"""Waiting for a connection without a relay, where the relay carries only a few words."""

from collections.abc import Callable

import anyio

from stack.identity.peer_id import PeerId
from stack.net.connection import Connection
from stack.net.interfaces import DialError

DIRECT_SECONDS = 20.0
"""For a direct connection to come about beside one that is only good for coordination: three tries of hole punching."""
LIMITED = "no direct connection came about, and the relay carries only some KiB (it may allow you by name)"
COORDINATION = ("/ipfs/id/", "/ipfs/ping/", "/libp2p/dcutr", "/stack/access/", "/stack/providers/")
"""Protocols of a few words: what is spoken over a relay that carries little."""


class Direct:
    """Fact: `changed`. Command: `wait`."""

    def __init__(self, best: Callable[[PeerId], Connection | None]) -> None:
        self._best = best
        self._changed = anyio.Event()

    def changed(self) -> None:
        """Some connection has come or gone."""
        self._changed.set()
        self._changed = anyio.Event()

    async def wait(self, peer: PeerId, relayed: Connection) -> Connection:
        """A connection that carries more, which the other end, or we, are trying to bring about. Raises DialError."""
        with anyio.move_on_after(DIRECT_SECONDS):
            while (best := self._best(peer)) is not None and best.limited:
                await self._changed.wait()
        if best is None or best.limited:
            raise DialError(peer, [(relayed.address, LIMITED)])
        return best
