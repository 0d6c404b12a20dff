"""A line that pauses is not a peer that has gone: what is on its way is not thrown away each time."""

from stack.multiformats.multiaddr import Multiaddr
from stack.net.pauses import PEERS_MAX, REMEMBERED_SECONDS, SECONDS_MAX, Pauses
from tests.bitswap.simulation import peer_named

HERE, PORT, ELSEWHERE = (
    Multiaddr.parse(f"/ip4/{ip}/tcp/{port}") for ip, port in (("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1))
)
ALICE, BOB = peer_named("alice"), peer_named("bob")


def test_who_is_at_the_same_place_again_is_waited_for_twice_as_long() -> None:
    pauses, seconds = Pauses(), 2.0
    assert pauses.patience(ALICE, HERE, 0.0) == 0.0
    waited = []
    for now in range(8):
        pauses.gave_up(ALICE, HERE, seconds, now)
        seconds = pauses.patience(ALICE, PORT, now)
        waited.append(seconds)
    assert waited[:4] == [4.0, 8.0, 16.0, 32.0] and waited[-1] == SECONDS_MAX
    assert pauses.patience(BOB, HERE, 8.0) == 0.0
    assert pauses.patience(ALICE, HERE, 7.0 + REMEMBERED_SECONDS) == 0.0


def test_who_has_moved_is_waited_for_as_at_first() -> None:
    pauses = Pauses()
    pauses.gave_up(ALICE, HERE, 2.0, 0.0)
    assert pauses.patience(ALICE, ELSEWHERE, 1.0) == 0.0
    pauses.gave_up(ALICE, ELSEWHERE, 2.0, 2.0)
    assert pauses.patience(ALICE, HERE, 3.0) == 0.0


def test_so_many_are_remembered_and_no_more() -> None:
    pauses = Pauses()
    peers = [peer_named(str(number)) for number in range(PEERS_MAX + 1)]
    for peer in peers:
        pauses.gave_up(peer, HERE, 2.0, 0.0)
    assert [pauses.patience(peer, HERE, 0.0) for peer in (peers[0], peers[1], peers[-1])] == [0.0, 4.0, 4.0]
