"""The messages of AutoNAT, both versions. Source: libp2p/specs, autonat/. Pure."""

from collections.abc import Iterable
from enum import IntEnum

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.errors import DecodeError, RemoteProtocolError
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import autonat2_pb2, autonat_pb2
from stack.values import dataclass

MESSAGE_BYTES_MAX = 8 * 1024
"""Fifty addresses and more, or a piece of dial data."""
PIECE_BYTES = 4096
"""Of dial data in one message, by the specification."""
ADDRESSES_MAX = 50
"""Of a request that are looked at: go-libp2p's bound."""
NONCE_MAX = 1 << 64


class Answer(IntEnum):
    """What a server says of the request; version 2's numbers."""

    INTERNAL_ERROR = 0
    REJECTED = 100
    REFUSED = 101
    OK = 200


class Outcome(IntEnum):
    """What came of the dial; version 2's numbers."""

    UNUSED = 0
    DIAL_ERROR = 100
    DIAL_BACK_ERROR = 101
    OK = 200


class V1Status(IntEnum):
    """What a server of version 1 says."""

    OK = 0
    DIAL_ERROR = 100
    DIAL_REFUSED = 101
    BAD_REQUEST = 200
    INTERNAL_ERROR = 300


@dataclass(frozen=True, slots=True)
class DialRequest:
    """Dial the first of these that you are willing to, and say `nonce` there."""

    addresses: tuple[Multiaddr | None, ...]
    """In order of preference; None is one that cannot be read, so that places count."""
    nonce: int


@dataclass(frozen=True, slots=True)
class DialDataRequest:
    """First send so many bytes, for the address at `index` is not where you come from."""

    index: int
    size: int


@dataclass(frozen=True, slots=True)
class DialData:
    """A piece of them."""

    size: int


@dataclass(frozen=True, slots=True)
class DialResponse:
    """What came of a request; `index` and `outcome` mean something with `Answer.OK` only."""

    answer: Answer
    index: int = 0
    outcome: Outcome = Outcome.UNUSED


Message = DialRequest | DialDataRequest | DialData | DialResponse


def encode(message: Message) -> bytes:
    """A message of the stream `DIAL_REQUEST`, without its length."""
    whole = autonat2_pb2.Message()
    match message:
        case DialRequest():
            whole.dialRequest.addrs.extend(
                bytes(address) if address is not None else b"" for address in message.addresses
            )
            whole.dialRequest.nonce = message.nonce
        case DialDataRequest():
            whole.dialDataRequest.addrIdx, whole.dialDataRequest.numBytes = message.index, message.size
        case DialData():
            whole.dialDataResponse.data = bytes(message.size)
        case _:
            response = whole.dialResponse
            response.status = message.answer.value  # type: ignore[assignment]  # the enums' numbers are the same
            response.addrIdx = message.index
            response.dialStatus = message.outcome.value  # type: ignore[assignment]
            whole.dialResponse.SetInParent()
    return whole.SerializeToString()


def decode(data: bytes) -> Message:
    """Raises RemoteProtocolError for what is none, or has a status that is not known."""
    whole = autonat2_pb2.Message()
    _parse(whole, data)
    kind = whole.WhichOneof("msg")
    if kind == "dialRequest":
        return DialRequest(_addresses(whole.dialRequest.addrs), whole.dialRequest.nonce)
    if kind == "dialDataRequest":
        return DialDataRequest(whole.dialDataRequest.addrIdx, whole.dialDataRequest.numBytes)
    if kind == "dialDataResponse":
        return DialData(len(whole.dialDataResponse.data))
    if kind == "dialResponse":
        response = whole.dialResponse
        try:
            return DialResponse(Answer(response.status), response.addrIdx, Outcome(response.dialStatus))
        except ValueError as error:
            raise RemoteProtocolError(f"an answer of AutoNAT that is not known: {error}") from error
    raise RemoteProtocolError("a message of AutoNAT without content")


def encode_nonce(nonce: int) -> bytes:
    """What is said on a stream `DIAL_BACK`."""
    return autonat2_pb2.DialBack(nonce=nonce).SerializeToString()


def decode_nonce(data: bytes) -> int:
    """Raises RemoteProtocolError."""
    message = autonat2_pb2.DialBack()
    _parse(message, data)
    return message.nonce


def encode_thanks() -> bytes:
    """What is answered there."""
    return autonat2_pb2.DialBackResponse(status=autonat2_pb2.DialBackResponse.OK).SerializeToString()


@dataclass(frozen=True, slots=True)
class V1Dial:
    """Version 1: dial the peer `peer` at these addresses."""

    peer: bytes
    addresses: tuple[Multiaddr | None, ...]


@dataclass(frozen=True, slots=True)
class V1Response:
    """Version 1's answer; `address` is the one that was reached."""

    status: V1Status
    address: Multiaddr | None = None


def encode_v1(message: V1Dial | V1Response) -> bytes:
    """Without its length."""
    whole = autonat_pb2.Message()
    if isinstance(message, V1Dial):
        whole.type = autonat_pb2.Message.DIAL
        whole.dial.peer.id = message.peer
        whole.dial.peer.addrs.extend(bytes(address) for address in message.addresses if address is not None)
    else:
        whole.type = autonat_pb2.Message.DIAL_RESPONSE
        whole.dialResponse.status = message.status.value  # type: ignore[assignment]  # the enums' numbers are the same
        if message.address is not None:
            whole.dialResponse.addr = bytes(message.address)
    return whole.SerializeToString()


def decode_v1(data: bytes) -> V1Dial | V1Response:
    """Raises RemoteProtocolError for what is none, or has a status that is not known."""
    whole = autonat_pb2.Message()
    _parse(whole, data)
    if whole.type == autonat_pb2.Message.DIAL:
        return V1Dial(whole.dial.peer.id, _addresses(whole.dial.peer.addrs))
    response = whole.dialResponse
    try:
        status = V1Status(response.status)
    except ValueError as error:
        raise RemoteProtocolError(f"an answer of AutoNAT that is not known: {error}") from error
    return V1Response(status, next(iter(_addresses([response.addr])), None))


def _parse(message: object, data: bytes) -> None:
    try:
        message.ParseFromString(data)  # type: ignore[attr-defined]  # any message of protobuf has it
    except ProtobufDecodeError as error:
        raise RemoteProtocolError("this is no message of AutoNAT") from error


def _addresses(raw: Iterable[bytes]) -> tuple[Multiaddr | None, ...]:
    return tuple(_address(data) for data, _ in zip(raw, range(ADDRESSES_MAX), strict=False))


def _address(data: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.decode(data)
    except DecodeError:
        return None
