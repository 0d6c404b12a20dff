"""Hole punching on a host: who is connected by a relay tries to do without it."""

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import anyio

from stack.identity.peer_id import PeerId
from stack.net.addresses import is_relayed
from stack.net.connection import Connection
from stack.net.host import Host
from stack.net.interfaces import Direction
from stack.net.limits import TokenBucket
from stack.streams.interfaces import Stream

if TYPE_CHECKING:
    from stack.protocols.dcutr.shell.exchange import Exchange

_log = logging.getLogger(__name__)

DCUTR = "/libp2p/dcutr"
STREAMS_MAX = 2
"""Of one peer at a time: go-libp2p's figure."""
PEERS_AT_ONCE = 8
"""For whom holes are punched at a time, of those who ask us to."""
TRY_RATE, TRY_BURST = 1 / 20, 4
"""Tries that one peer may have us make: three, and one more when it comes again."""
BUCKETS_MAX = 1024


class DcutrService:
    """Row "dcutr" of `SERVICES`. What it takes to punch is loaded when somebody comes through a relay."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._buckets: OrderedDict[PeerId, TokenBucket] = OrderedDict()
        self._busy = 0
        self._trying: set[PeerId] = set()
        host.handle(DCUTR, self._serve, streams=STREAMS_MAX)
        host.on_connection(self._arrived)

    @property
    def _exchange(self) -> "Exchange":
        from stack.protocols.dcutr.shell.exchange import Exchange

        return Exchange(self._host)

    async def _arrived(self, connection: Connection) -> None:
        """Who was dialled begins: "the inbound peer initiates the direct connection upgrade"."""
        if not connection.relayed or connection.direction is not Direction.INBOUND or connection.peer in self._trying:
            return
        self._trying.add(connection.peer)
        try:
            await self._exchange.upgrade(connection)
        finally:
            self._trying.discard(connection.peer)

    async def _serve(self, stream: Stream) -> None:
        peer = stream.remote_peer
        if not is_relayed(stream.remote_address) or self._busy >= PEERS_AT_ONCE or not self._may_try(peer):
            stream.reset()
            return
        self._busy += 1
        try:
            await self._exchange.answer(stream)
        finally:
            self._busy -= 1

    def _may_try(self, peer: PeerId) -> bool:
        now = anyio.current_time()
        bucket = self._buckets.setdefault(peer, TokenBucket(TRY_RATE, TRY_BURST, now))
        self._buckets.move_to_end(peer)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return bucket.take(now)
