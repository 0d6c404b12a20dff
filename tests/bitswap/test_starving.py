"""A session to which nobody brings anything: most providers may lie, and the few who do not are to be found soon."""

import pytest

from stack.bitswap.effects import Connect
from stack.bitswap.session_want import PeerState
from tests.bitswap.simulation import peer_named
from tests.bitswap.test_session import ALICE, BOB, CAROL, Fetch

STRANGERS = [peer_named(f"stranger {index}") for index in range(100)]


def dialled(fetch: Fetch) -> list[int]:
    """Which of the strangers are dialled now."""
    return [STRANGERS.index(effect.peer) for effect in fetch.drain() if isinstance(effect, Connect)]


def dialled_after(fetch: Fetch, seconds: float) -> list[int]:
    """Which of them are dialled once so much time has passed."""
    fetch.now += seconds
    fetch.machine.handle_timeout(fetch.now)
    return dialled(fetch)


def told_of(fetch: Fetch, count: int) -> None:
    for peer in STRANGERS[:count]:
        fetch.machine.add_peer(peer)


def test_while_nobody_has_brought_anything_thirty_two_are_dialled_at_a_time() -> None:
    fetch = Fetch(1)
    told_of(fetch, 40)
    assert dialled(fetch) == list(range(32))
    fetch.machine.peer_unreachable(STRANGERS[0], fetch.now)
    assert dialled(fetch) == [32]


def test_once_somebody_brings_blocks_eight_are_dialled_at_a_time() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0)
    told_of(fetch, 40)
    assert dialled(fetch) == list(range(8))


def test_when_the_one_that_brought_blocks_has_stalled_more_are_dialled_again() -> None:
    fetch = Fetch(3, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0)
    fetch.wait(5.0)
    assert fetch.peer(ALICE).stalled
    told_of(fetch, 40)
    assert dialled(fetch) == list(range(32))


def test_who_has_failed_is_not_dialled_again_more_than_eight_at_a_time() -> None:
    fetch = Fetch(1)
    told_of(fetch, 32)
    assert dialled(fetch) == list(range(32))
    for peer in STRANGERS[:32]:
        fetch.machine.peer_unreachable(peer, fetch.now)
    assert dialled_after(fetch, 0.5) == list(range(8))
    fetch.machine.add_peer(STRANGERS[50])
    assert dialled(fetch) == [50]  # beside them who was not tried


@pytest.mark.parametrize("starved", [True, False])
def test_a_dial_that_takes_longer_than_a_second_keeps_nobody_from_being_dialled(starved: bool) -> None:
    fetch = Fetch(2, ALICE, dials=2, dials_starved=2)
    fetch.drain()
    if not starved:
        fetch.block(ALICE, 0)
    told_of(fetch, 5)
    assert dialled(fetch) == [0, 1]
    assert dialled_after(fetch, 0.75) == []
    assert dialled_after(fetch, 0.25) == [2, 3]


def test_a_dial_that_takes_long_is_waited_for_by_a_time_out() -> None:
    fetch = Fetch(1, dials_starved=2)
    told_of(fetch, 4)
    assert dialled(fetch) == [0, 1]
    assert fetch.machine.next_timeout() == fetch.now + 1.0
    fetch.machine.peer_connected(STRANGERS[0])
    assert dialled_after(fetch, 1.0) == [2, 3]


def test_a_dial_that_takes_long_holds_a_place_only_while_somebody_brings_blocks() -> None:
    fetch = Fetch(2, ALICE, peers_max=2)
    fetch.drain()
    fetch.block(ALICE, 0)
    told_of(fetch, 3)
    assert dialled(fetch) == [0]
    assert dialled_after(fetch, 1.5) == []
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    assert dialled(fetch) == [1, 2]


def test_who_owes_or_refuses_holds_no_place_while_nobody_brings_anything() -> None:
    fetch = Fetch(3, ALICE, BOB, peers_max=2, window_first=1)
    assert fetch.asked() == {ALICE: [0], BOB: [1]}
    told_of(fetch, 1)
    assert dialled(fetch) == [0]
    fetch.refuse(BOB, 1)
    fetch.drain()
    fetch.block(ALICE, 0)
    fetch.machine.peer_unreachable(STRANGERS[0], fetch.now)
    assert dialled_after(fetch, 0.5) == []


def test_who_has_not_been_asked_holds_a_place_while_somebody_brings_blocks() -> None:
    fetch = Fetch(2, ALICE, peers_max=2)
    fetch.drain()
    fetch.block(ALICE, 0)
    for peer in (BOB, CAROL):
        fetch.machine.peer_connected(peer)
        fetch.machine.add_peer(peer, full=False)
    fetch.machine.add_peer(STRANGERS[0], full=False)
    assert dialled(fetch) == []
    fetch.wait(5.0)
    assert fetch.peer(STRANGERS[0]).state is not PeerState.KNOWN


def test_who_has_refused_and_brought_nothing_is_asked_after_who_brings() -> None:
    fetch = Fetch(3, ALICE, BOB, window_first=1)
    assert fetch.asked() == {ALICE: [0], BOB: [1]}
    fetch.refuse(ALICE, 0)
    fetch.block(BOB, 1, after=0.1)
    assert fetch.asked() == {BOB: [0, 2]}


def test_a_want_that_nobody_answers_is_soon_asked_of_all() -> None:
    fetch = Fetch(1, *STRANGERS)
    assert len(fetch.asked()) == 1
    counts = []
    for _ in range(4):
        fetch.wait(0.6)
        counts.append(sum(bool(owed) for owed in fetch.owed.values()))
    assert counts == [4, 16, 64, 100]


def test_a_want_that_all_refuse_is_soon_asked_of_all() -> None:
    fetch = Fetch(1, *STRANGERS)
    fetch.drain()
    for _ in range(8):
        for peer in STRANGERS:
            if fetch.owed[peer]:
                fetch.refuse(peer, 0)
        fetch.wait(0.1)
    assert len(fetch.owed) == 100
