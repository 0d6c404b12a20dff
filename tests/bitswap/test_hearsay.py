"""What others say of a peer never keeps a session from asking it: only what it says itself does."""

from collections.abc import Callable

import pytest

from stack.bitswap.effects import Ask
from stack.identity.peer_id import PeerId
from stack.protocols.providers.ranges import LeafRanges
from tests.bitswap.test_session import ALICE, BOB, CIDS, NUMBER, Fetch

LEAVES = 10


def heard(fetch: Fetch, peer: PeerId, *runs: tuple[int, int]) -> None:
    """Somebody else says that a peer has these leaves."""
    ranges = LeafRanges(LEAVES)
    for start, end in runs:
        ranges.add(start, end)
    fetch.machine.receive_ranges(peer, ranges, hearsay=True)


def named_by_the_swarm(count: int = LEAVES) -> Fetch:
    """BOB is connected, and nobody but the swarm has named it."""
    fetch = Fetch(count, leaves=True)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    return fetch


def test_who_was_named_as_having_it_is_not_silenced_by_what_others_say() -> None:
    fetch = Fetch(LEAVES, ALICE, leaves=True)
    heard(fetch, ALICE)
    assert fetch.peer(ALICE).full
    assert fetch.asked() == {ALICE: list(range(LEAVES))}


def test_in_the_middle_of_a_fetch_a_provider_without_a_word_of_its_own_is_asked_on() -> None:
    fetch = Fetch(40, ALICE, leaves=True)
    fetch.drain()
    for number in range(2):
        fetch.block(ALICE, number, after=0.1)
    heard(fetch, ALICE)
    asked = 2
    while fetch.machine.wanted and asked < 100:
        fetch.drain()
        for number in list(fetch.owed[ALICE]):
            fetch.block(ALICE, number, after=0.01)
            asked += 1
    assert (fetch.machine.wanted, asked) == (0, 40)


def first_the_ticket(fetch: Fetch) -> None:
    fetch.machine.add_peer(BOB)
    heard(fetch, BOB)


def then_the_ticket(fetch: Fetch) -> None:
    heard(fetch, BOB)
    fetch.machine.add_peer(BOB)


@pytest.mark.parametrize("tell", [first_the_ticket, then_the_ticket])
def test_whoever_names_it_as_having_all_counts_more_than_hearsay(tell: Callable[[Fetch], None]) -> None:
    fetch = named_by_the_swarm()
    tell(fetch)
    assert fetch.asked() == {BOB: list(range(LEAVES))}


def test_what_it_says_itself_counts_more_than_hearsay_before_and_after() -> None:
    fetch = named_by_the_swarm()
    heard(fetch, BOB, (0, 9))
    fetch.ranges(BOB, LEAVES, (2, 4))
    heard(fetch, BOB)
    heard(fetch, BOB, (5, 6))
    fetch.machine.receive_ranges(BOB, None, hearsay=True)
    assert fetch.asked() == {BOB: [2, 3]}
    fetch.ranges(BOB, LEAVES, (2, 5))
    fetch.block(BOB, 2, after=0.01)
    assert fetch.asked() == {BOB: [4]}


def test_of_whom_the_swarm_alone_has_named_hearsay_tells_what_it_has() -> None:
    fetch = named_by_the_swarm()
    heard(fetch, BOB, (2, 4))
    assert fetch.asked() == {BOB: [2, 3]}
    fetch.machine.receive_ranges(BOB, None, hearsay=True)
    heard(fetch, BOB)
    assert sorted(fetch.asked()[BOB]) == [0, 1, 4, 5, 6, 7, 8, 9]


def test_who_is_said_to_lack_it_is_asked_whether_that_is_so_and_its_answer_counts() -> None:
    fetch = named_by_the_swarm()
    heard(fetch, BOB, (2, 4))
    probes = [effect for effect in fetch.drain() if isinstance(effect, Ask) and effect.have]
    assert {NUMBER[cid.multihash] for effect in probes for cid in effect.cids} >= {0, 1, 4, 5, 6, 7, 8, 9}
    heard(fetch, BOB)
    fetch.have(BOB, 7)
    fetch.drain()
    assert 7 in fetch.owed[BOB]


def test_who_says_itself_what_it_has_is_not_asked_about_the_rest() -> None:
    fetch = named_by_the_swarm()
    fetch.ranges(BOB, LEAVES, (2, 4))
    assert fetch.drain() == [Ask(peer=BOB, cids=tuple(CIDS[2:4]))]
