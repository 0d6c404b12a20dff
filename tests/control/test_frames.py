"""Frames of the control protocol, cut in any way."""

from collections.abc import Sequence

import anyio
import pytest
from anyio.abc import ByteStream

from stack.control.frames import DATA_SIZE, FRAME_SIZE_MAX, HEAD_SIZE, FrameStream, data_head
from stack.errors import RemoteProtocolError
from stack.pb.control_pb2 import Data, Finished, Frame, Item
from stack.sansio.delimited import encode_delimited, encode_uvarint

pytestmark = pytest.mark.anyio


class Wire(ByteStream):
    """Gives out bytes, at most `at_once` of them; keeps what was sent."""

    def __init__(self, data: bytes = b"", at_once: int = 1 << 30) -> None:
        self.sent: list[bytes] = []
        self._data = memoryview(data)
        self._at_once = at_once

    async def receive(self, max_bytes: int = 65536) -> bytes:
        assert max_bytes > 0
        size = min(max_bytes, self._at_once)
        come, self._data = bytes(self._data[:size]), self._data[size:]
        if not come:
            raise anyio.EndOfStream
        return come

    async def send(self, item: bytes) -> None:
        self.sent.append(bytes(item))

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...


async def parts(data: bytes, at_once: int = 1 << 30) -> tuple[list[bytes], list[Frame]]:
    """What comes as payload, and the other frames."""
    frames, payload, others = FrameStream(Wire(data, at_once)), [], []
    while True:
        try:
            part = await frames.receive_part()
        except anyio.EndOfStream:
            return payload, others
        if isinstance(part, bytes):
            payload.append(part)
        else:
            others.append(part)


SIZES = [1, 2, HEAD_SIZE, 120, 128, 16_383, 16_384, 100_000, DATA_SIZE - 1, DATA_SIZE]


@pytest.mark.parametrize("size", SIZES)
def test_what_stands_before_a_payload_is_what_protobuf_writes(size: int) -> None:
    frame = Frame(data=Data(payload=bytes(size))).SerializeToString()
    assert data_head(size) == encode_delimited(frame)[:-size]


@pytest.mark.parametrize("at_once", [1, 3, 1000, 1 << 30])
async def test_data_comes_as_it_was_sent_however_it_is_cut(at_once: int) -> None:
    sizes = SIZES[:7] if at_once < 1000 else SIZES
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    last = Frame(finished=Finished())
    stream = b"".join(encode_delimited(Frame(data=Data(payload=each)).SerializeToString()) for each in payloads)
    came, others = await parts(stream + encode_delimited(last.SerializeToString()), at_once)
    assert b"".join(came) == b"".join(payloads)
    assert b"" not in came
    assert others == [last]


async def test_a_large_payload_is_sent_in_frames_that_anybody_takes_and_without_a_copy_of_its_head() -> None:
    wire = Wire()
    payload = bytes(range(256)) * 13_000
    await FrameStream(wire).send_data(payload)
    stream = b"".join(wire.sent)
    assert all(len(each) <= DATA_SIZE < FRAME_SIZE_MAX for each in wire.sent)
    came, _ = await parts(stream)
    assert b"".join(came) == payload
    assert len(came) == -(-len(payload) // (256 * 1024))
    frames = FrameStream(Wire(stream))
    old = [(await frames.receive()).data.payload for _ in range(-(-len(payload) // DATA_SIZE))]
    assert b"".join(old) == payload
    await FrameStream(empty := Wire()).send_data(b"")
    assert empty.sent == []


async def test_frames_of_data_that_say_more_or_nothing_are_frames_like_others() -> None:
    empty = encode_delimited(Frame(data=Data()).SerializeToString())
    data = Data(payload=b"abc").SerializeToString() + b"\x10\x05"  # a field of a later version
    later = encode_delimited(b"\x22" + encode_uvarint(len(data)) + data)
    item = Frame(item=Item(value=b"x" * 50_000))
    for at_once in (1, 1 << 30):
        came, others = await parts(empty + later + encode_delimited(item.SerializeToString()), at_once)
        assert came == []
        assert [frame.data.payload for frame in others[:2]] == [b"", b"abc"]
        assert others[2:] == [item]


async def test_no_frame_is_longer_than_is_allowed() -> None:
    for stream in (data_head(FRAME_SIZE_MAX), data_head(1 << 40), b"\xff" * 12):
        with pytest.raises(RemoteProtocolError):
            await FrameStream(Wire(stream)).receive_part()
        with pytest.raises(RemoteProtocolError):
            await FrameStream(Wire(stream)).receive()


@pytest.mark.parametrize("cut", range(13))
async def test_a_stream_that_ends_in_a_head_is_at_its_end(cut: int) -> None:
    payload, others = await parts((data_head(DATA_SIZE) + b"x")[:cut])
    assert (payload, others) == ([b"x"] if cut == 12 else [], [])


async def sent_of(payloads: Sequence[bytes]) -> bytes:
    wire = Wire()
    for payload in payloads:
        await FrameStream(wire).send_data(payload)
    return b"".join(wire.sent)


async def test_small_payloads_behind_each_other_do_not_run_into_each_other() -> None:
    payloads = [b"%d" % number for number in range(300)]
    came, _ = await parts(await sent_of(payloads))
    assert b"".join(came) == b"".join(payloads)
