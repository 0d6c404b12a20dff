"""Peer records: where a peer says it listens, signed by itself. Source: libp2p/specs, RFC 0003."""

from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.errors import DecodeError
from stack.identity.envelope import Envelope
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import peer_record_pb2
from stack.values import dataclass

DOMAIN: Final = "libp2p-peer-record"
PAYLOAD_TYPE: Final = b"\x03\x01"
"""What RFC 0003 prints; it is the code 0x0301 in big-endian, not the varint that RFC 0002 asks for."""

ADDRESSES_MAX: Final = 500
"""Addresses that are looked at; go-libp2p keeps as many of a connected peer. The peerstore keeps fewer."""

ADDRESSES_BYTES_MAX: Final = 8 * 1024
"""Their bytes together: 3 ms of work. 500 that are made of forty protocols each would be 22."""

ADDRESS_BYTES_MAX: Final = 512
"""The longest that is looked at, as the peerstore keeps no longer one."""


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Addresses of a peer; a record with a higher sequence number replaces one with a lower."""

    peer_id: PeerId
    sequence: int
    """0 to 2**64 - 1; by custom the time of writing, in nanoseconds."""
    addresses: tuple[Multiaddr, ...]

    def seal(self, key: PrivateKey) -> bytes:
        """The record in a signed envelope. Raises PeerIdMismatch when the key is another peer's."""
        signer = PeerId.of(key.public)
        if signer != self.peer_id:
            raise PeerIdMismatch(self.peer_id, signer)
        return Envelope.seal(key, DOMAIN, PAYLOAD_TYPE, self.encode()).encode()

    def encode(self) -> bytes:
        """The record alone, unsigned."""
        message = peer_record_pb2.PeerRecord(peer_id=bytes(self.peer_id), seq=self.sequence)
        for address in self.addresses:
            message.addresses.add(multiaddr=bytes(address))
        return message.SerializeToString(deterministic=True)


def open_peer_record(data: bytes) -> PeerRecord:
    """The record in a signed envelope.

    Raises DecodeError, BadSignature, or PeerIdMismatch when it was signed by another peer than it is about: a valid
    envelope proves only who wrote it (RUSTSEC-2022-0009). Addresses that are not understood are left out.
    """
    envelope = Envelope.open(data, DOMAIN)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise DecodeError(f"a peer record has the payload type 0301, not {envelope.payload_type[:16].hex()}")
    message = peer_record_pb2.PeerRecord()
    try:
        message.ParseFromString(envelope.payload)
    except ProtobufDecodeError as error:
        raise DecodeError("this is no peer record") from error
    peer_id = PeerId.decode(message.peer_id)
    signer = PeerId.of(envelope.public_key)
    if signer != peer_id:
        raise PeerIdMismatch(peer_id, signer)
    addresses = read_addresses([info.multiaddr for info in message.addresses[:ADDRESSES_MAX]])
    return PeerRecord(peer_id, message.seq, tuple(addresses))


def read_addresses(encoded: Sequence[bytes]) -> Iterator[Multiaddr]:
    """Addresses that a peer tells, as far as they are looked at, and understood: a peer may listen on protocols that are newer than
    this program."""
    left = ADDRESSES_BYTES_MAX
    for each in encoded[:ADDRESSES_MAX]:
        left -= len(each)
        if left < 0:
            return
        if len(each) <= ADDRESS_BYTES_MAX:
            try:
                yield Multiaddr.decode(each)
            except DecodeError:
                continue
