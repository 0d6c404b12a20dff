"""A provider whose upload is limited: slow, but no reason to ask anybody else for what it is sending."""

import pytest

from stack.bitswap.effects import Ask, PeerDropped, Withdraw
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_want import SessionWant
from tests.bitswap.simulation import KIB, MIB, cid_of, peer_named
from tests.bitswap.test_session import ALICE, BOB, Fetch

RATE = 12.5 * KIB
"""100 KiB a second for eight receivers."""
STEP = 16 * KIB


def creep(fetch: Fetch, number: int, size: int = MIB) -> list[object]:
    """A block comes in steps of 16 KiB; what the session does meanwhile."""
    for _ in range(size // STEP):
        fetch.now += STEP / RATE
        fetch.machine.handle_timeout(fetch.now)
        fetch.machine.receive_progress(ALICE, fetch.now, STEP)
        fetch.drain()
    before = len(fetch.log)
    fetch.block(ALICE, number, size)
    fetch.drain()
    return fetch.log[before:]


def test_blocks_that_take_over_a_minute_each_are_asked_for_once() -> None:
    fetch = Fetch(4, ALICE, size_guess=MIB)
    fetch.drain()
    asked = [cid for effect in fetch.log if isinstance(effect, Ask) for cid in effect.cids]
    for number in range(4):
        creep(fetch, number)
        report = fetch.machine.reports()[0]
        assert not report.stalled and report.dropped is None
    assert fetch.machine.wanted == 0
    asks = [cid for effect in fetch.log if isinstance(effect, Ask) for cid in effect.cids]
    # The fourth one is asked for once more after five minutes; a server that has it in hand passes over that.
    assert len(asked) == 4 and len(asks) <= 5
    assert not any(isinstance(effect, PeerDropped | Withdraw) for effect in fetch.log)


def test_a_block_that_is_larger_than_it_was_reckoned_with_is_not_taken_for_refused() -> None:
    """Over 20 KB/s `get` said that nothing was shared for the ticket any more while the only block was coming."""
    fetch = Fetch(1, ALICE)
    fetch.drain()
    for _ in range(63):
        fetch.now += STEP / (20 * KIB)
        fetch.machine.handle_timeout(fetch.now)
        fetch.machine.receive_progress(ALICE, fetch.now, STEP)
        fetch.drain()
        report = fetch.machine.reports()[0]
        assert (report.misses, report.denials, report.stalled) == (0, 0, False)


def test_what_a_peer_does_not_send_in_time_it_has_not_denied() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    for _ in range(40):
        fetch.now += 1.0
        fetch.machine.receive_progress(ALICE, fetch.now)
        fetch.machine.handle_timeout(fetch.now)
        fetch.drain()
    report = fetch.machine.reports()[0]
    assert report.misses > 0 and report.denials == 0


def test_whose_line_breaks_while_it_sends_is_tried_again_soon() -> None:
    fetch = Fetch(1, ALICE)
    for number in range(1, 8):
        fetch.drain()
        fetch.machine.receive_progress(ALICE, fetch.now, STEP)
        fetch.machine.peer_unreachable(ALICE, fetch.now)
        fetch.drain()
        assert fetch.machine.reports()[0].broken == number
        fetch.now += SessionParameters().rest_sending
        fetch.machine.handle_timeout(fetch.now)
        fetch.machine.peer_connected(ALICE)
        fetch.drain()
    assert fetch.machine.wanted == 1 and fetch.machine.reports()[0].arriving == 0
    fetch.block(ALICE, 0, MIB)
    fetch.drain()
    assert fetch.machine.wanted == 0


def test_another_provider_is_not_asked_for_a_block_that_is_on_its_way() -> None:
    fetch = Fetch(1, ALICE, size_guess=MIB)
    fetch.drain()
    for step in range(32):
        fetch.now += STEP / RATE
        fetch.machine.handle_timeout(fetch.now)
        fetch.machine.receive_progress(ALICE, fetch.now, STEP)
        assert fetch.asked() == {}, step
    assert fetch.machine.reports()[0].arriving == 32 * STEP


def test_a_fast_peer_takes_over_the_end_all_the_same() -> None:
    fetch = Fetch(1, ALICE, size_guess=MIB)
    fetch.drain()
    fetch.now += STEP / RATE
    fetch.machine.receive_progress(ALICE, fetch.now, STEP)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.machine.handle_timeout(fetch.now)
    assert fetch.asked() == {BOB: [0]}


def test_what_is_on_its_way_sets_the_pace_until_it_is_here() -> None:
    peer = SessionPeer(peer_named("alice"), SessionParameters(), full=True)
    assert peer.speed is None
    peer.ask(SessionWant(cid_of(0), 0, 0.0), MIB, 0.0)
    peer.progress(10.0, 1000)
    assert peer.speed == pytest.approx(100.0)
    peer.rate = 50.0
    assert peer.speed == 50.0
    peer.rate = 500.0
    assert peer.speed == pytest.approx(100.0)
    peer.count_arrived(400)
    assert peer.arriving == 600 and peer.speed == 500.0
    peer.progress(10.1)
    assert peer.speed == 500.0
    peer.connection_lost(10.2)
    assert peer.arriving == 0


def test_a_second_copy_is_no_longer_arriving_once_it_is_here() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.receive_progress(ALICE, fetch.now + 1, 1000)
    fetch.machine.receive_late_block(ALICE, 1000, fetch.now + 1)
    report = fetch.machine.reports()[0]
    assert (report.arriving, report.duplicate_bytes) == (0, 1000)


def test_a_limited_download_asks_all_peers_together_for_two_seconds_of_it() -> None:
    parameters = SessionParameters.limited(MIB)
    assert parameters.together_max == 2 * MIB
    assert SessionParameters.limited(0).together_max == 1
    fetch = Fetch(64, ALICE, BOB, together_max=2 * MIB, size_guess=256 * KIB)
    asked = fetch.asked()
    assert sum(map(len, asked.values())) == 8
    (peer, numbers), *_ = asked.items()
    fetch.block(peer, numbers[0], 256 * KIB, after=0.1)
    assert sum(map(len, fetch.asked().values())) <= 1


def test_at_least_one_block_is_asked_for_however_small_the_limit() -> None:
    fetch = Fetch(64, ALICE, BOB, together_max=1)
    assert sum(map(len, fetch.asked().values())) == 1
