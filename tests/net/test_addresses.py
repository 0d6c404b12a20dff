"""What an address tells."""

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import (
    Reach,
    expand,
    group_of,
    is_unspecified,
    is_worth_dialling,
    neighbourhood_of,
    reach_of,
    unique,
)

CASES = [
    ("/ip4/127.0.0.1/tcp/1", Reach.LOOPBACK, None, None),
    ("/ip4/127.9.9.9/tcp/1", Reach.LOOPBACK, None, None),
    ("/ip6/::1/tcp/1", Reach.LOOPBACK, None, None),
    ("/ip6/::ffff:127.0.0.1/tcp/1", Reach.LOOPBACK, None, None),
    ("/memory/1", Reach.LOOPBACK, None, None),
    ("/ip4/10.1.2.3/tcp/1", Reach.PRIVATE, "10.1.2.3/32", "10.1.2.0/24"),
    ("/ip4/192.168.1.2/tcp/1", Reach.PRIVATE, "192.168.1.2/32", "192.168.1.0/24"),
    ("/ip4/169.254.1.2/tcp/1", Reach.PRIVATE, "169.254.1.2/32", "169.254.1.0/24"),
    ("/ip6/fd00::2/tcp/1", Reach.PRIVATE, "fd00::/56", "fd00::/48"),
    ("/ip6zone/eth0/ip6/fe80::1/tcp/1", Reach.PRIVATE, "fe80::/56", "fe80::/48"),
    ("/ip4/8.8.8.8/tcp/1", Reach.PUBLIC, "8.8.8.8/32", "8.8.8.0/24"),
    ("/ip6/::ffff:8.8.8.8/tcp/1", Reach.PUBLIC, "8.8.8.8/32", "8.8.8.0/24"),
    ("/ip6/2a00:1450:4001:82b::200e/tcp/1", Reach.PUBLIC, "2a00:1450:4001:800::/56", "2a00:1450:4001::/48"),
    ("/dns4/example.com/tcp/1", Reach.PUBLIC, None, None),
]


@pytest.mark.parametrize(("text", "reach", "group", "neighbourhood"), CASES)
def test_reach_and_groups(text: str, reach: Reach, group: str | None, neighbourhood: str | None) -> None:
    address = Multiaddr.parse(text)
    assert (reach_of(address), group_of(address), neighbourhood_of(address)) == (reach, group, neighbourhood)


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("/ip4/1.2.3.4/tcp/1", True),
        ("/memory/1", True),
        ("/dns/example.com/tcp/1", True),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", True),
        ("/ip6/fe80::1/tcp/1", False),
        ("/ip4/0.0.0.0/tcp/1", False),
        ("/ip6/::/tcp/1", False),
        ("/ip4/224.0.0.1/tcp/1", False),
        ("/ip4/255.255.255.255/tcp/1", False),
        ("/ip4/1.2.3.4/tcp/0", False),
        ("/ip4/1.2.3.4/udp/0", False),
    ],
)
def test_what_cannot_be_connected_to_is_not_worth_dialling(text: str, worth: bool) -> None:
    assert is_worth_dialling(Multiaddr.parse(text)) is worth


def test_a_wildcard_becomes_one_address_per_interface_of_its_family() -> None:
    interfaces = ["127.0.0.1", "192.0.2.2", "::1", "fd00::2", "fe80::1", "224.0.0.9"]
    four = expand(Multiaddr.parse("/ip4/0.0.0.0/tcp/7/ws"), interfaces)
    six = expand(Multiaddr.parse("/ip6/::/tcp/7"), interfaces)
    assert [str(a) for a in four] == ["/ip4/127.0.0.1/tcp/7/ws", "/ip4/192.0.2.2/tcp/7/ws"]
    assert [str(a) for a in six] == ["/ip6/::1/tcp/7", "/ip6/fd00::2/tcp/7"]


def test_a_concrete_address_stays_as_it_is() -> None:
    for text in ("/ip4/1.2.3.4/tcp/7", "/memory/3"):
        assert expand(Multiaddr.parse(text), ["127.0.0.1"]) == [Multiaddr.parse(text)]
    assert is_unspecified(Multiaddr.parse("/ip4/0.0.0.0/tcp/7"))
    assert not is_unspecified(Multiaddr.parse("/memory/3"))


def test_an_address_with_nothing_left_has_no_ip() -> None:
    nothing = Multiaddr.parse("/memory/1").decapsulate("memory")
    assert reach_of(nothing) is Reach.PUBLIC
    assert not is_unspecified(nothing)


def test_unique_keeps_the_first_of_each() -> None:
    a, b = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")
    assert unique([b, a, b, a]) == [b, a]
