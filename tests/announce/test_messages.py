"""Questions and answers on the wire."""

import pytest

from stack.announce.keyspace import Shard
from stack.announce.messages import (
    AFTER_BYTES_MAX,
    DIGEST_BYTES,
    DIGESTS,
    RECORDS_MAX,
    Kind,
    Request,
    Response,
    Status,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from stack.announce.records import RECORD_BYTES_MAX
from stack.errors import RemoteProtocolError
from stack.pb import announce_pb2 as pb


@pytest.mark.parametrize(
    "request_",
    [
        Request(kind=Kind.FIND, key=bytes(16), keep=True),
        Request(kind=Kind.SEARCH, key=bytes(16), words=("one", "two")),
        Request(kind=Kind.MEMBERS, shard=Shard(9)),
        Request(kind=Kind.PAGE, shard=Shard(1), after=b"x", digests=bytes(DIGESTS * DIGEST_BYTES)),
        Request(kind=Kind.PUT, record=b"record"),
    ],
)
def test_a_request_is_read_as_it_was_written(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


@pytest.mark.parametrize(
    "response",
    [
        Response(),
        Response(status=Status.NOT_MINE, shard=Shard(5), closer=(b"a", b"b")),
        Response(records=(b"a",), next=b"n"),
    ],
)
def test_a_response_is_read_as_it_was_written(response: Response) -> None:
    assert decode_response(encode_response(response)) == response


def test_what_is_newer_than_this_program_is_refused_politely() -> None:
    assert decode_request(b"\x08\x63").kind is Kind.NONE
    assert decode_response(b"\x08\x63").status is Status.REFUSED


@pytest.mark.parametrize(
    "message",
    [
        pb.Request(key=b"short"),
        pb.Request(words=["w"] * 17),
        pb.Request(words=["w" * 33]),
        pb.Request(words=[""]),
        pb.Request(digests=b"few"),
        pb.Request(after=bytes(AFTER_BYTES_MAX + 1)),
        pb.Request(record=bytes(RECORD_BYTES_MAX + 1)),
        pb.Request(shard=1 << 17),
    ],
)
def test_a_request_out_of_bounds_is_an_offence(message: pb.Request) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_request(message.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        pb.Response(records=[b""] * (RECORDS_MAX + 1)).SerializeToString(),
        pb.Response(next=bytes(AFTER_BYTES_MAX + 1)).SerializeToString(),
        pb.Response(shard=1 << 17).SerializeToString(),
        b"\xff",
    ],
)
def test_a_response_out_of_bounds_is_an_offence(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_response(data)
