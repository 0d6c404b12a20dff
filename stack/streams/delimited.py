"""Single messages behind their lengths on a stream that carries something else afterwards: not a byte too many is read."""

from typing import Protocol

import anyio

from stack.errors import RemoteProtocolError
from stack.sansio.delimited import encode_delimited
from stack.sansio.interfaces import Buffer

LENGTH_BYTES_MAX = 4
"""Of a length; more than any message here has."""


class _Stream(Protocol):
    async def receive_into(self, buffer: memoryview) -> int: ...
    async def send(self, item: Buffer) -> None: ...


async def receive_message(stream: _Stream, limit: int) -> bytes:
    """The next message, of at most `limit` bytes. Raises RemoteProtocolError: too long, malformed, cut short; and what the stream
    raises when it breaks."""
    size = 0
    for place in range(LENGTH_BYTES_MAX):
        byte = (await _exactly(stream, 1))[0]
        size |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            break
    else:
        raise RemoteProtocolError("the length of a message has no end")
    if size > limit:
        raise RemoteProtocolError(f"message of {size} bytes, {limit} are allowed")
    return bytes(await _exactly(stream, size))


async def send_message(stream: _Stream, message: bytes) -> None:
    """Send it behind its length."""
    await stream.send(encode_delimited(message))


async def _exactly(stream: _Stream, size: int) -> bytearray:
    data = bytearray(size)
    room = memoryview(data)
    while room:
        try:
            room = room[await stream.receive_into(room) :]
        except anyio.EndOfStream:
            raise RemoteProtocolError("a message was cut short") from None
    return data
