"""What a meeting point keeps, and for how many."""

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.code import plates as plates_module
from stack.protocols.code.messages import Holder, MeetStatus
from stack.protocols.code.plates import GROUPS_MAX, OF_GROUP_MAX, OF_PEER_MAX, QUESTION_BURST, Plates
from tests.bitswap.simulation import peer_named

OWN, ALICE, BOB = (peer_named(name) for name in ("own", "alice", "bob"))
HERE = Multiaddr.parse("/ip4/45.79.1.2/tcp/4001")
REACHED = (Multiaddr.parse("/ip4/45.79.1.2/tcp/5001"),)


def address(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/45.{number >> 16}.{number >> 8 & 255}.{number & 255}/tcp/1")


@pytest.fixture
def plates() -> Plates:
    return Plates(OWN)


def test_a_number_is_one_peers_until_it_leaves(plates: Plates) -> None:
    assert plates.hold(ALICE, HERE, 4, REACHED) is MeetStatus.OK
    assert plates.hold(BOB, HERE, 4, ()) is plates.hold(ALICE, HERE, 4, ()) is MeetStatus.TAKEN
    assert plates.seek(4) == Holder(ALICE, REACHED) and plates.seek(5) is None
    plates.left(4)
    assert plates.seek(4) is None and plates.hold(BOB, HERE, 4, ()) is MeetStatus.OK


def test_what_this_node_gives_is_nobody_elses_number(plates: Plates) -> None:
    assert plates.hold(ALICE, HERE, 5, ()) is MeetStatus.OK
    assert plates.hold_own(4) and not plates.hold_own(4) and not plates.hold_own(5)
    assert plates.seek(4) == Holder(OWN) and plates.hold(ALICE, HERE, 4, ()) is MeetStatus.TAKEN
    plates.leave_own(4)
    assert plates.seek(4) is None and repr(plates) == "<Plates: 1 numbers>"


@pytest.mark.parametrize("number", [0, 10_000, 1 << 31])
def test_a_number_that_nobody_would_say_is_not_held(plates: Plates, number: int) -> None:
    assert plates.hold(ALICE, HERE, number, ()) is MeetStatus.TAKEN


def test_one_peer_and_one_place_hold_so_many_and_all_together_too(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peer ids cost nothing: who has many of them is counted by where he is."""
    held = [plates.hold(ALICE, HERE, number, ()) for number in range(1, 20)]
    assert held.count(MeetStatus.OK) == OF_PEER_MAX and held[-1] is MeetStatus.BUSY
    others = [plates.hold(peer_named(str(number)), HERE, number, ()) for number in range(20, 100)]
    assert others.count(MeetStatus.OK) == OF_GROUP_MAX - OF_PEER_MAX
    monkeypatch.setattr(plates_module, "PLATES_MAX", 64)
    for number in range(100, 200):
        plates.hold(peer_named(str(number)), address(number), number, ())
    assert len(plates) == 64


def test_questions_are_counted_by_where_they_come_from(plates: Plates) -> None:
    asked = [plates.may_ask(peer_named(str(number)), HERE, 0.0) for number in range(100)]
    assert asked.count(True) == QUESTION_BURST
    assert plates.may_ask(ALICE, address(7), 0.0) and plates.may_ask(ALICE, HERE, 1.0)
    for number in range(GROUPS_MAX + 10):
        plates.may_ask(ALICE, address(number), 2.0)
    assert len(plates._buckets) == GROUPS_MAX


def test_on_one_computer_each_peer_is_counted_by_itself(plates: Plates) -> None:
    near = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
    assert all(plates.may_ask(peer_named(str(number)), near, 0.0) for number in range(2 * QUESTION_BURST))
