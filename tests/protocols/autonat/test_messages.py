"""The messages of AutoNAT, byte by byte."""

import pytest

from stack.errors import RemoteProtocolError
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import autonat2_pb2
from stack.protocols.autonat.messages import (
    ADDRESSES_MAX,
    Answer,
    DialData,
    DialDataRequest,
    DialRequest,
    DialResponse,
    Message,
    Outcome,
    V1Dial,
    V1Response,
    V1Status,
    decode,
    decode_nonce,
    decode_v1,
    encode,
    encode_nonce,
    encode_thanks,
    encode_v1,
)

HERE = Multiaddr.parse("/ip4/9.1.1.1/tcp/4001")
RAW = bytes.fromhex("0409010101060fa1")


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (DialRequest((HERE,), 0x0102030405060708), b"\x0a\x13\x0a\x08" + RAW + b"\x11\x08\x07\x06\x05\x04\x03\x02\x01"),
        (DialDataRequest(1, 30_000), b"\x1a\x06\x08\x01\x10\xb0\xea\x01"),
        (DialData(3), b"\x22\x05\x0a\x03\x00\x00\x00"),
        (DialResponse(Answer.OK, 2, Outcome.DIAL_ERROR), b"\x12\x07\x08\xc8\x01\x10\x02\x18\x64"),
        (DialResponse(Answer.INTERNAL_ERROR), b"\x12\x00"),
    ],
)
def test_version_2_is_what_the_specification_says(message: Message, data: bytes) -> None:
    assert encode(message) == data and decode(data) == message


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (V1Dial(b"\x00\x01", (HERE,)), b"\x08\x00\x12\x10\x0a\x0e\x0a\x02\x00\x01\x12\x08" + RAW),
        (V1Response(V1Status.OK, HERE), b"\x08\x01\x1a\x0c\x08\x00\x1a\x08" + RAW),
        (V1Response(V1Status.DIAL_REFUSED), b"\x08\x01\x1a\x02\x08\x65"),
    ],
)
def test_version_1_is_what_the_specification_says(message: V1Dial | V1Response, data: bytes) -> None:
    assert encode_v1(message) == data and decode_v1(data) == message


def test_the_nonce_and_the_answer_to_it() -> None:
    assert encode_nonce(5) == b"\x09\x05" + bytes(7) and decode_nonce(encode_nonce((1 << 64) - 1)) == (1 << 64) - 1
    assert encode_thanks() == b""


def test_an_address_that_cannot_be_read_keeps_its_place() -> None:
    request = autonat2_pb2.DialRequest(addrs=[b"\xff\xff", bytes(HERE)])
    data = autonat2_pb2.Message(dialRequest=request).SerializeToString()
    assert decode(data) == DialRequest((None, HERE), 0)
    assert decode(encode(DialRequest((None,), 0))) == DialRequest((None,), 0)


def test_of_many_addresses_some_are_looked_at() -> None:
    decoded = decode(encode(DialRequest((HERE,) * 1000, 0)))
    assert isinstance(decoded, DialRequest) and len(decoded.addresses) == ADDRESSES_MAX


@pytest.mark.parametrize("data", [b"\xff", b"", b"\x12\x02\x08\x07", b"\x12\x05\x08\xc8\x01\x18\x07"])
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


def test_what_is_none_is_refused_by_version_1_and_as_a_nonce() -> None:
    for data in (b"\xff", b"\x08\x01\x1a\x02\x08\x07"):
        with pytest.raises(RemoteProtocolError):
            decode_v1(data)
    with pytest.raises(RemoteProtocolError):
        decode_nonce(b"\xff")
