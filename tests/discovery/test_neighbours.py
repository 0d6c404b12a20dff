"""Which neighbours are dialled, and when."""

from stack.discovery.neighbours import (
    ADDRESSES_MAX,
    BACKOFF_FIRST_SECONDS,
    BACKOFF_LAST_SECONDS,
    CONNECTED_MAX,
    DIAL_BURST,
    DIAL_RATE,
    FRESH_SECONDS,
    POLITE_SECONDS,
    REMEMBERED_MAX,
    Neighbours,
)
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from tests.net.identities import peers_in_order

FIRST, OURS, LAST = peers_in_order(3)
AT = (Multiaddr.parse("/ip4/10.0.0.2/tcp/1"),)
ELSEWHERE = (Multiaddr.parse("/ip4/10.0.0.2/tcp/2"),)


def stranger(number: int) -> PeerId:
    return PeerId.decode(b"\x00\x08" + number.to_bytes(8, "big"))


def table(ours: PeerId = OURS) -> Neighbours:
    return Neighbours(ours, 0.0)


def test_the_smaller_id_dials_and_the_larger_one_waits_a_moment() -> None:
    neighbours = table()
    neighbours.heard(LAST, AT, 0.0, connected=False)
    neighbours.heard(FIRST, AT, 0.0, connected=False)
    assert neighbours.next_timeout(0.0) == 0.0
    assert neighbours.next_dial(0.0) == (LAST, AT)
    assert neighbours.next_dial(0.0) is None
    assert neighbours.next_timeout(0.0) == POLITE_SECONDS
    assert neighbours.next_dial(POLITE_SECONDS) == (FIRST, AT)
    assert neighbours.next_timeout(1.0) is None


def test_who_is_connected_is_not_dialled() -> None:
    neighbours = table()
    neighbours.heard(LAST, AT, 0.0, connected=True)
    neighbours.heard(FIRST, AT, 0.0, connected=False)
    neighbours.connected(FIRST)
    neighbours.connected(stranger(1))
    assert neighbours.next_dial(1.0) is None
    assert neighbours.next_timeout(1.0) is None
    assert neighbours.rows() == [(LAST, AT, True), (FIRST, AT, True)]
    assert len(neighbours) == 2


def test_a_neighbour_that_cannot_be_reached_is_tried_ever_more_rarely_while_it_is_heard_of() -> None:
    neighbours = table()
    now, waits = 0.0, []
    for _ in range(12):
        neighbours.heard(LAST, AT, now, connected=False)
        assert neighbours.next_dial(now) is not None
        neighbours.failed(LAST, now)
        due = neighbours.next_timeout(now)
        while due is None:  # it has to be heard of again
            now += 60
            neighbours.heard(LAST, AT, now, connected=False)
            due = neighbours.next_timeout(now)
        waits.append(due - now)
        now = due
    assert waits[:3] == [BACKOFF_FIRST_SECONDS, 2 * BACKOFF_FIRST_SECONDS, 4 * BACKOFF_FIRST_SECONDS]
    assert max(waits) <= BACKOFF_LAST_SECONDS


def test_who_is_not_heard_of_any_more_is_not_dialled() -> None:
    neighbours = table()
    neighbours.heard(LAST, AT, 0.0, connected=False)
    neighbours.failed(LAST, FRESH_SECONDS - 1)
    assert neighbours.next_timeout(FRESH_SECONDS) is None
    assert neighbours.next_dial(FRESH_SECONDS + 100) is None


def test_a_connection_that_ends_is_made_again_after_a_rest() -> None:
    neighbours = table()
    neighbours.heard(LAST, AT, 0.0, connected=True)
    neighbours.disconnected(LAST, 1.0)
    neighbours.disconnected(stranger(1), 1.0)
    assert neighbours.next_dial(1.0) is None
    assert neighbours.next_timeout(1.0) == 1.0 + BACKOFF_FIRST_SECONDS
    assert neighbours.next_dial(1.0 + BACKOFF_FIRST_SECONDS) == (LAST, AT)


def test_new_addresses_are_added_and_dialled_soon() -> None:
    neighbours = table()
    neighbours.heard(LAST, AT, 0.0, connected=False)
    neighbours.next_dial(0.0)
    for _ in range(5):
        neighbours.failed(LAST, 0.0)
    neighbours.heard(LAST, ELSEWHERE, 1.0, connected=False)
    neighbours.heard(LAST, AT, 1.0, connected=False)
    assert neighbours.next_dial(1.0 + POLITE_SECONDS) == (LAST, (*ELSEWHERE, *AT))
    many = tuple(Multiaddr.parse(f"/ip4/10.0.0.2/tcp/{n}") for n in range(3, 100))
    neighbours.heard(LAST, many, 2.0, connected=False)
    assert len(neighbours.rows()[0][1]) == ADDRESSES_MAX


def test_a_flood_of_made_up_names_is_bounded_and_dialled_at_a_walk() -> None:
    neighbours = table(stranger(0))
    neighbours.heard(LAST, AT, 0.0, connected=True)
    dialled = 0
    for number in range(1, 3_000):
        now = number / 300
        neighbours.heard(stranger(number), AT, now, connected=False)
        while (dial := neighbours.next_dial(now)) is not None:
            neighbours.failed(dial[0], now)
            dialled += 1
    assert len(neighbours) == REMEMBERED_MAX
    assert dialled <= DIAL_BURST + 10 * DIAL_RATE + 1
    assert LAST in [peer for peer, _, _ in neighbours.rows()]
    due = neighbours.next_timeout(10.0)
    assert due is not None
    assert due > 10.0


def test_a_table_full_of_connected_ones_takes_nobody_else_and_dials_nobody() -> None:
    neighbours = table()
    for number in range(REMEMBERED_MAX):
        neighbours.heard(stranger(number), AT, 0.0, connected=True)
    neighbours.heard(LAST, AT, 0.0, connected=False)
    assert LAST not in [peer for peer, _, _ in neighbours.rows()]
    assert REMEMBERED_MAX > CONNECTED_MAX
    assert neighbours.next_dial(1.0) is None
    assert neighbours.next_timeout(1.0) is None
