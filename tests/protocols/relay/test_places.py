"""What a relay gives to whom. Each bound is met exactly: it is no proxy for strangers."""

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.relay.messages import UNLIMITED, Limit, Status
from stack.protocols.relay.places import Circuit, RelayParameters, RelayPlaces
from tests.bitswap.simulation import peer_named
from tests.net.identities import peers_in_order

PEERS = peers_in_order(24)
HERE = Multiaddr.parse("/ip4/45.1.2.3/tcp/4001")
HOUR = 3600


def at(host: int, net: int = 2) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/45.1.{net}.{host}/tcp/4001")


def places(allowed: tuple[int, ...] = (), **figures: int) -> RelayPlaces:
    return RelayPlaces(RelayParameters(**figures), [PEERS[number] for number in allowed])  # type: ignore[arg-type] # figures


def opened(result: Circuit | Status) -> Circuit:
    assert isinstance(result, Circuit)
    return result


def test_the_reservations_in_all_are_bounded() -> None:
    relay = places(reservations=3, allowed=(9,))
    assert [relay.reserve(PEERS[n], at(n, n), 0.0) for n in range(4)] == [HOUR] * 3 + [Status.RESERVATION_REFUSED]
    assert relay.reserve(PEERS[1], at(1, 1), 1.0) == HOUR  # who has one may renew it
    assert relay.reserve(PEERS[9], at(9, 9), 1.0) == HOUR  # who is allowed by name is not kept out by others
    assert relay.reservations == 4


def test_the_reservations_of_one_address_are_bounded() -> None:
    relay = places()
    answers = [relay.reserve(PEERS[n], at(1), 0.0) for n in range(9)]
    assert answers == [HOUR] * 8 + [Status.RESERVATION_REFUSED]
    assert relay.reserve(PEERS[9], at(2), 0.0) == HOUR


def test_the_reservations_of_one_neighbourhood_are_bounded() -> None:
    relay = places(reservations_of_neighbourhood=5)
    answers = [relay.reserve(PEERS[n], at(n), 0.0) for n in range(6)]
    assert answers == [HOUR] * 5 + [Status.RESERVATION_REFUSED]
    assert relay.reserve(PEERS[9], at(1, 3), 0.0) == HOUR


def test_each_figure_of_a_relay_is_met_exactly_and_not_passed() -> None:
    """As docs/reach.md has them: in all, of a neighbourhood, and of a peer that is allowed."""
    peers = [peer_named(str(n)) for n in range(140)]
    relay = RelayPlaces(RelayParameters(), [PEERS[0]])
    answers = [relay.reserve(peer, at(1, n), 0.0) for n, peer in enumerate(peers)]
    assert answers == [HOUR] * 128 + [Status.RESERVATION_REFUSED] * 12
    circuits = [relay.connect(peers[n + 1], at(1, n), peers[n], 0.0) for n in range(127)] + [
        relay.connect(peers[2], at(1, 2), peers[127], 0.0),
        relay.connect(peers[4], at(1, 4), peers[6], 0.0),
    ]
    assert [each for each in circuits if isinstance(each, Status)] == [Status.RESOURCE_LIMIT_EXCEEDED]
    assert circuits[128] is Status.RESOURCE_LIMIT_EXCEEDED
    relay.reserve(PEERS[0], at(1), 0.0)
    friends = [relay.connect(peers[n], at(1, n), PEERS[0], 0.0) for n in range(65)]
    assert [n for n, each in enumerate(friends) if isinstance(each, Status)] == [64]
    relay = RelayPlaces(RelayParameters(), [])
    answers = [relay.reserve(peer, at(1 + n), 0.0) for n, peer in enumerate(peers[:40])]
    assert answers == [HOUR] * 32 + [Status.RESERVATION_REFUSED] * 8


def test_on_loopback_nobody_is_a_stranger() -> None:
    relay = places(reservations=10)
    assert {relay.reserve(PEERS[n], Multiaddr.parse("/ip4/127.0.0.1/tcp/1"), 0.0) for n in range(10)} == {HOUR}


def test_a_reservation_ends_with_its_time_or_its_connection() -> None:
    relay = places(reservations=1)
    relay.reserve(PEERS[0], HERE, 0.0)
    assert isinstance(relay.connect(PEERS[1], HERE, PEERS[0], HOUR - 0.1), Circuit)
    assert relay.connect(PEERS[1], HERE, PEERS[0], HOUR) is Status.NO_RESERVATION
    assert relay.reserve(PEERS[2], HERE, HOUR) == HOUR
    relay.peer_disconnected(PEERS[2])
    relay.peer_disconnected(PEERS[2])
    assert relay.connect(PEERS[1], HERE, PEERS[2], HOUR) is Status.NO_RESERVATION
    assert relay.reservations == 0


def test_nobody_is_connected_to_who_has_not_asked_for_it() -> None:
    """A68; and a relay dials nobody for others."""
    assert places().connect(PEERS[1], HERE, PEERS[0], 0.0) is Status.NO_RESERVATION


def test_a_relay_is_not_used_through_a_relay() -> None:
    relay, relayed = places(), Multiaddr.parse(f"{HERE}/p2p/{PEERS[5]}/p2p-circuit")
    assert relay.reserve(PEERS[0], relayed, 0.0) is Status.PERMISSION_DENIED
    relay.reserve(PEERS[0], HERE, 0.0)
    assert relay.connect(PEERS[1], relayed, PEERS[0], 0.0) is Status.PERMISSION_DENIED
    assert relay.connect(PEERS[0], HERE, PEERS[0], 0.0) is Status.PERMISSION_DENIED


@pytest.mark.parametrize("way", ["to", "from"])
def test_the_circuits_of_a_peer_are_bounded(way: str) -> None:
    relay = places()
    for peer in PEERS:
        relay.reserve(peer, Multiaddr.parse("/ip4/127.0.0.1/tcp/1"), 0.0)

    def connect(number: int) -> Circuit | Status:
        pair = (PEERS[number], PEERS[0]) if way == "to" else (PEERS[0], PEERS[number])
        return relay.connect(pair[0], HERE, pair[1], 0.0)

    first, *_ = [opened(connect(1 + n)) for n in range(16)]
    assert connect(20) is Status.RESOURCE_LIMIT_EXCEEDED
    relay.ended(first)
    assert relay.circuits == 15
    assert isinstance(connect(20), Circuit)


def test_the_circuits_in_all_are_bounded() -> None:
    relay = places(circuits=2, allowed=(9,))
    for n in (0, 1, 2, 9):
        relay.reserve(PEERS[n], at(n), 0.0)
    circuits = [opened(relay.connect(PEERS[n + 10], HERE, PEERS[n], 0.0)) for n in range(2)]
    assert relay.connect(PEERS[12], HERE, PEERS[2], 0.0) is Status.RESOURCE_LIMIT_EXCEEDED
    assert isinstance(relay.connect(PEERS[12], HERE, PEERS[9], 0.0), Circuit)
    relay.ended(circuits[0])
    assert isinstance(relay.connect(PEERS[12], HERE, PEERS[2], 0.0), Circuit)


def test_attack_the_circuits_of_one_address_and_of_one_neighbourhood_are_bounded() -> None:
    """Eight connections of one address had half of all that there are for strangers."""
    relay = places()
    for n in range(20):
        relay.reserve(PEERS[n], at(n, 100 + n), 0.0)

    def asked_from(host: int, net: int, count: int) -> list[Circuit]:
        answers = [relay.connect(PEERS[n % 20], at(host, net), PEERS[(n + 1) % 20], 0.0) for n in range(count)]
        assert {each for each in answers if isinstance(each, Status)} <= {Status.RESOURCE_LIMIT_EXCEEDED}
        return [each for each in answers if isinstance(each, Circuit)]

    first = asked_from(1, 1, 20)
    assert len(first) == 16
    assert [len(asked_from(host, 1, 10)) for host in (2, 3)] == [10, 6]
    assert len(asked_from(4, 2, 1)) == 1
    for circuit in first[:3]:
        relay.ended(circuit)
    again = asked_from(1, 1, 5)
    assert len(again) == 3
    for circuit in first[3:] + again:
        relay.ended(circuit)
    assert sorted(relay._asked_from.values()) == [1, 1, 6, 10, 16]


def test_attack_strangers_do_not_keep_those_from_a_circuit_who_are_allowed() -> None:
    """They had all circuits of a peer, be it one that is allowed or one that is sought by such."""
    relay = places(allowed=(0, 1), circuits_of_allowed=20)
    for n in (0, 1, 2):
        relay.reserve(PEERS[n], at(n, n), 0.0)
    for target, most in ((0, 20), (2, 16)):
        answers = [relay.connect(PEERS[3 + n % 20], at(1, 9 + n), PEERS[target], 0.0) for n in range(most + 1)]
        assert answers[most] is Status.RESOURCE_LIMIT_EXCEEDED and opened(answers[most - 1])
    circuits = [opened(relay.connect(PEERS[0], HERE, PEERS[target], 0.0)) for target in (1, 2)]
    assert not any(circuit.counted or circuit.asked_by_stranger for circuit in circuits)
    more = [relay.connect(PEERS[0], HERE, PEERS[1], 0.0) for _ in range(19)]
    assert all(isinstance(each, Circuit) for each in more[:18]) and more[18] is Status.RESOURCE_LIMIT_EXCEEDED


def test_strangers_have_a_limit_and_who_is_allowed_has_none() -> None:
    relay = places(allowed=(0,))
    for n in (0, 1):
        relay.reserve(PEERS[n], at(n), 0.0)
    assert opened(relay.connect(PEERS[2], HERE, PEERS[1], 0.0)).limit == Limit(120, 128 * 1024)
    assert opened(relay.connect(PEERS[2], HERE, PEERS[0], 0.0)).limit is UNLIMITED
    assert opened(relay.connect(PEERS[0], HERE, PEERS[1], 0.0)).limit is UNLIMITED
    assert relay.limit(PEERS[1]).binds
    assert not relay.limit(PEERS[0]).binds
    assert repr(relay) == "<RelayPlaces: 2 reservations, 3 circuits>"


def test_an_allowed_peer_has_more_circuits() -> None:
    relay = places(allowed=(0,), circuits_of_allowed=18)
    relay.reserve(PEERS[0], HERE, 0.0)
    answers = [relay.connect(PEERS[1 + n], at(1, n), PEERS[0], 0.0) for n in range(19)]
    assert all(isinstance(answer, Circuit) for answer in answers[:18])
    assert answers[18] is Status.RESOURCE_LIMIT_EXCEEDED


def test_who_asks_without_end_is_answered_at_a_bounded_rate_and_others_do_not_notice() -> None:
    relay = places()
    answered = sum(relay.may_ask(PEERS[0], tick / 100) for tick in range(1000))
    assert answered == 64 + 19  # two a second after the first
    assert relay.may_ask(PEERS[1], 10.0)
    relay.peer_disconnected(PEERS[0])
    assert relay.may_ask(PEERS[0], 10.0)


def test_strangers_cannot_be_given_everything() -> None:
    with pytest.raises(ValueError, match="limit"):
        RelayParameters(limit=Limit(120, 0))


def test_attack_3_who_asks_and_goes_again_and_again_leaves_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.protocols.relay.places.QUESTIONERS_MAX", 5)
    relay = places()
    assert all(relay.may_ask(peer, 0.0) for peer in PEERS)
    assert len(relay._questions) == 5
