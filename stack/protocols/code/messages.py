"""Messages of both protocols of codes: bytes <-> frozen values. Source: docs/code.md."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from stack.errors import DecodeError
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import read_addresses
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import code_pb2 as pb
from stack.values import dataclass

MESSAGE_BYTES_MAX: Final = 8 * 1024
"""A ticket is shorter than 1 KiB; the addresses of a holder take the most."""
ADDRESSES_MAX: Final = 8
"""Of one holder, as in a ticket."""
ADDRESS_BYTES_MAX: Final = 256

M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=IntEnum)


class QuestionType(IntEnum):
    """What a meeting point is asked."""

    HOLD = 1
    """Tell those who seek this number of me, for as long as this stream is open."""
    SEEK = 2


class MeetStatus(IntEnum):
    """What it answers."""

    OK = 1
    TAKEN = 2
    """Somebody else holds this number."""
    BUSY = 3
    """Too many questions, or too many numbers."""


class GiverStatus(IntEnum):
    """What somebody who gives a code says to a try."""

    OK = 1
    OVER = 2
    """No such code is good here, or it no longer is."""
    WRONG = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a number, and where it is reached besides by the connection that there is."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """To a meeting point."""

    type: QuestionType
    number: int
    addresses: tuple[Multiaddr, ...] = ()

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        return pb.Question(type=self.type, number=self.number, addresses=_told(self.addresses)).SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of a meeting point."""

    status: MeetStatus
    holder: Holder | None = None
    """Of the number that was sought."""

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        message = pb.Answer(status=self.status)
        if self.holder is not None:
            message.holder.peer = bytes(self.holder.peer)
            message.holder.addresses.extend(_told(self.holder.addresses))
        return message.SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the taker says: the number and its element, then its proof."""

    number: int = 0
    element: bytes = b""
    proof: bytes = b""

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        return pb.Taker(number=self.number, element=self.element, proof=self.proof).SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the giver says: its element, then the ticket."""

    status: GiverStatus
    element: bytes = b""
    sealed: bytes = b""
    left: int = 0

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        return pb.Giver(
            status=self.status, element=self.element, sealed=self.sealed, left=self.left
        ).SerializeToString()


def decode_question(data: bytes) -> Question:
    """Raises DecodeError. Addresses that make no sense are left out."""
    message = _parse(pb.Question, data)
    addresses = _read(message.addresses)
    return Question(type=_known(QuestionType, message.type), number=message.number, addresses=addresses)


def decode_answer(data: bytes) -> Answer:
    """Raises DecodeError."""
    message = _parse(pb.Answer, data)
    told = message.holder
    holder = Holder(PeerId.decode(told.peer), _read(told.addresses)) if message.HasField("holder") else None
    return Answer(status=_known(MeetStatus, message.status), holder=holder)


def decode_asked(data: bytes) -> Asked:
    """Raises DecodeError."""
    message = _parse(pb.Taker, data)
    return Asked(number=message.number, element=message.element, proof=message.proof)


def decode_told(data: bytes) -> Told:
    """Raises DecodeError."""
    message = _parse(pb.Giver, data)
    status = _known(GiverStatus, message.status)
    return Told(status=status, element=message.element, sealed=message.sealed, left=message.left)


def _told(addresses: tuple[Multiaddr, ...]) -> list[bytes]:
    return [data for address in addresses if len(data := bytes(address)) <= ADDRESS_BYTES_MAX][:ADDRESSES_MAX]


def _read(addresses: Sequence[bytes]) -> tuple[Multiaddr, ...]:
    return tuple(read_addresses(addresses))[:ADDRESSES_MAX]


def _parse(kind: type[M], data: bytes) -> M:
    message = kind()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise DecodeError("this is no message about codes") from error
    return message


def _known(kind: type[E], value: int) -> E:
    found = next((member for member in kind if member == value), None)
    if found is None:
        raise DecodeError(f"{value} is no {kind.__name__}")
    return found
