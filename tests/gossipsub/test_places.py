"""Where peers are."""

import pytest

from stack.gossipsub.places import place_of
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.interfaces import ConnectionInfo, Direction
from tests.gossipsub.lab import peer_id


def info(address: str, direction: Direction, peer: PeerId) -> ConnectionInfo:
    return ConnectionInfo(
        peer=peer,
        address=Multiaddr.parse(address),
        direction=direction,
        opened_at=0,
        streams=0,
        latency=None,
        agent=None,
    )


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/ip4/192.0.2.7/tcp/1", "192.0.2.7"),
        ("/ip6/2001:db8:1:2:3::4/tcp/1", "2001:db8:1:2::/64"),
        ("/ip4/127.0.0.1/tcp/1", None),
        ("/ip6/::1/tcp/1", None),
        ("/memory/1", None),
        ("/ip4/192.0.2.7/tcp/1/p2p-circuit", None),
    ],
)
def test_the_place_of_a_peer_is_its_address(address: str, place: str | None) -> None:
    known = [
        info(address, Direction.OUTBOUND, peer_id(1)),
        info("/ip4/192.0.2.1/tcp/1", Direction.INBOUND, peer_id(2)),
    ]
    assert place_of(peer_id(1), known) == ("circuit" not in address, place)
    assert place_of(peer_id(2), known) == (False, "192.0.2.1")
