"""Who gives a place back when there are too few for the streams of strangers (attack 4)."""

import pytest

from stack.errors import LimitExceeded
from stack.identity.peer_id import PeerId
from stack.net.limits import MIB, STREAM_BYTES, NetLimits
from stack.net.stream_places import STREAMS_OF_A_PROTOCOL, Place, StreamPlaces
from tests.net.identities import peers_in_order

HONEST, GREEDY, OTHER = peers_in_order(3)


class Table:
    """Places, and the streams that were dropped."""

    def __init__(self, total: int, of_a_peer: int, **bounds: int) -> None:
        self.places = StreamPlaces(total, of_a_peer, bounds)
        self.dropped: list[str] = []

    def take(self, peer: PeerId, name: str) -> Place:
        return self.places.take(peer, lambda: self.dropped.append(name))


def test_attack_4_when_all_places_are_taken_who_holds_most_gives_back_the_one_that_is_idle_for_longest() -> None:
    table = Table(5, 4)
    table.take(HONEST, "honest")
    held = [table.take(GREEDY, f"greedy {number}") for number in range(4)]
    held[0].active = held[1].active = True
    table.take(OTHER, "other")
    assert table.dropped == ["greedy 2"]
    table.take(OTHER, "another")
    assert table.dropped == ["greedy 2", "greedy 3"]
    assert table.places.taken == 5


def test_attack_4_a_peer_that_has_its_part_gives_back_one_of_its_own() -> None:
    table = Table(100, 2)
    for number in range(3):
        table.take(GREEDY, f"greedy {number}")
    assert table.dropped == ["greedy 0"]
    assert table.places.of(GREEDY) == 2


def test_when_all_were_used_since_the_last_look_the_first_goes() -> None:
    table = Table(100, 2)
    for number in range(2):
        table.take(GREEDY, f"greedy {number}").active = True
    table.take(GREEDY, "new")
    assert table.dropped == ["greedy 0"]


def test_a_peer_has_so_many_streams_of_a_protocol() -> None:
    table = Table(1000, 500, ping=2)
    for protocol, bound in (("ping", 2), ("unknown", STREAMS_OF_A_PROTOCOL)):
        for number in range(bound):
            table.places.agree(table.take(GREEDY, f"{protocol} {number}"), protocol)
        with pytest.raises(LimitExceeded, match=protocol):
            table.places.agree(table.take(GREEDY, "too many"), protocol)
        table.places.agree(table.take(HONEST, "of another peer"), protocol)
    assert table.dropped == []


def test_a_place_that_was_given_back_is_free_and_may_be_given_back_again() -> None:
    table = Table(10, 10)
    places = [table.take(GREEDY, "one"), table.take(GREEDY, "two")]
    for place in (*places, *places):
        table.places.release(place)
    assert table.places.taken == 0 and table.places.of(GREEDY) == 0


def test_attack_4_a_peer_has_a_sixteenth_of_the_whole_whatever_the_memory() -> None:
    for memory in (32 * MIB, 64 * MIB, 1024 * MIB):
        limits = NetLimits.of_node(memory, 65_536, low_water=160, high_water=192)
        assert limits.streams_of_a_peer <= limits.streams // 16
        assert limits.streams * STREAM_BYTES <= memory // 4
