"""The messages of both relay protocols, and the voucher. Source: libp2p/specs, relay/circuit-v2.md, "Protobuf"."""

from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.errors import DecodeError
from stack.identity.envelope import Envelope
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.identity.peer_record import read_addresses
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import relay_pb2
from stack.values import dataclass

E = TypeVar("E", bound=IntEnum)

STOP: Final = "/libp2p/circuit/relay/0.2.0/stop"
MESSAGE_BYTES_MAX: Final = 4096
"""Of one message: go-libp2p's figure."""
ADDRESSES_MAX: Final = 16
"""Addresses of a relay that are told or looked at."""
VOUCHER_DOMAIN: Final = "libp2p-relay-rsvp"
VOUCHER_TYPE: Final = b"\x03\x02"
"""The code 0x0302 in big-endian, as go-libp2p writes it; that of peer records is written so too."""


class Status(IntEnum):
    """What a request came to."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


class HopType(IntEnum):
    """Of a message to or from a relay."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(IntEnum):
    """Of a message between a relay and whom it relays to."""

    CONNECT = 0
    STATUS = 1


@dataclass(frozen=True, slots=True)
class Limit:
    """What a relayed connection may take; 0 is no limit."""

    seconds: int = 0
    data: int = 0
    """Bytes in each direction."""

    @property
    def binds(self) -> bool:
        """It is a limit at all."""
        return bool(self.seconds or self.data)


UNLIMITED: Final = Limit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A place at a relay."""

    expire: int
    """Wall-clock time in seconds, as the relay has it."""
    addresses: tuple[Multiaddr, ...] = ()
    """Where the relay is reached, each ending in its peer id."""
    voucher: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A message of the hop protocol. `type` is None when it is of no known type, so `status`."""

    type: HopType | None
    peer: PeerId | None = None
    reservation: Reservation | None = None
    limit: Limit = UNLIMITED
    status: Status | None = None

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        message = relay_pb2.HopMessage(type=self.type, status=self.status)
        if self.peer is not None:
            message.peer.id = bytes(self.peer)
        if self.reservation is not None:
            message.reservation.expire = self.reservation.expire
            message.reservation.addrs.extend(map(bytes, self.reservation.addresses))
            message.reservation.voucher = self.reservation.voucher
        _set_limit(message, self.limit)
        return message.SerializeToString(deterministic=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A message of the stop protocol; as `Hop`."""

    type: StopType | None
    peer: PeerId | None = None
    limit: Limit = UNLIMITED
    status: Status | None = None

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        message = relay_pb2.StopMessage(type=self.type, status=self.status)
        if self.peer is not None:
            message.peer.id = bytes(self.peer)
        _set_limit(message, self.limit)
        return message.SerializeToString(deterministic=True)


def decode_hop(data: bytes) -> Hop:
    """Raises DecodeError when it is no such message, or names a peer that is none."""
    message = relay_pb2.HopMessage()
    _parse(message, data)
    reservation = None
    if message.HasField("reservation"):
        told = message.reservation
        reservation = Reservation(
            expire=told.expire,
            addresses=tuple(read_addresses(told.addrs[:ADDRESSES_MAX])),
            voucher=told.voucher,
        )
    return Hop(
        type=_known(HopType, message.type if message.HasField("type") else None),
        peer=PeerId.decode(message.peer.id) if message.HasField("peer") else None,
        reservation=reservation,
        limit=Limit(message.limit.duration, message.limit.data),
        status=_known(Status, message.status),
    )


def decode_stop(data: bytes) -> Stop:
    """Raises DecodeError when it is no such message, or names a peer that is none."""
    message = relay_pb2.StopMessage()
    _parse(message, data)
    return Stop(
        type=_known(StopType, message.type if message.HasField("type") else None),
        peer=PeerId.decode(message.peer.id) if message.HasField("peer") else None,
        limit=Limit(message.limit.duration, message.limit.data),
        status=_known(Status, message.status),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """What a relay signs: that it keeps a place for a peer, until then."""

    relay: PeerId
    peer: PeerId
    expiration: int
    """Wall-clock time in seconds."""

    def encode(self) -> bytes:
        """The payload of the envelope."""
        return relay_pb2.Voucher(
            relay=bytes(self.relay), peer=bytes(self.peer), expiration=self.expiration
        ).SerializeToString(deterministic=True)


def open_voucher(data: bytes) -> Voucher:
    """The voucher in a signed envelope. Raises DecodeError, BadSignature, or PeerIdMismatch when another than the relay signed it."""
    envelope = Envelope.open(data, VOUCHER_DOMAIN)
    if envelope.payload_type != VOUCHER_TYPE:
        raise DecodeError(f"a voucher has the payload type 0302, not {envelope.payload_type[:16].hex()}")
    message = relay_pb2.Voucher()
    _parse(message, envelope.payload)
    relay, signer = PeerId.decode(message.relay), PeerId.of(envelope.public_key)
    if relay != signer:
        raise PeerIdMismatch(relay, signer)
    return Voucher(relay=relay, peer=PeerId.decode(message.peer), expiration=message.expiration)


def _parse(message: "relay_pb2.HopMessage | relay_pb2.StopMessage | relay_pb2.Voucher", data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise DecodeError("this is no message of a relay") from error


def _set_limit(message: "relay_pb2.HopMessage | relay_pb2.StopMessage", limit: Limit) -> None:
    """Left out when there is none: "it indicates that the relay does not apply any limits"."""
    if limit.binds:
        message.limit.duration = limit.seconds
        message.limit.data = limit.data


def _known(kind: type[E], value: int | None) -> E | None:
    return next((member for member in kind if member == value), None)
