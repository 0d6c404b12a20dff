"""Messages of relays, and vouchers."""

import pytest

from stack.errors import DecodeError, SecurityError
from stack.identity.envelope import Envelope
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.relay.messages import (
    VOUCHER_DOMAIN,
    VOUCHER_TYPE,
    Hop,
    HopType,
    Limit,
    Reservation,
    Status,
    Stop,
    StopType,
    Voucher,
    decode_hop,
    decode_stop,
    open_voucher,
)
from tests.net.identities import key

RELAY, PEER = (PeerId.of(key(number).public) for number in (1, 2))
ADDRESS = Multiaddr.parse(f"/ip4/45.1.2.3/tcp/4001/p2p/{RELAY}")

HOPS = [
    (Hop(type=HopType.RESERVE), "0800"),
    (Hop(type=HopType.CONNECT, peer=PEER), f"080112280a26{bytes(PEER).hex()}"),
    (Hop(type=HopType.STATUS, status=Status.OK), "08022864"),
    (Hop(type=HopType.STATUS, status=Status.NO_RESERVATION), "080228cc01"),
    (Hop(type=HopType.STATUS, status=Status.OK, limit=Limit(120, 131072)), "080222060878108080082864"),
    (
        Hop(type=HopType.STATUS, status=Status.OK, reservation=Reservation(expire=7, voucher=b"v")),
        "08021a0508071a01762864",
    ),
]
STOPS = [
    (Stop(type=StopType.CONNECT, peer=PEER), f"080012280a26{bytes(PEER).hex()}"),
    (Stop(type=StopType.CONNECT, peer=PEER, limit=Limit(0, 1)), f"080012280a26{bytes(PEER).hex()}1a0408001001"),
    (Stop(type=StopType.STATUS, status=Status.OK), "08012064"),
]


@pytest.mark.parametrize(("message", "encoded"), HOPS)
def test_a_message_to_a_relay_has_these_bytes(message: Hop, encoded: str) -> None:
    assert message.encode().hex() == encoded
    assert decode_hop(bytes.fromhex(encoded)) == message


@pytest.mark.parametrize(("message", "encoded"), STOPS)
def test_a_message_from_a_relay_has_these_bytes(message: Stop, encoded: str) -> None:
    assert message.encode().hex() == encoded
    assert decode_stop(bytes.fromhex(encoded)) == message


def test_addresses_of_a_reservation_that_make_no_sense_are_left_out() -> None:
    reservation = Reservation(expire=7, addresses=(ADDRESS,))
    encoded = Hop(type=HopType.STATUS, status=Status.OK, reservation=reservation).encode()
    assert decode_hop(encoded).reservation == reservation
    broken = encoded.replace(bytes(ADDRESS), b"\xff" * len(bytes(ADDRESS)))
    assert decode_hop(broken).reservation == Reservation(expire=7)


def test_unknown_types_and_codes_are_read_as_such() -> None:
    assert decode_hop(bytes.fromhex("080928e707")) == Hop(type=None)
    assert decode_hop(b"") == Hop(type=None)
    assert decode_stop(bytes.fromhex("080920e707")) == Stop(type=None)


@pytest.mark.parametrize("encoded", ["08", "1203aabbcc", "12050a03010203"])
def test_what_is_no_message_is_refused(encoded: str) -> None:
    for decode in (decode_hop, decode_stop):
        with pytest.raises(DecodeError):
            decode(bytes.fromhex(encoded))


def test_a_voucher_is_what_the_relay_has_signed() -> None:
    voucher = Voucher(relay=RELAY, peer=PEER, expiration=1_800_000_000)
    sealed = Envelope.seal(key(1), VOUCHER_DOMAIN, VOUCHER_TYPE, voucher.encode()).encode()
    assert open_voucher(sealed) == voucher
    with pytest.raises(SecurityError):
        open_voucher(Envelope.seal(key(2), VOUCHER_DOMAIN, VOUCHER_TYPE, voucher.encode()).encode())
    with pytest.raises(SecurityError):
        open_voucher(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(DecodeError):
        open_voucher(Envelope.seal(key(1), VOUCHER_DOMAIN, b"\x03\x01", voucher.encode()).encode())
    with pytest.raises(DecodeError):
        open_voucher(Envelope.seal(key(1), VOUCHER_DOMAIN, VOUCHER_TYPE, b"\x08").encode())
