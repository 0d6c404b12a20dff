"""Reading whole messages from streams, and letting other tasks run, for tests."""

import anyio
import anyio.lowlevel

from stack.streams.interfaces import MuxedConnection, MuxedStream, RawStream

Ends = tuple[MuxedConnection, MuxedConnection]
"""Both ends of a connection; the first one dialled."""


async def receive_exactly(stream: MuxedStream | RawStream, size: int) -> bytes:
    """`size` bytes of `stream`."""
    buffer = memoryview(bytearray(size))
    done = 0
    while done < size:
        done += await stream.receive_into(buffer[done:])
    return bytes(buffer)


async def receive_all(stream: MuxedStream) -> bytes:
    """Everything up to the end."""
    data = bytearray()
    try:
        while True:
            data += await stream.receive()
    except anyio.EndOfStream:
        return bytes(data)


async def stream_pair(ends: Ends) -> tuple[MuxedStream, MuxedStream]:
    """A stream of the first end's, and the same at the second."""
    opened = await ends[0].open_stream()
    await opened.send(b"!")
    accepted = await ends[1].accept_stream()
    assert await receive_exactly(accepted, 1) == b"!"
    return opened, accepted


async def settled() -> None:
    """Every task has had its turns."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
