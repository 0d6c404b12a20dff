"""Both ends of ping. Source: libp2p/specs, ping/ping.md."""

import secrets
import time
from types import TracebackType

import anyio

from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.net.interfaces import Host
from stack.net.limits import TokenBucket
from stack.streams.interfaces import Stream

PING = "/ipfs/ping/1.0.0"
PAYLOAD_BYTES = 32
STREAMS_PER_PEER_MAX = 2
"""Inbound streams of one peer: "the listening peer SHOULD accept at most two streams per peer"."""
PINGS_PER_SECOND, PINGS_BURST = 10.0, 100
"""Of a stream, in the long run and at once; what is too fast is answered later. An endless flood of them took a core (attack 5)."""
IDLE_SECONDS = 60.0
"""A stream on which no ping comes for so long is given up; peers that watch a connection ping every 15 s or so."""
PAYLOAD_SECONDS = 10.0
"""For the rest of a payload once it has begun, and for taking our echo."""
PING_SECONDS = 10.0
"""A peer that takes longer to answer is as good as gone: go-libp2p's figure."""


class PingService:
    """Row "ping" of `SERVICES`: echoes."""

    def __init__(self, host: Host) -> None:
        host.handle(PING, self._echo, streams=STREAMS_PER_PEER_MAX)

    async def _echo(self, stream: Stream) -> None:
        payload = memoryview(bytearray(PAYLOAD_BYTES))
        pace = TokenBucket(PINGS_PER_SECOND, PINGS_BURST, anyio.current_time())
        while True:
            try:
                with anyio.fail_after(IDLE_SECONDS):
                    size = await stream.receive_into(payload)
            except anyio.EndOfStream:
                return
            with anyio.fail_after(PAYLOAD_SECONDS):
                while size < PAYLOAD_BYTES:
                    size += await stream.receive_into(payload[size:])
                while not pace.take(anyio.current_time()):
                    await anyio.sleep(1 / PINGS_PER_SECOND)
                await stream.send(payload)


class Pinger:
    """A context that holds one ping stream to a peer."""

    def __init__(self, host: Host, peer: PeerId) -> None:
        self._host = host
        self._peer = peer

    async def __aenter__(self) -> "Pinger":
        self._stream = await self._host.open_stream(self._peer, PING)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self._stream.aclose()
        else:
            self._stream.reset()

    async def ping(self) -> float:
        """One round trip in seconds.

        Raises TimeoutError after `PING_SECONDS`, RemoteProtocolError when something else comes back, NegotiationError,
        EndOfStream, BrokenResourceError.
        """
        payload = secrets.token_bytes(PAYLOAD_BYTES)
        answer = memoryview(bytearray(PAYLOAD_BYTES))
        started = time.perf_counter()
        with anyio.fail_after(PING_SECONDS):
            await self._stream.send(payload)
            size = 0
            while size < PAYLOAD_BYTES:
                size += await self._stream.receive_into(answer[size:])
        seconds = time.perf_counter() - started
        if bytes(answer) != payload:
            raise RemoteProtocolError("the peer echoed something else")
        return seconds


async def ping(host: Host, peer: PeerId, count: int = 1) -> list[float]:
    """`count` round trips one after the other, in seconds, on one stream. Raises as `Host.open_stream` and `Pinger.ping`."""
    async with Pinger(host, peer) as pinger:
        return [await pinger.ping() for _ in range(count)]
