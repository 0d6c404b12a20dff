"""The identify message and how it is cut into pieces. Source: libp2p/specs, identify/README.md; limits of go-libp2p."""

from collections.abc import Iterator

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack import __version__
from stack.errors import DecodeError, LimitExceeded, RemoteProtocolError
from stack.identity.keys import decode_public
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import read_addresses
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import identify_pb2
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.values import dataclass

AGENT_VERSION = f"stack/{__version__}"
"""What we say that we are."""
MESSAGE_BYTES_MAX = 8 * 1024
"""Of one piece that is accepted: go-libp2p's figure."""
MESSAGES_MAX = 10
"""Pieces of one identification (A30)."""
SENT_BYTES_MAX = 4096
"""Of one piece that is sent: rust-libp2p refuses larger ones."""
PROTOCOLS_MAX = 1024
"""Protocols that are looked at (A30)."""
PROTOCOL_BYTES_MAX = 256
"""A longer protocol id is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identify:
    """What a peer says of itself; None, or nothing in a list, means that it did not say."""

    public_key: bytes | None = None
    """The encoded public key."""
    listen_addresses: tuple[Multiaddr, ...] = ()
    protocols: tuple[str, ...] = ()
    observed_address: Multiaddr | None = None
    """Where it sees us."""
    protocol_version: str | None = None
    agent_version: str | None = None
    signed_peer_record: bytes | None = None

    def encode(self) -> bytes:
        """One message, fields in the order of their numbers."""
        return b"".join(self._fields())

    def encode_pieces(self) -> list[bytes]:
        """Messages of at most `SENT_BYTES_MAX` bytes each, ready for the stream. What does not fit into `MESSAGES_MAX` of
        them is left out: the last protocols, since the record has its place before them."""
        pieces: list[bytes] = []
        piece = b""
        # Concatenated protobuf messages merge, so that a message may be cut between any two fields.
        for field in self._fields(record_first=True):
            if len(field) > SENT_BYTES_MAX:
                continue
            if len(piece) + len(field) > SENT_BYTES_MAX:
                pieces.append(encode_delimited(piece))
                piece = b""
                if len(pieces) == MESSAGES_MAX:
                    return pieces
            piece += field
        pieces.append(encode_delimited(piece))
        return pieces

    def is_of(self, peer: PeerId) -> bool:
        """False when it carries a key that is not the peer's, or none at all in the field (A18)."""
        if self.public_key is None:
            return True
        try:
            return PeerId.of(decode_public(self.public_key)) == peer
        except DecodeError:
            return False

    def _fields(self, *, record_first: bool = False) -> Iterator[bytes]:
        def field(**values: object) -> bytes:
            return identify_pb2.Identify(**values).SerializeToString()  # type: ignore[arg-type]  # one field at a time

        if self.public_key is not None:
            yield field(public_key=self.public_key)
        for address in self.listen_addresses:
            yield field(listen_addrs=[bytes(address)])
        if not record_first:
            yield from (field(protocols=[protocol]) for protocol in self.protocols)
        if self.observed_address is not None:
            yield field(observed_addr=bytes(self.observed_address))
        if self.protocol_version is not None:
            yield field(protocol_version=self.protocol_version)
        if self.agent_version is not None:
            yield field(agent_version=self.agent_version)
        if self.signed_peer_record is not None:
            yield field(signed_peer_record=self.signed_peer_record)
        if record_first:
            yield from (field(protocols=[protocol]) for protocol in self.protocols)


def decode_identify(data: bytes) -> Identify:
    """Raises DecodeError when it is no such message. Addresses and protocols that make no sense are left out."""
    message = identify_pb2.Identify()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise DecodeError("this is no identify message") from error
    protocols = (p for p in message.protocols[:PROTOCOLS_MAX] if p and len(p) <= PROTOCOL_BYTES_MAX)
    return Identify(
        public_key=message.public_key if message.HasField("public_key") else None,
        listen_addresses=tuple(read_addresses(message.listen_addrs)),
        protocols=tuple(dict.fromkeys(protocols)),
        observed_address=next(read_addresses([message.observed_addr]), None),
        protocol_version=message.protocol_version if message.HasField("protocol_version") else None,
        agent_version=message.agent_version if message.HasField("agent_version") else None,
        signed_peer_record=message.signed_peer_record if message.HasField("signed_peer_record") else None,
    )


class IdentifyReader:
    """Collects the pieces of one identification until the peer ends the stream.

    Facts: `receive_data`. Output: `finish`.
    """

    def __init__(self) -> None:
        self._reader = DelimitedReader(MESSAGE_BYTES_MAX)
        self._pieces: list[bytes] = []

    def receive_data(self, data: bytes) -> None:
        """Bytes from the peer. Raises RemoteProtocolError when they are too many or badly delimited."""
        try:
            self._reader.receive_data(data)
        except LimitExceeded as error:
            raise RemoteProtocolError(str(error)) from error
        while (message := self._reader.next_message()) is not None:
            if len(self._pieces) == MESSAGES_MAX:
                raise RemoteProtocolError(f"more than {MESSAGES_MAX} identify messages")
            self._pieces.append(message)

    def finish(self) -> Identify:
        """The peer has ended the stream. Raises RemoteProtocolError when nothing came, or what came cannot be read."""
        if not self._pieces or self._reader.take_rest():
            raise RemoteProtocolError("the identify message was cut short")
        try:
            return decode_identify(b"".join(self._pieces))
        except DecodeError as error:
            raise RemoteProtocolError(str(error)) from error
