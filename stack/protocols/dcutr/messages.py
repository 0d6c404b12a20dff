"""What two peers who are connected by a relay tell each other, and which addresses they try. Source: libp2p/specs, relay/DCUtR.md."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.errors import DecodeError
from stack.identity.peer_record import read_addresses
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, is_worth_dialling, reach_of, unique
from stack.pb import dcutr_pb2
from stack.values import dataclass

MESSAGE_BYTES_MAX: Final = 4096
"""More "SHOULD be refused"."""
ADDRESSES_MAX: Final = 8
"""Addresses that are told, and of a peer's those that are tried: each is a dial that a stranger has us make (A70)."""
_FORMS: Final = (("ip4", "tcp"), ("ip6", "tcp"), ("ip4", "udp", "quic-v1"), ("ip6", "udp", "quic-v1"))


class PunchType(IntEnum):
    """Of a message."""

    CONNECT = 100
    SYNC = 300


@dataclass(frozen=True, slots=True)
class Punch:
    """One message; `type` is None when it is of no known type."""

    type: PunchType | None
    addresses: tuple[Multiaddr, ...] = ()
    """Where the sender is seen from outside."""

    def encode(self) -> bytes:
        """Its bytes, without the length in front."""
        addrs = [bytes(address) for address in self.addresses]
        return dcutr_pb2.HolePunch(type=self.type, addrs=addrs).SerializeToString()


def decode_punch(data: bytes) -> Punch:
    """Raises DecodeError when it is no such message. Addresses that make no sense are left out."""
    message = dcutr_pb2.HolePunch()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise DecodeError("this is no message of hole punching") from error
    kind = next((kind for kind in PunchType if kind == message.type), None)
    return Punch(kind, tuple(read_addresses(message.addrs)))


def worth_punching(addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Of what a peer says of itself what is dialled: TCP and QUIC, public addresses, a few. Nobody has us look round in our network."""
    bare = (address.split_peer()[0] for address in addresses)
    return unique(address for address in bare if _is_candidate(address))[:ADDRESSES_MAX]


def candidates(
    told: Iterable[Multiaddr], seen: Sequence[tuple[Multiaddr, Multiaddr | None]], listening: Iterable[Multiaddr]
) -> list[Multiaddr]:
    """Where we may be met, best first. `seen`: where peers see us, and from where on this computer the connection left, None when they
    have dialled us. What left from a port that is listened on comes first: a router that uses one outside port for one inside does so
    for the next connection too. Of others only the IP is of use, with our own ports: many routers keep them."""
    ports = list(dict.fromkeys(_port(address) for address in listening if address.protocols in _FORMS))
    met = [address for address, left in seen if left is None or _port(left) in ports]
    guessed = [
        Multiaddr.parse(f"/{name}/{ip}/{port}")
        for address, _ in seen
        if address.protocols in _FORMS
        for name, ip in tuple(address)[:1]
        for port in ports
    ]
    return worth_punching([*met, *told, *guessed])


def _port(address: Multiaddr) -> str:
    """What stands behind the IP: `tcp/4001`, `udp/4001/quic-v1`."""
    return str(address).split("/", 3)[-1]


def _is_candidate(address: Multiaddr) -> bool:
    return address.protocols in _FORMS and reach_of(address) is Reach.PUBLIC and is_worth_dialling(address)
