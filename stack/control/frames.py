"""Frames of the control protocol on an anyio byte stream; `proto/control.proto` is the format, docs/control.md the rules."""

import json

from anyio.abc import ByteStream

from stack.errors import DecodeError, RemoteProtocolError
from stack.node.schema import Json
from stack.pb.control_pb2 import Frame
from stack.sansio.buffer import ReceiveBuffer
from stack.sansio.delimited import encode_delimited, encode_uvarint
from stack.sansio.interfaces import Buffer

CONTROL_VERSION = 1
"""Raised when an older client and a newer node would misunderstand each other."""

FRAME_SIZE_MAX = 4 * 1024 * 1024
"""A tuple of all shares or peers of a large node fits; a byte stream is cut into pieces of DATA_SIZE."""

DATA_SIZE = 1024 * 1024

DATA_TAG, PAYLOAD_TAG = b"\x22", b"\x0a"
"""Of `Frame.data` and `Data.payload`."""

RECEIVE_SIZE = 256 * 1024
"""Read at a time: a socket seldom has more, and memory for it comes from what was used before."""

HEAD_SIZE = 11
"""What stands before a payload of 16 KiB to 2 MiB."""


class FrameStream:
    """Whole frames in and out, and data as it comes. Raises what the byte stream raises, and RemoteProtocolError on bytes that are no
    frame."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._buffer = ReceiveBuffer(FRAME_SIZE_MAX + 2 * RECEIVE_SIZE)
        self._payload_left = 0

    async def send(self, frame: Frame) -> None:
        """Write one frame."""
        await self.stream.send(encode_delimited(frame.SerializeToString()))

    async def send_data(self, payload: Buffer) -> None:
        """Write frames of data, as many as it takes; none for nothing. The payload is not copied."""
        left = memoryview(payload)
        while left:
            some, left = left[:DATA_SIZE], left[DATA_SIZE:]
            await self.stream.send(data_head(len(some)))
            await self.stream.send(some)  # type: ignore[arg-type] # all streams take any buffer

    async def receive(self) -> Frame:
        """The next frame. Raises EndOfStream when the other side has gone."""
        while (frame := next_frame(self._buffer)) is None:
            self._buffer.append(await self.stream.receive(RECEIVE_SIZE))
        return frame

    async def receive_part(self) -> Frame | bytes:
        """The next frame or, of one of data, what has come of its payload. Raises as `receive`."""
        while not self._payload_left:
            size = next_payload(self._buffer)
            if size is not None:
                self._payload_left = size
                come = self._buffer.take(min(size, len(self._buffer))) or b""
                self._buffer.commit()
                self._payload_left -= len(come)
                if come or not size:
                    return come
            elif (frame := next_frame(self._buffer)) is not None:
                return frame
            else:
                more = HEAD_SIZE - len(self._buffer)
                self._buffer.append(await self.stream.receive(more if more > 0 else RECEIVE_SIZE))
        part = await self.stream.receive(min(self._payload_left, RECEIVE_SIZE))
        self._payload_left -= len(part)
        return part


def next_frame(buffer: ReceiveBuffer) -> Frame | None:
    """The next whole frame, or None. Raises RemoteProtocolError."""
    size = _take_size(buffer)
    message = None if size is None else buffer.take(size)
    if message is None:
        buffer.rollback()
        return None
    buffer.commit()
    try:
        return Frame.FromString(message)
    except Exception as error:  # protobuf raises its own DecodeError class, which differs by backend
        raise RemoteProtocolError("not a frame of the control protocol") from error


def data_head(size: int) -> bytes:
    """What stands before a payload of `size` bytes in its frame, with the length of that."""
    frame, data = _sizes(size)
    return encode_uvarint(frame) + DATA_TAG + encode_uvarint(data) + PAYLOAD_TAG + encode_uvarint(size)


def next_payload(buffer: ReceiveBuffer) -> int | None:
    """The size of the payload that comes next, when a frame of data has begun that holds nothing else; its head is taken. None, and
    nothing taken, when that is not so or cannot be told yet. Raises RemoteProtocolError."""
    frame = _take_size(buffer)
    if frame is not None and buffer.take(1) == DATA_TAG:
        data = buffer.take_uvarint()
        if data is not None and buffer.take(1) == PAYLOAD_TAG:
            size = buffer.take_uvarint()
            if size is not None and (frame, data) == _sizes(size):
                buffer.commit()
                return size
    buffer.rollback()
    return None


def _sizes(payload: int) -> tuple[int, int]:
    """Of the frame and of the data in it, which holds the payload alone."""
    data = len(PAYLOAD_TAG) + len(encode_uvarint(payload)) + payload
    return len(DATA_TAG) + len(encode_uvarint(data)) + data, data


def _take_size(buffer: ReceiveBuffer) -> int | None:
    size = buffer.take_uvarint()
    if size is not None and size > FRAME_SIZE_MAX:
        raise RemoteProtocolError(f"message of {size} bytes, {FRAME_SIZE_MAX} are allowed")
    return size


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
