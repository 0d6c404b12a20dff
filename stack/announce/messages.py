"""Messages of `/stack/announce/1.0.0`: bytes <-> frozen values. Source: docs/announce.md, "Asking"."""

from collections.abc import Callable
from dataclasses import field
from enum import IntEnum
from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from stack.announce.keyspace import KEY_BYTES, SHARD_MAX, WHOLE, WORD_CHARACTERS_MAX, WORDS_MAX, Shard, word_key
from stack.announce.records import RECORD_BYTES_MAX
from stack.errors import RemoteProtocolError
from stack.pb import announce_pb2 as pb
from stack.values import dataclass

PROTOCOL = "/stack/announce/1.0.0"

REQUEST_BYTES_MAX = RECORD_BYTES_MAX + 4 * 1024
"""A record, digests, sixteen words."""
PAGE_BYTES = 64 * 1024
"""Records of one answer; more are asked for by the next page."""
RESPONSE_BYTES_MAX = PAGE_BYTES + 4 * RECORD_BYTES_MAX + 1024
"""A page ends with the author that crosses its bound, who has at most four records."""
DIGESTS = 64
"""Parts of a table that are compared before its records travel."""
DIGEST_BYTES = 8
AFTER_BYTES_MAX = 64
"""A peer id has at most 42 bytes."""
RECORDS_MAX = 1024
"""In one response: a page of the smallest records has fewer."""

E = TypeVar("E", bound=IntEnum)


class Kind(IntEnum):
    """What is asked; the values are those on the wire."""

    NONE = 0
    """Also any kind that is not known."""
    FIND = 1
    SEARCH = 2
    MEMBERS = 3
    PAGE = 4
    PUT = 5


class Status(IntEnum):
    """How an answer is meant; the values are those on the wire."""

    OK = 0
    """The answerer keeps what was asked for; no records means that it knows of none."""
    NOT_MINE = 1
    """Others keep it: `closer`."""
    LOADING = 2
    """It will keep it, but has not fetched all yet."""
    REFUSED = 3
    """It does not take the record, or does not know what was asked."""
    BUSY = 4
    """Too much is asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The first message of a stream."""

    kind: Kind
    key: bytes = b""
    """FIND; in SEARCH, the key of one of the words."""
    words: tuple[str, ...] = ()
    """SEARCH: all of them are to be in the name."""
    shard: Shard = WHOLE
    """MEMBERS, PAGE: what for."""
    after: bytes = b""
    """PAGE: where the last one ended."""
    digests: bytes = field(default=b"", repr=False)
    """PAGE: what the asker has, so that only what differs is sent."""
    record: bytes = field(default=b"", repr=False)
    """PUT."""
    keep: bool = False
    """FIND: records that come within a minute are sent as further responses."""

    @property
    def word_keys(self) -> frozenset[bytes]:
        """The keys of the words."""
        return frozenset(map(word_key, self.words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The answer, and what follows it when the interest is kept."""

    status: Status = Status.OK
    shard: Shard | None = None
    """What the answerer keeps; None: nothing."""
    records: tuple[bytes, ...] = field(default=(), repr=False)
    closer: tuple[bytes, ...] = field(default=(), repr=False)
    """Records of members nearer to what was asked."""
    next: bytes = b""
    """PAGE: ask again with this as `after`; empty: that was all."""
    time: int = 0
    """MEMBERS, PAGE, PUT: wall-clock seconds of the answerer; 0: not told."""


def encode_request(request: Request) -> bytes:
    """The message without its length."""
    return pb.Request(
        kind=pb.Kind.Value(request.kind.name),
        key=request.key,
        words=request.words,
        shard=0 if request.shard == WHOLE else request.shard,
        after=request.after,
        digests=request.digests,
        record=request.record,
        keep=request.keep,
    ).SerializeToString()


def decode_request(data: bytes) -> Request:
    """Raises RemoteProtocolError on what is no request, or is out of bounds."""
    message = _parse(pb.Request, data)
    words = tuple(message.words)
    if len(message.key) not in (0, KEY_BYTES):
        raise RemoteProtocolError(f"key of {len(message.key)} bytes")
    if len(words) > WORDS_MAX or any(not 0 < len(word) <= WORD_CHARACTERS_MAX for word in words):
        raise RemoteProtocolError("too many or too long words")
    if len(message.digests) not in (0, DIGESTS * DIGEST_BYTES) or len(message.after) > AFTER_BYTES_MAX:
        raise RemoteProtocolError("no way to ask for a page")
    if len(message.record) > RECORD_BYTES_MAX:
        raise RemoteProtocolError(f"record of {len(message.record)} bytes")
    return Request(
        kind=_known(Kind, message.kind, Kind.NONE),
        key=message.key,
        words=words,
        shard=_shard(message.shard) or WHOLE,
        after=message.after,
        digests=message.digests,
        record=message.record,
        keep=message.keep,
    )


def encode_response(response: Response) -> bytes:
    """The message without its length."""
    return pb.Response(
        status=pb.Status.Value(response.status.name),
        shard=response.shard or 0,
        records=response.records,
        closer=response.closer,
        next=response.next,
        time=response.time,
    ).SerializeToString()


def decode_response(data: bytes) -> Response:
    """Raises RemoteProtocolError on what is no response, or is out of bounds. The records in it are not looked at."""
    message = _parse(pb.Response, data)
    if len(message.records) + len(message.closer) > RECORDS_MAX:
        raise RemoteProtocolError(f"{len(message.records)} records in one response")
    if len(message.next) > AFTER_BYTES_MAX:
        raise RemoteProtocolError("no way to ask for the next page")
    return Response(
        status=_known(Status, message.status, Status.REFUSED),
        shard=_shard(message.shard),
        records=tuple(message.records),
        closer=tuple(message.closer),
        next=message.next,
        time=message.time,
    )


M = TypeVar("M", bound=Message)


def _parse(make: Callable[[], M], data: bytes) -> M:
    message = make()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise RemoteProtocolError(f"announce message: {error}") from error
    return message


def _known(values: type[E], number: int, other: E) -> E:
    try:
        return values(number)
    except ValueError:
        return other


def _shard(number: int) -> Shard | None:
    if number > SHARD_MAX:
        raise RemoteProtocolError(f"shard {number}")
    return Shard(number) if number else None
