"""Frames of the control protocol on an anyio byte stream; `proto/control.proto` is the format, docs/control.md the rules."""

import json

from anyio.abc import ByteReceiveStream, ByteStream

from stack.errors import DecodeError, RemoteProtocolError
from stack.node.schema import Json
from stack.pb.control_pb2 import Frame
from stack.sansio.delimited import DelimitedReader, encode_delimited

CONTROL_VERSION = 1
"""Raised when an older client and a newer node would misunderstand each other."""

FRAME_SIZE_MAX = 4 * 1024 * 1024
"""A tuple of all shares or peers of a large node fits; a byte stream is cut into pieces of DATA_SIZE."""

DATA_SIZE = 256 * 1024


class FrameStream:
    """Whole frames in and out. Raises what the byte stream raises, and RemoteProtocolError on bytes that are no frame."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._reader = DelimitedReader(FRAME_SIZE_MAX)

    async def send(self, frame: Frame) -> None:
        """Write one frame."""
        await self.stream.send(encode_delimited(frame.SerializeToString()))

    async def receive(self) -> Frame:
        """The next frame. Raises EndOfStream when the other side has gone."""
        return await _receive(self.stream, self._reader)


async def _receive(stream: ByteReceiveStream, reader: DelimitedReader) -> Frame:
    while True:
        message = reader.next_message()
        if message is not None:
            try:
                return Frame.FromString(message)
            except Exception as error:  # protobuf raises its own DecodeError class, which differs by backend
                raise RemoteProtocolError("not a frame of the control protocol") from error
        reader.receive_data(await stream.receive(DATA_SIZE))


def dump(form: Json) -> bytes:
    """JSON bytes."""
    return json.dumps(form, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape")


def load(data: bytes) -> Json:
    """A JSON value. Raises DecodeError."""
    try:
        value: Json = json.loads(data.decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise DecodeError("not JSON") from error
    return value
