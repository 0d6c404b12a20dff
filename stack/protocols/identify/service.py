"""Identify on a host: asked on every new connection, answered to everyone, pushed when something has changed."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import anyio

from stack.errors import LimitExceeded, RemoteProtocolError, StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.connection import Connection
from stack.net.host import Host
from stack.net.limits import TokenBucket
from stack.protocols.identify.messages import AGENT_VERSION, Identify, IdentifyReader
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor

_log = logging.getLogger(__name__)

IDENTIFY = "/ipfs/id/1.0.0"
PUSH = "/ipfs/id/push/1.0.0"
PROTOCOL_VERSION = "ipfs/0.1.0"
EXCHANGE_SECONDS = 10.0
"""For one identification, all its pieces together."""
AGAIN_SECONDS = (5.0, 30.0)
"""After which a peer that did not answer is asked again: it, or the line to it, was busy, and who is not identified is no member of
anything as long as the connection lasts."""
STREAMS_PER_PEER_MAX = 8
"""Of either protocol: one a connection, as many connections as a peer may have."""
PUSH_RATE = 1 / 5
PUSH_BURST = 10
"""Pushes that one peer may send: one in five seconds, ten at once (A31); go-libp2p's figures."""
PUSH_SETTLE_SECONDS = 0.5
"""Changes come in groups (several protocols, several addresses): wait for the rest of one."""
PUSH_PAUSE_SECONDS = 5.0
"""Between two pushes of ours, so that nobody's bound on them is met."""
PUSHES_AT_ONCE = 16
"""Streams opened at the same time for one push to everybody."""
BUCKETS_MAX = 4096
"""Peers whose pushes are counted; the count outlives a connection, so that reconnecting does not reset it."""


class IdentifyService:
    """Row "identify" of `SERVICES`; made inside the host's context."""

    def __init__(self, host: Host, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._buckets: OrderedDict[PeerId, TokenBucket] = OrderedDict()
        self._changed = anyio.Event()
        self.pushes_received = 0
        """Pushes that were taken, for tests and metrics."""
        host.handle(IDENTIFY, self._answer, streams=STREAMS_PER_PEER_MAX)
        host.handle(PUSH, self._receive_push, streams=STREAMS_PER_PEER_MAX)
        host.on_connection(self._ask)
        host.on_change(lambda: self._changed.set())
        host.start(self._keep_pushing, "identify")

    def message(self, observed: Multiaddr | None) -> Identify:
        """What we say of ourselves to a peer whom we see at `observed`."""
        return Identify(
            public_key=self._host.public_key.encode(),
            listen_addresses=tuple(self._host.addresses()),
            protocols=tuple(self._host.supported()),
            observed_address=observed,
            protocol_version=PROTOCOL_VERSION,
            agent_version=AGENT_VERSION,
            signed_peer_record=self._host.signed_record(),
        )

    async def _answer(self, stream: Stream) -> None:
        with anyio.fail_after(EXCHANGE_SECONDS):
            await stream.send(b"".join(self.message(stream.remote_address).encode_pieces()))

    async def _ask(self, connection: Connection) -> None:
        message = await self._asked(connection)
        for pause in AGAIN_SECONDS:
            if message is not None or connection.closed:
                break
            await anyio.sleep(pause)
            message = await self._asked(connection)
        if message is None:
            return
        if not message.is_of(connection.peer):
            _log.debug("%s shows the key of another peer", connection.peer)
            return
        if message.observed_address is not None:
            self._host.told_observation(connection, message.observed_address)
        self._take(connection.peer, message, whole=True)

    async def _asked(self, connection: Connection) -> Identify | None:
        try:
            with anyio.fail_after(EXCHANGE_SECONDS):
                # Everybody speaks it, so the question goes out with the opening of the stream.
                stream = await connection.open_stream([IDENTIFY], frozenset({IDENTIFY}))
                return await _receive(stream)
        except (StackError, TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            _log.debug("%s cannot be identified: %r", connection.peer, error)
            return None

    async def _receive_push(self, stream: Stream) -> None:
        peer = stream.remote_peer
        if not self._may_push(peer):
            raise LimitExceeded("identify pushes of a peer", PUSH_BURST)
        with anyio.fail_after(EXCHANGE_SECONDS):
            message = await _receive(stream)
        if not message.is_of(peer):
            raise RemoteProtocolError("the push shows the key of another peer")
        self.pushes_received += 1
        self._take(peer, message, whole=False)

    def _take(self, peer: PeerId, message: Identify, *, whole: bool) -> None:
        """What was said replaces what was said before (A32); in a push, what is missing has not changed."""
        if whole or message.listen_addresses or message.signed_peer_record is not None:
            addresses = [address.split_peer()[0] for address in message.listen_addresses]
            self._host.told_addresses(peer, [a for a in addresses if a], message.signed_peer_record)
        protocols = frozenset(message.protocols) if whole or message.protocols else None
        self._host.identified(peer, protocols, message.agent_version)

    def _may_push(self, peer: PeerId) -> bool:
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = TokenBucket(PUSH_RATE, PUSH_BURST, self._clock())
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(peer)
        return bucket.take(self._clock())

    async def _keep_pushing(self) -> None:
        while True:
            await self._changed.wait()
            await anyio.sleep(PUSH_SETTLE_SECONDS)
            self._changed = anyio.Event()
            if await self.push():
                await anyio.sleep(PUSH_PAUSE_SECONDS)

    async def push(self) -> int:
        """Tell every peer that listens to pushes what we say of ourselves now; returns how many there are."""
        slots = anyio.CapacityLimiter(PUSHES_AT_ONCE)

        async def tell(peer: PeerId) -> None:
            async with slots:
                connection = self._host.best_connection(peer)
                if connection is None:
                    return  # it has just left, and is not dialled for this
                try:
                    with anyio.fail_after(EXCHANGE_SECONDS):
                        stream = await connection.open_stream([PUSH], frozenset({PUSH}))
                        try:
                            await stream.send(b"".join(self.message(connection.address).encode_pieces()))
                        finally:
                            await stream.aclose()
                except (StackError, TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                    _log.debug("push to %s failed: %r", peer, error)

        connected = dict.fromkeys(info.peer for info in self._host.connections())
        listening = [peer for peer in connected if PUSH in (self._host.protocols(peer) or ())]
        async with anyio.create_task_group() as group:
            pushes = Supervisor(group, self._host.trace)
            for peer in listening:
                pushes.start(tell, peer, owner="an identify push")
        return len(listening)


async def _receive(stream: Stream) -> Identify:
    """Everything until the peer's end; the stream is over afterwards, one way or the other."""
    reader = IdentifyReader()
    try:
        while True:
            try:
                reader.receive_data(await stream.receive())
            except anyio.EndOfStream:
                message = reader.finish()
                await stream.aclose()
                return message
    except BaseException:
        stream.reset()
        raise
