"""One peer as a session sees it, by itself."""

import pytest

from stack.bitswap.ledger import WANTS_MAX
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SAMPLE_SECONDS, SessionPeer
from stack.bitswap.session_want import SessionWant
from tests.bitswap.simulation import KIB, MIB, cid_of, peer_named

PARAMETERS = SessionParameters()
SIZE = 256 * KIB
WANTS = [SessionWant(cid_of(number), number, 0.0) for number in range(20)]


def a_peer() -> SessionPeer:
    return SessionPeer(peer_named("alice"), PARAMETERS, full=True)


def test_a_peer_shows_its_state_and_what_it_owes() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], SIZE, 0.0)
    assert repr(peer) == f"<SessionPeer {peer.peer} known, owes 1>"


def test_A46_two_sessions_fit_into_what_a_server_keeps() -> None:
    assert 2 * PARAMETERS.wants_max <= WANTS_MAX


def test_all_peers_together_are_bound_by_their_windows_alone_where_no_limit_is_set() -> None:
    assert PARAMETERS.together_max == PARAMETERS.peers_max * PARAMETERS.window_max


def test_one_provider_alone_is_asked_for_more_than_one_of_many_but_within_its_window() -> None:
    assert PARAMETERS.window_min < PARAMETERS.window_together <= PARAMETERS.window_max


def test_a_peer_that_sent_a_block_gives_hope_whatever_it_refuses_after_that() -> None:
    peer = a_peer()
    assert peer.hopeful
    peer.misses = 1
    assert not peer.hopeful
    peer.count_block(SIZE, None, 1.0)
    peer.misses = 1
    assert peer.hopeful


def test_a_peer_without_rank_has_room_for_one_want_when_it_has_rested_and_owes_nothing() -> None:
    peer = a_peer()
    peer.stalled = True
    peer.take_rest(10.0)
    assert peer.room(10.24) == (0, 0)
    assert peer.room(10.25) == (1, 1)
    peer.ask(WANTS[0], SIZE, 10.25)
    assert peer.room(10.25) == (0, 0)


def test_there_is_no_room_until_a_quarter_of_the_window_is_free() -> None:
    peer = a_peer()
    peer.count_block(1000, None, 0.0)
    peer.rate = None
    peer.blocks = 1
    for want in WANTS[:13]:
        peer.ask(want, SIZE, 0.0)
    assert peer.room(0.0) == (0, 0)
    peer.release(WANTS[0])
    assert peer.room(0.0) == (4 * SIZE, PARAMETERS.wants_max - 12)


def test_a_peer_that_has_sent_nothing_yet_is_asked_for_little() -> None:
    peer = a_peer()
    assert peer.room(0.0) == peer.room(0.0, 16 * MIB) == (PARAMETERS.window_first, PARAMETERS.wants_max)
    assert PARAMETERS.window_first == 512 * 1024
    peer.count_block(SIZE, None, 0.0)
    assert peer.room(0.0, 16 * MIB) == (16 * MIB, PARAMETERS.wants_max)
    small = SessionPeer(peer_named("bob"), SessionParameters(window_min=1000), full=True)
    assert small.room(0.0)[0] == 1000


def test_bytes_of_a_message_that_broke_off_are_forgotten_when_it_is_asked_anew() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], SIZE, 0.0)
    peer.progress(1.0, 1000)
    peer.ask(WANTS[1], SIZE, 1.0)
    assert peer.arriving == 1000
    peer.release(WANTS[0])
    peer.release(WANTS[1])
    peer.ask(WANTS[2], SIZE, 9.0)
    assert peer.arriving == 0


def test_a_pace_is_told_from_a_fifth_of_a_second_on() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], SIZE, 0.0)
    peer.progress(SAMPLE_SECONDS / 2, 500)
    assert peer.speed is None
    peer.progress(SAMPLE_SECONDS, 500)
    assert peer.speed == pytest.approx(5000)


def test_a_pace_is_reckoned_from_when_it_was_asked() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], SIZE, 64.0)
    peer.progress(64.125, 500)
    assert peer.speed is None
    peer.progress(64.5, 500)
    assert peer.speed == 2000


def test_a_block_that_took_longer_than_the_patience_says_that_its_sender_creeps() -> None:
    for size, creeps in ((200, False), (201, True)):
        peer = a_peer()
        peer.ask(WANTS[0], SIZE, 0.0)
        peer.progress(1.0, 100)
        peer.count_arrived(size)
        assert peer.creeps is creeps


def test_of_a_peer_of_unknown_speed_only_its_silence_counts() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], SIZE, 0.0)
    assert peer.time_left(WANTS[0], 0.25) == 0.25


def test_more_than_it_owes_leaves_no_time_to_wait() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], 1000, 0.0)
    peer.progress(1.0, 1500)
    assert peer.time_left(WANTS[0], 1.0) == 0.0


def test_the_window_of_a_peer_of_unknown_delay_does_not_grow() -> None:
    peer = a_peer()
    peer.count_block(100 * MIB, None, 1.0)
    assert peer.rate == pytest.approx(100 * MIB)
    assert peer.window == PARAMETERS.window_min


def test_the_window_is_twice_what_the_line_holds() -> None:
    peer = a_peer()
    peer.ask(WANTS[0], SIZE, 64.0)
    peer.count_block(10 * MIB, 64.0, 64.5)
    assert peer.delay == 0.5
    assert peer.rate == 20 * MIB
    assert peer.window == 20 * MIB


def test_attack_9_who_is_overtaken_is_asked_for_little_until_it_brings_something() -> None:
    peer = SessionPeer(peer_named("alice"), SessionParameters(), full=True)
    peer.overtaken(10.0)
    rest = peer.rest
    assert peer.poor and rest == peer.parameters.rest_min and peer.rest_until == 10.0 + rest
    peer.overtaken(10.0)
    assert peer.rest == rest
    peer.overtaken(11.0)
    assert peer.rest == 2 * rest
    peer.count_block(1000, 10.0, 12.0)
    assert not peer.poor
    for _ in range(2):
        peer.overtaken(13.0)
        assert peer.poor and not peer.rest and peer.rest_until == 13.0 + peer.parameters.rest_min
