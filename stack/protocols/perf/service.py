"""Both ends of perf. Source: libp2p/specs, perf/perf.md."""

import time

import anyio

from stack.errors import LimitExceeded, RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.net.interfaces import Host
from stack.streams.interfaces import Stream

PERF = "/perf/1.0.0"
BUFFER_BYTES = 256 * 1024
"""Sent and received at a time, always the same buffer: what is measured is the stream, not the allocator."""
STREAMS_MAX = 4
"""Measurements served at the same time; each can take a whole core."""
STALL_SECONDS = 30.0
"""Without a byte moved, a measurement is over."""
SIZE_BYTES = 8
"""A big-endian uint64 in front: how many bytes the client wants."""


class PerfService:
    """Row "perf" of `SERVICES`. It does as much work as a client asks for: off unless the user wants it."""

    def __init__(self, host: Host) -> None:
        self._running = 0
        host.handle(PERF, self._serve, streams=STREAMS_MAX)

    async def _serve(self, stream: Stream) -> None:
        if self._running >= STREAMS_MAX:
            raise LimitExceeded("perf streams", STREAMS_MAX)
        self._running += 1
        try:
            buffer = memoryview(bytearray(BUFFER_BYTES))
            head = buffer[:SIZE_BYTES]
            received = 0
            with anyio.fail_after(STALL_SECONDS):
                while received < SIZE_BYTES:
                    received += await stream.receive_into(head[received:])
            wanted = int.from_bytes(head, "big")
            await _discard(stream, buffer)
            await _send(stream, buffer, wanted)
        finally:
            self._running -= 1


async def run_perf(host: Host, peer: PeerId, upload: int, download: int) -> tuple[float, float]:
    """Send `upload` bytes to `peer`, then have it send `download` bytes, on one stream; seconds for each.

    Raises as `Host.open_stream`, and RemoteProtocolError when the peer sends another number of bytes, TimeoutError when
    nothing moves for `STALL_SECONDS`.
    """
    stream = await host.open_stream(peer, PERF)
    try:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        started = time.perf_counter()
        await stream.send(download.to_bytes(SIZE_BYTES, "big"))
        await _send(stream, buffer, upload)
        await stream.send_eof()
        # The upload is over when the peer has read it: its first byte, or its end, says so.
        first = await _receive(stream, buffer)
        uploaded = time.perf_counter()
        received = first + (await _discard(stream, buffer) if first else 0)
        ended = time.perf_counter()
        if received != download:
            raise RemoteProtocolError(f"{download} bytes were asked for, {received} came")
        await stream.aclose()
        return uploaded - started, ended - uploaded
    except BaseException:
        stream.reset()
        raise


async def _send(stream: Stream, buffer: memoryview, size: int) -> None:
    while size:
        part = buffer[: min(size, len(buffer))]
        with anyio.fail_after(STALL_SECONDS):
            await stream.send(part)
        size -= len(part)


async def _receive(stream: Stream, buffer: memoryview) -> int:
    """How many bytes came, 0 at the end."""
    with anyio.fail_after(STALL_SECONDS):
        try:
            return await stream.receive_into(buffer)
        except anyio.EndOfStream:
            return 0


async def _discard(stream: Stream, buffer: memoryview) -> int:
    """Receive until the end; how many bytes it was."""
    received = 0
    while size := await _receive(stream, buffer):
        received += size
    return received
