"""A stream on which a protocol was agreed."""

from typing import TYPE_CHECKING

from stack.net.stream_places import Place
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import MuxedStream
from stack.streams.signs import Signs

if TYPE_CHECKING:
    from stack.net.connection import Connection


class NegotiatedStream:
    """A `Stream`: a muxed stream with its protocol and its peer."""

    __slots__ = ("_connection", "_place", "_stream", "protocol", "remote_address", "remote_peer")

    def __init__(self, stream: MuxedStream, protocol: str, connection: "Connection", place: Place) -> None:
        self._stream = stream
        self._place = place
        self._connection = connection
        self.protocol = protocol
        self.remote_peer = connection.peer
        self.remote_address = connection.address

    def __repr__(self) -> str:
        return f"<NegotiatedStream {self.protocol} with {self.remote_peer}>"

    @property
    def superseded(self) -> bool:
        """There is a better connection to the peer: who keeps a stream for long opens another, which goes there."""
        return self._connection.superseded_at is not None

    @property
    def signs(self) -> Signs:
        """Of life, of the whole connection."""
        return self._connection.signs

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `MuxedStream`; so for the methods below."""
        data = await self._stream.receive(max_bytes)
        self._place.active = True
        self._connection.moved += len(data)
        return data

    async def receive_into(self, buffer: memoryview) -> int:
        """See `MuxedStream`."""
        size = await self._stream.receive_into(buffer)
        self._place.active = True
        self._connection.moved += size
        return size

    async def send(self, item: Buffer) -> None:
        """See `MuxedStream`."""
        await self._stream.send(item)
        self._place.active = True
        self._connection.moved += len(item)

    async def send_buffers(self, *items: Buffer) -> None:
        """See `MuxedStream`."""
        await self._stream.send_buffers(*items)
        self._place.active = True
        self._connection.moved += sum(map(len, items))

    async def send_eof(self) -> None:
        """See `MuxedStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """See `MuxedStream`."""
        await self._stream.aclose()

    def reset(self) -> None:
        """See `MuxedStream`."""
        self._stream.reset()
