"""Tickets: one line of text that says what is shared and where somebody who has it can be reached.

Format (docs/ticket.md): `stack:` and, in base32, a version, a protobuf and a checksum. Pure. What a ticket says is a
claim of whoever made it: `name` and `size` are shown and used only after the checks of the fetch.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import field
from ipaddress import ip_address

from google.protobuf.message import DecodeError as ProtobufError

from stack.errors import DecodeError, LimitExceeded
from stack.identity.peer_id import PeerId
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import ticket_pb2
from stack.values import dataclass

VERSION = 1
SCHEME = "stack:"
TEXT_MAX = 300
"""Characters of a ticket: what still fits a chat line and a QR code that a telephone reads off a screen."""
INPUT_MAX = 2048
"""Characters looked at: a ticket with spaces, hyphens and line breaks, and the web page in front of it."""
ADDRESSES_MAX = 8
CIRCUIT = "p2p-circuit"
NAME_FLOOR = 24
"""Bytes of a long name that are kept even if an address must go for them."""
SUFFIX_MAX = 12
"""Bytes of a file name's suffix (`.tar.gz` has 7) that survive when the name is shortened."""
CHECKSUM_SIZE = 4
SECRET_SIZE = 16
"""Bytes that only who was given the ticket knows: nobody guesses them, and they leave room for addresses."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_DIGITS = {letter: value for value, letter in enumerate(_ALPHABET)}
_NAME_COST = 4
"""Bytes that a name takes beside its own: its tag, its length, and one more for the length of the whole."""

_DATA_MAX = (TEXT_MAX - len(SCHEME)) * 5 // 8
_IGNORED = re.compile(r"[\s-]+")
_LINK = re.compile(r"\s*https?://[^#\s]*#", re.IGNORECASE)


class TicketError(DecodeError):
    """This text is no ticket that can be used."""


class NotATicket(TicketError):
    """It is something else."""


class TicketMistyped(TicketError):
    """It was a ticket once: a character is wrong."""


class TicketCutOff(TicketError):
    """The end of the ticket is missing, or a character in it."""


class TicketTooNew(TicketError):
    """It was made by a version of this program that writes tickets differently."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"this ticket has version {version}, this program reads version {VERSION}: a newer one is needed"
        )
        self.version = version


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is shared, and by whom."""

    root: Cid
    name: str
    """What the sharer calls it, any text at all; empty when not told."""
    size: int
    """Content bytes as claimed."""
    peer: PeerId
    """Who made the ticket. Others may have the content as well."""
    addresses: tuple[Multiaddr, ...]
    """Where `peer` may be dialled, without `/p2p/`; at most `ADDRESSES_MAX`, best first."""
    secret: bytes = field(default=b"", repr=False)
    """What whoever fetches proves to know (docs/access.md); empty when the content is for everybody."""


def encode_ticket(ticket: Ticket) -> str:
    """The text of a ticket, at most `TEXT_MAX` characters.

    To fit, a long name is shortened (its suffix stays) and the least useful addresses go: public ones come first, loopback
    is named only when there is no other. Raises LimitExceeded if the CID alone is too long.
    """
    addresses = _preferred(ticket.addresses)
    name = ticket.name.encode("utf-8", "replace")
    for count in range(len(addresses), -1, -1):
        room = _DATA_MAX - len(_pack(ticket, b"", addresses[:count])) - _NAME_COST
        if room >= min(len(name), NAME_FLOOR) or (count == 0 and room >= 0):
            return SCHEME + _to_base32(_pack(ticket, _shortened(name, room), addresses[:count]))
    raise LimitExceeded("characters of a ticket", TEXT_MAX)


def is_ticket(text: str) -> bool:
    """Whether this text claims to be a ticket, or a link to one: the scheme stands where it should. Nothing is decoded."""
    return len(text) <= INPUT_MAX and _bare(text).startswith(SCHEME)


def decode_ticket(text: str) -> Ticket:
    """Read a ticket, or a link that ends in `#stack:...`. Upper or lower case, spaces, line breaks and hyphens do not matter.

    Raises NotATicket, TicketMistyped, TicketCutOff or TicketTooNew, whose messages are made for the user.
    """
    if len(text) > INPUT_MAX:
        raise NotATicket(f"this is no ticket: it has {len(text)} characters")
    bare = _bare(text)
    if not bare.startswith(SCHEME):
        raise NotATicket(f"this is no ticket: a ticket starts with `{SCHEME}`")
    letters = bare.removeprefix(SCHEME)
    if len(bare) > TEXT_MAX:
        raise NotATicket(f"this is no ticket: it has {len(bare)} characters, a ticket has at most {TEXT_MAX}")
    data, spare = _from_base32(letters)
    if len(data) <= 1 + CHECKSUM_SIZE:
        raise TicketCutOff("this ticket is cut off right after its start: copy all of it")
    body, checksum = data[:-CHECKSUM_SIZE], data[-CHECKSUM_SIZE:]
    if spare or _checksum(body) != checksum:
        raise _damage(data)
    if body[0] > VERSION:
        raise TicketTooNew(body[0])
    return _unpack(body)


def _bare(text: str) -> str:
    """The text without a web page in front of it and without what does not matter."""
    link = _LINK.match(text)
    return _IGNORED.sub("", text[link.end() :] if link else text).lower()


def _damage(data: bytes) -> TicketError:
    """Why the checksum does not fit: the length in the message tells a cut from a typo."""
    if data[0] == VERSION and data[1] == 0x08:  # the tag of `length`
        head = 3 if data[2] < 0x80 else 4
        told = data[2] if data[2] < 0x80 else data[2] & 0x7F | data[3] << 7
        if len(data) < head + told + CHECKSUM_SIZE:
            return TicketCutOff("this ticket is cut off: its end, or a character in it, is missing")
    return TicketMistyped("this ticket has a typo in it: compare it with the original, or copy it again")


def _pack(ticket: Ticket, name: bytes, addresses: Sequence[Multiaddr]) -> bytes:
    message = ticket_pb2.Ticket(
        root=bytes(ticket.root),
        name=name.decode(),
        size=ticket.size,
        peer=bytes(ticket.peer),
        addresses=[bytes(address) for address in addresses],
        secret=ticket.secret,
    )
    rest = message.SerializeToString(deterministic=True)
    head = ticket_pb2.Ticket(length=len(rest)).SerializeToString()
    body = bytes([VERSION]) + head + rest
    return body + _checksum(body)


def _unpack(data: bytes) -> Ticket:
    try:
        if data[0] != VERSION:
            raise DecodeError(f"there is no version {data[0]}")
        message = ticket_pb2.Ticket.FromString(data[1:])
        root = Cid.decode(message.root)
        multihash.check_allowed(root.multihash)
        peer = PeerId.decode(message.peer)
        if len(message.secret) not in (0, SECRET_SIZE):
            raise DecodeError(f"a secret of {len(message.secret)} bytes")
    except (ProtobufError, DecodeError) as error:
        raise NotATicket(f"this ticket was made by a faulty program: {error}") from error
    addresses = []
    for raw in message.addresses[:ADDRESSES_MAX]:
        try:
            addresses.append(Multiaddr.decode(raw))
        except DecodeError:
            continue  # an address of a kind that this version does not know; the others may do
    return Ticket(root, message.name, message.size, peer, tuple(addresses), message.secret)


def _short(address: Multiaddr) -> Multiaddr:
    """Without who is there, and of a relay without who that is: the peer has to prove who it is, and 40 bytes are many here."""
    bare = address.split_peer()[0]
    if CIRCUIT not in bare.protocols:
        return bare
    relay = bare.decapsulate(CIRCUIT).split_peer()[0]
    return relay.encapsulate(Multiaddr.parse(f"/{CIRCUIT}")) if relay else bare


def _preferred(addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
    bare = dict.fromkeys(_short(address) for address in addresses)
    ranked = sorted(bare, key=_rank)
    if ranked and _rank(ranked[0]) < _LOOPBACK:
        ranked = [address for address in ranked if _rank(address) < _LOOPBACK]
    return ranked[:ADDRESSES_MAX]


_PUBLIC, _RELAYED, _PRIVATE, _LOOPBACK = range(4)


def _rank(address: Multiaddr) -> int:
    if CIRCUIT in address.protocols:
        return _RELAYED
    for name, value in address:
        if name in ("ip4", "ip6") and value is not None:
            ip = ip_address(value)
            return _LOOPBACK if ip.is_loopback or ip.is_link_local else _PUBLIC if ip.is_global else _PRIVATE
        if name.startswith("dns"):
            return _PUBLIC
    return _PRIVATE


def _shortened(name: bytes, room: int) -> bytes:
    """At most `room` bytes of a name, cut between characters, its suffix kept where there is room for both."""
    if len(name) <= room:
        return name
    stem, dot, suffix = name.rpartition(b".")
    tail = dot + suffix
    if not stem or len(tail) > min(SUFFIX_MAX, room // 2):
        stem, tail = name, b""
    return stem[: room - len(tail)].decode("utf-8", "ignore").encode() + tail


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:CHECKSUM_SIZE]


def _to_base32(data: bytes) -> str:
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (count * 5 - len(data) * 8)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range((count - 1) * 5, -1, -5))


def _from_base32(letters: str) -> tuple[bytes, bool]:
    """The bytes, and whether bits are left over that an encoder never leaves (RFC 4648, section 6, without padding)."""
    number = 0
    for position, letter in enumerate(letters, start=1):
        digit = _DIGITS.get(letter)
        if digit is None:
            raise TicketMistyped(
                f"this ticket has a typo in it: {letter!a} at character {position} cannot be part of one"
            )
        number = number << 5 | digit
    extra = len(letters) * 5 % 8
    return (number >> extra).to_bytes(len(letters) * 5 // 8, "big"), extra >= 5 or bool(number & ((1 << extra) - 1))
