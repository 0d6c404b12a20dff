"""What is asked for a second time at the end, and how much of it."""

from stack.bitswap.endgame import fastest_first, wants_to_duplicate
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_want import SessionWant
from tests.bitswap.simulation import KIB, cid_of, peer_named

SIZE = 256 * KIB
NOW = 100.0
SILENT = 4.0


def meeting(count: int = 12, *, endgame_least: float = 0.2) -> tuple[SessionPeer, SessionPeer, list[SessionWant]]:
    """One that owes blocks and has been silent for four seconds, one that has time, and what is owed."""
    parameters = SessionParameters(endgame_least=endgame_least)
    late = SessionPeer(peer_named("late"), parameters, full=True)
    idle = SessionPeer(peer_named("idle"), parameters, full=True)
    idle.blocks = 1
    wants = [SessionWant(cid_of(number), number, 0.0) for number in range(count)]
    for want in wants:
        late.ask(want, SIZE, NOW - SILENT)
    return late, idle, wants


def test_as_much_is_asked_for_again_as_comes_in_half_of_the_time_the_other_needs() -> None:
    late, idle, wants = meeting()
    idle.rate = 2.0 * SIZE
    assert wants_to_duplicate(idle, [late], SIZE, NOW) == wants[:-5:-1]  # two seconds of its rate, the newest first


def test_what_is_late_by_the_least_that_counts_is_asked_for_again() -> None:
    late, idle, wants = meeting(1, endgame_least=SILENT)
    assert wants_to_duplicate(idle, [late], SIZE, NOW) == wants
    assert wants_to_duplicate(idle, [late], SIZE, NOW - 0.125) == []


def test_one_block_is_asked_for_again_where_there_is_room_for_one_or_for_less() -> None:
    for window in (SIZE // 2, SIZE, 2 * SIZE - 1):
        late, idle, wants = meeting()
        idle.window = window
        assert wants_to_duplicate(idle, [late], SIZE, NOW) == wants[-1:]


def test_what_is_owed_only_by_those_who_have_brought_nothing_is_asked_of_a_third_too() -> None:
    late, idle, wants = meeting(1)
    second = SessionPeer(peer_named("second"), late.parameters, full=True)
    second.ask(wants[0], SIZE, NOW - 1.0)
    assert wants_to_duplicate(idle, [late, second], SIZE, NOW) == wants


def creeping(number: int, want: SessionWant, seconds: float) -> SessionPeer:
    """One that has been sending this want for four seconds and will be done in so many more."""
    peer = SessionPeer(peer_named(f"creeping {number}"), SessionParameters(), full=True)
    peer.ask(want, SIZE, NOW - SILENT)
    peer.progress(NOW, int(SIZE * SILENT / (SILENT + seconds)))
    assert abs(peer.time_left(want, NOW) - seconds) < 0.001
    return peer


def test_attack_9_what_two_owe_who_creep_is_asked_of_a_third_that_is_twice_as_fast_as_the_better_of_them() -> None:
    want = SessionWant(cid_of(1), 1, 0.0)
    two = [creeping(1, want, 60.0), creeping(2, want, 8.0)]
    idle = SessionPeer(peer_named("idle"), SessionParameters(), full=True)
    idle.blocks, idle.rate = 1, SIZE / 4.5
    assert wants_to_duplicate(idle, two, SIZE, NOW) == []
    idle.rate = SIZE / 3.5
    assert wants_to_duplicate(idle, two, SIZE, NOW) == [want]
    idle.ask(want, SIZE, NOW)
    other = SessionPeer(peer_named("other"), SessionParameters(), full=True)
    other.blocks, other.rate = 1, SIZE / 3.0
    assert wants_to_duplicate(other, [*two, idle], SIZE, NOW) == []


def test_attack_9_who_creeps_counts_as_one_that_has_failed_where_nobody_idle_has_brought_anything() -> None:
    want = SessionWant(cid_of(1), 1, 0.0)
    askers = [creeping(1, want, 60.0)]
    idle = SessionPeer(peer_named("idle"), SessionParameters(), full=True)
    for number in range(3):
        assert wants_to_duplicate(idle, askers, SIZE, NOW) == [want]
        askers.append(SessionPeer(peer_named(f"another {number}"), SessionParameters(), full=True))
        askers[-1].ask(want, SIZE, NOW)
    assert wants_to_duplicate(idle, askers, SIZE, NOW) == []


def test_attack_9_the_fastest_that_has_time_is_asked_first() -> None:
    slow, fast, new = (SessionPeer(peer_named(name), SessionParameters(), full=True) for name in ("a", "b", "c"))
    slow.blocks = fast.blocks = 1
    slow.rate, fast.rate = 1.0, 2.0
    assert fastest_first([new, slow, fast]) == [fast, slow, new]
    fast.misses = 1
    assert fastest_first([new, slow, fast]) == [slow, fast, new]


def test_four_times_as_many_are_asked_as_have_let_us_wait_for_it() -> None:
    late, idle, wants = meeting(1)
    idle.blocks = 0
    askers = [late]
    for number in range(3):
        assert wants_to_duplicate(idle, askers, SIZE, NOW) == wants
        askers.append(SessionPeer(peer_named(f"another {number}"), late.parameters, full=True))
        askers[-1].ask(wants[0], SIZE, NOW - 0.125)
    assert wants_to_duplicate(idle, askers, SIZE, NOW) == []
    assert wants_to_duplicate(idle, askers, SIZE, NOW + 1) == wants


def test_four_times_as_many_are_asked_as_have_failed_to_bring_it() -> None:
    late, idle, wants = meeting(1)
    idle.blocks = 0
    askers = [late]
    late.outstanding[wants[0]] = (NOW, SIZE)
    assert wants_to_duplicate(idle, askers, SIZE, NOW) == []
    wants[0].failures = 1
    for number in range(2):
        assert wants_to_duplicate(idle, askers, SIZE, NOW) == wants
        askers.append(SessionPeer(peer_named(f"another {number}"), late.parameters, full=True))
        askers[-1].ask(wants[0], SIZE, NOW)
    assert wants_to_duplicate(idle, askers, SIZE, NOW) == []


def test_who_has_brought_something_is_asked_as_soon_as_the_first_has_let_us_wait() -> None:
    late, idle, wants = meeting(1)
    others = [SessionPeer(peer_named(f"another {number}"), late.parameters, full=True) for number in range(10)]
    for other in others:
        other.ask(wants[0], SIZE, NOW - 0.125)
    assert wants_to_duplicate(idle, [late, *others], SIZE, NOW) == wants
    assert wants_to_duplicate(idle, [late, *others], SIZE, NOW - SILENT + 0.25) == []


def test_what_is_on_its_way_from_one_of_two_is_not_asked_for_again() -> None:
    late, idle, wants = meeting(1)
    idle.rate = SIZE / 1.1
    assert wants_to_duplicate(idle, [late, creeping(1, wants[0], 2.0)], SIZE, NOW) == []
