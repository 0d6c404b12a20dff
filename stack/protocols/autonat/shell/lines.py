"""Messages behind their lengths on a stream."""

import anyio

from stack.errors import RemoteProtocolError
from stack.protocols.autonat.messages import MESSAGE_BYTES_MAX
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.streams.interfaces import Stream
from stack.streams.turns import Turn


class Talk:
    """One stream of AutoNAT."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = DelimitedReader(MESSAGE_BYTES_MAX)
        self._turn = Turn()

    async def say(self, message: bytes) -> None:
        """Raises as `Stream.send`."""
        await self._stream.send(encode_delimited(message))

    async def hear(self) -> bytes:
        """The next message. Raises RemoteProtocolError when the stream ends before, or a message is too long, and as `Stream.receive`."""
        await self._turn.give_way()  # ten thousand of the smallest may have come together
        while (message := self._reader.next_message()) is None:
            try:
                self._reader.receive_data(await self._stream.receive())
                self._turn.begin()
            except anyio.EndOfStream:
                raise RemoteProtocolError("a message of AutoNAT was cut off") from None
        return message
