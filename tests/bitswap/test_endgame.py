"""What is asked for a second time at the end, and how much of it."""

from stack.bitswap.endgame import wants_to_duplicate
from stack.bitswap.session_peer import SessionParameters, SessionPeer, SessionWant
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
    second.progress(NOW, 1)
    assert wants_to_duplicate(idle, [late, second], SIZE, NOW + 3) == []
    second.arriving = 0
    late.blocks = 1
    assert wants_to_duplicate(idle, [late, second], SIZE, NOW + 3) == []


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
    second = SessionPeer(peer_named("second"), late.parameters, full=True)
    second.ask(wants[0], SIZE, NOW - SILENT)
    second.arriving = 1
    assert wants_to_duplicate(idle, [late, second], SIZE, NOW) == []
