"""The places of a session: who brings nothing keeps nobody out who may, neither of the connections nor of what is remembered."""

import pytest

from stack.bitswap.effects import Connect, PeerForgotten
from stack.bitswap.session_peers import DROPPED_KEPT, KNOWN_FACTOR
from stack.identity.peer_id import PeerId
from tests.bitswap.simulation import peer_named
from tests.bitswap.test_session import ALICE, BOB, CAROL, Fetch

OTHERS = [peer_named(f"other {index}") for index in range(300)]
KNOWN = KNOWN_FACTOR * 64


def dialled_within(fetch: Fetch, peer: PeerId, seconds: float) -> float | None:
    """After how long this peer is dialled; all others whom the session dials are connected at once, and say nothing."""
    start = fetch.now
    while fetch.now <= start + seconds:
        for effect in fetch.drain():
            if isinstance(effect, Connect) and effect.peer == peer:
                return fetch.now - start
            if isinstance(effect, Connect):
                fetch.machine.peer_connected(effect.peer)
        fetch.now += 0.05
        deadline = fetch.machine.next_timeout()
        if deadline is not None and fetch.now >= deadline:
            fetch.machine.handle_timeout(fetch.now)
    return None


@pytest.mark.parametrize("crowd", [63, 64, 80])
def test_a_sharer_that_was_lost_is_dialled_again_however_many_others_have_nothing_for_us(crowd: int) -> None:
    fetch = Fetch(400, ALICE, leaves=True)
    fetch.drain()
    for number in range(40):
        fetch.block(ALICE, number, after=0.01)
    for other in OTHERS[:crowd]:
        fetch.machine.peer_connected(other)
        fetch.machine.add_peer(other, full=False)
        fetch.ranges(other, 400, (0, 40))
    fetch.drain()
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    assert dialled_within(fetch, ALICE, 5) is not None


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("crowd", [63, 64, 200])
def test_those_whom_the_swarm_has_named_and_who_are_silent_keep_nobody_out(crowd: int, full: bool) -> None:
    fetch = Fetch(1)
    for other in OTHERS[:crowd]:
        fetch.machine.add_peer(other, full=False)
    assert dialled_within(fetch, ALICE, 20) is None
    fetch.machine.add_peer(ALICE, full=full)
    assert dialled_within(fetch, ALICE, 1) is not None


@pytest.mark.parametrize("crowd", [64, 100])
def test_providers_that_turn_out_to_have_nothing_keep_nobody_out(crowd: int) -> None:
    fetch = Fetch(4, leaves=True)
    for other in OTHERS[:crowd]:
        fetch.machine.add_peer(other)
        fetch.machine.peer_connected(other)
        fetch.ranges(other, 4)
    fetch.machine.add_peer(ALICE)
    assert dialled_within(fetch, ALICE, 5) is not None


def test_while_somebody_brings_blocks_the_idle_make_way_for_who_has_everything_alone() -> None:
    fetch = Fetch(40, ALICE, leaves=True, peers_max=2)
    fetch.drain()
    fetch.block(ALICE, 0)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 40, (0, 1))
    fetch.machine.add_peer(CAROL, full=False)
    fetch.machine.add_peer(OTHERS[0])
    fetch.machine.add_peer(OTHERS[1])
    assert [effect.peer for effect in fetch.drain() if isinstance(effect, Connect)] == [OTHERS[0]]


def test_who_has_brought_blocks_and_lacks_what_is_left_does_not_hide_that_a_session_starves() -> None:
    fetch = Fetch(40, ALICE, leaves=True, dials=1)
    fetch.drain()
    fetch.block(ALICE, 0, after=0.01)
    fetch.ranges(ALICE, 40, (0, 1))
    for number in list(fetch.owed[ALICE]):
        fetch.refuse(ALICE, number)
    for other in OTHERS[:10]:
        fetch.machine.add_peer(other)
    assert sum(isinstance(effect, Connect) for effect in fetch.drain()) == 10


def test_a_session_that_keeps_what_came_does_not_starve() -> None:
    fetch = Fetch(2, ALICE, dials=1, window_first=1, window_min=1)
    fetch.drain()
    fetch.machine.pause()
    fetch.block(ALICE, 0)
    for other in OTHERS[:10]:
        fetch.machine.add_peer(other)
    assert sum(isinstance(effect, Connect) for effect in fetch.drain()) == 1


# what is remembered


def full_of_dropped(count: int = KNOWN) -> Fetch:
    fetch = Fetch(1)
    for other in OTHERS[:count]:
        assert fetch.machine.add_peer(other)
        fetch.machine.peer_unreachable(other, fetch.now, reason=f"is not {other}")
    return fetch


def test_those_that_were_dropped_make_way_first() -> None:
    fetch = full_of_dropped(KNOWN - 1)
    fetch.machine.add_peer(BOB)
    fetch.machine.peer_unreachable(BOB, fetch.now)
    assert fetch.peer(BOB).useless
    assert fetch.machine.add_peer(ALICE)
    assert fetch.machine.add_peer(CAROL, full=False)
    assert fetch.peer(BOB).useless
    assert {effect.peer for effect in fetch.drain() if isinstance(effect, Connect)} == {ALICE, CAROL}


def test_why_the_last_were_dropped_is_remembered_and_they_do_not_come_back() -> None:
    fetch = full_of_dropped()
    fresh = [peer_named(f"fresh {index}") for index in range(DROPPED_KEPT)]
    assert all(fetch.machine.add_peer(peer) for peer in fresh)
    assert {report.peer: report.dropped for report in fetch.machine.reports()} == {
        **{other: f"is not {other}" for other in OTHERS[:KNOWN]},
        **dict.fromkeys(fresh),
    }
    assert not fetch.machine.add_peer(OTHERS[0])
    fetch.machine.peer_connected(OTHERS[0])
    assert PeerForgotten(peer=OTHERS[0]) not in fetch.drain()


def test_what_is_remembered_of_those_that_were_dropped_is_bounded() -> None:
    fetch = full_of_dropped()
    for index in range(DROPPED_KEPT + 1):
        assert fetch.machine.add_peer(peer_named(f"fresh {index}"))
    assert len(fetch.machine.reports()) == KNOWN + DROPPED_KEPT
    assert PeerForgotten(peer=OTHERS[0]) in fetch.drain()
    assert fetch.machine.add_peer(OTHERS[0])


def test_those_whom_only_the_swarm_named_make_way_for_who_is_said_to_have_it() -> None:
    fetch = Fetch(1, *OTHERS[:1])
    for other in OTHERS[1:KNOWN]:
        fetch.machine.add_peer(other, full=False)
        fetch.machine.peer_connected(other)
    fetch.drain()
    assert not fetch.machine.add_peer(BOB, full=False)
    assert fetch.machine.add_peer(ALICE)
    assert fetch.machine._peers.get(OTHERS[1]) is None
    assert fetch.machine._peers.get(OTHERS[0]) is not None
    assert Connect(peer=ALICE) in fetch.drain()


def test_of_those_of_no_use_who_was_said_to_have_it_is_remembered_longest() -> None:
    fetch = Fetch(1)
    for index, other in enumerate(OTHERS[:KNOWN]):
        fetch.machine.add_peer(other, full=index == 0)
    for _ in range(2):
        fetch.machine.peer_unreachable(OTHERS[0], fetch.now)
    fetch.machine.peer_unreachable(OTHERS[5], fetch.now)
    assert fetch.machine.add_peer(ALICE, full=False)
    assert fetch.machine._peers.get(OTHERS[0]) is not None
    assert fetch.machine._peers.get(OTHERS[5]) is None
