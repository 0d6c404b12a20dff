"""Messages of hole punching, and which addresses are tried."""

import pytest

from stack.errors import DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.dcutr.messages import ADDRESSES_MAX, Punch, PunchType, candidates, decode_punch, worth_punching
from tests.net.identities import peers_in_order

PEER = peers_in_order(1)[0]


def at(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


PUBLIC = at("/ip4/45.1.2.3/tcp/4001")
MESSAGES = [
    (Punch(PunchType.CONNECT), "0864"),
    (Punch(PunchType.CONNECT, (PUBLIC,)), "086412080" + "42d010203060fa1"),
    (Punch(PunchType.SYNC), "08ac02"),
]


@pytest.mark.parametrize(("message", "encoded"), MESSAGES)
def test_a_message_has_these_bytes(message: Punch, encoded: str) -> None:
    assert message.encode().hex() == encoded
    assert decode_punch(bytes.fromhex(encoded)) == message


def test_what_is_no_message_is_refused_and_unknown_types_are_read_as_such() -> None:
    assert decode_punch(b"\x08\x65") == Punch(None)
    assert decode_punch(bytes.fromhex("08641202ffff")) == Punch(PunchType.CONNECT)
    with pytest.raises(DecodeError):
        decode_punch(b"\x08")


def test_A70_a_stranger_has_us_dial_only_a_few_public_addresses() -> None:
    lies = [
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/127.0.0.1/tcp/80",
        "/ip4/10.0.0.1/tcp/80",
        "/ip4/169.254.1.1/tcp/80",
        "/ip6/::1/tcp/80",
        "/ip6/fd00::1/tcp/80",
        "/ip4/224.0.0.1/tcp/80",
        "/ip4/45.1.2.3/tcp/0",
        "/ip4/192.168.1.1/udp/4001/quic-v1",
        "/ip4/45.1.2.3/udp/4001",
        "/ip4/45.1.2.3/udp/4001/quic-v1/webtransport",
        "/dns4/example.org/tcp/80",
        f"/ip4/45.1.2.3/tcp/4001/p2p/{PEER}/p2p-circuit",
    ]
    assert worth_punching(map(at, lies)) == []
    many = [at(f"/ip4/45.1.{n // 250}.{n % 250 + 1}/tcp/4001") for n in range(1_000)]
    assert worth_punching([*many[:1] * 3, *many]) == many[:ADDRESSES_MAX]
    assert worth_punching([at(f"{PUBLIC}/p2p/{PEER}")]) == [PUBLIC]


def test_where_we_may_be_met_is_what_was_seen_of_the_port_that_is_listened_on_then_what_is_likely() -> None:
    here = "/ip4/192.168.1.2"
    seen = [
        (at("/ip4/45.1.2.3/tcp/5000"), at(f"{here}/tcp/4001")),
        (at("/ip4/45.1.2.3/tcp/6000"), at(f"{here}/tcp/55555")),
        (at("/ip4/45.1.2.3/tcp/7000"), None),
    ]
    told = [at("/ip4/45.9.9.9/tcp/1"), at("/ip4/192.168.1.2/tcp/4001")]
    texts = ["/ip4/45.1.2.3/tcp/5000", "/ip4/45.1.2.3/tcp/7000", "/ip4/45.9.9.9/tcp/1", "/ip4/45.1.2.3/tcp/4001"]
    assert candidates(told, seen, [at("/ip4/0.0.0.0/tcp/4001")]) == [at(text) for text in texts]
    assert candidates([], [(at("/memory/1"), None)], [at("/ip4/0.0.0.0/tcp/4001")]) == []


def test_a_port_of_quic_is_none_of_tcp() -> None:
    """Of a connection by the one, only the IP says something of the other."""
    seen = [(at("/ip4/45.1.2.3/tcp/5000"), at("/ip4/192.168.1.2/tcp/4001"))]
    assert candidates([], seen, [at("/ip4/0.0.0.0/udp/4001/quic-v1"), at("/memory/7")]) == [
        at("/ip4/45.1.2.3/udp/4001/quic-v1")
    ]
    seen = [(at("/ip4/45.1.2.3/udp/5000/quic-v1"), at("/ip4/192.168.1.2/udp/4001/quic-v1"))]
    listening = [at("/ip4/0.0.0.0/tcp/4001"), at("/ip4/0.0.0.0/udp/4001/quic-v1")]
    texts = ["/ip4/45.1.2.3/udp/5000/quic-v1", "/ip4/45.1.2.3/tcp/4001", "/ip4/45.1.2.3/udp/4001/quic-v1"]
    assert candidates([], seen, listening) == [at(text) for text in texts]
