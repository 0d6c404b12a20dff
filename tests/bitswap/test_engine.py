"""Whose wants are answered next, and with what."""

import pytest

from stack.bitswap.engine import Engine, EngineParameters, LookUp, PresencesReady, SendBlocks
from stack.bitswap.messages import MESSAGE_BYTES_MAX, WANTS_PER_MESSAGE_MAX, Presence, Want, WantKind
from stack.blocks.interfaces import BLOCK_SIZE_MAX, RealmId
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from tests.bitswap.simulation import KIB, MIB, cid_of, peer_named

ALICE, BOB, CAROL = (peer_named(name) for name in ("alice", "bob", "carol"))
CIDS = [cid_of(index) for index in range(200)]


def trusting(**figures: int) -> EngineParameters:
    """Parameters under which every peer gets whole messages from the first."""
    return EngineParameters(proven=0, fast=0, **figures)


class Server:
    """An engine and a store of sizes; look-ups are answered at once."""

    def __init__(self, parameters: EngineParameters | None = None, *peers: PeerId) -> None:
        self.engine = Engine(parameters if parameters is not None else trusting())
        self.sizes: dict[Cid, int] = {}
        self.now = 0.0
        for peer in peers or (ALICE, BOB, CAROL):
            self.engine.peer_connected(peer)

    def wants(self, peer: PeerId, *wants: Want, full: bool = False) -> None:
        self.engine.receive_wants(peer, wants, full=full)

    def effects(self) -> list[SendBlocks | PresencesReady]:
        """All that happens now, but the look-ups."""
        effects: list[SendBlocks | PresencesReady] = []
        while (effect := self.engine.next_effect(self.now)) is not None:
            if isinstance(effect, LookUp):
                self.engine.looked_up(effect.id, [self.sizes.get(cid) for cid in effect.cids])
            else:
                effects.append(effect)
        return effects

    def sends(self) -> list[SendBlocks]:
        return [effect for effect in self.effects() if isinstance(effect, SendBlocks)]

    def presences(self, peer: PeerId) -> list[tuple[Cid, bool]]:
        self.effects()
        return [(presence.cid, presence.have) for presence in self.engine.take_presences(peer, 1000)]

    def sent(self, message: SendBlocks, *missing: Cid, seconds: float = 0.01) -> None:
        self.engine.message_sent(message.id, missing, message.size, self.now + seconds)


def test_wants_are_looked_up_and_answered_with_their_blocks() -> None:
    server = Server()
    server.sizes = {CIDS[0]: 1000, CIDS[1]: 2000}
    server.wants(ALICE, Want(CIDS[0]), Want(CIDS[1]))
    assert server.engine.wants == 2
    assert server.engine.next_effect(0.0) == LookUp(id=1, peer=ALICE, cids=(CIDS[0], CIDS[1]))
    server.engine.looked_up(1, [1000, 2000])
    assert server.engine.wants == 2
    message = server.engine.next_effect(0.0)
    assert message == SendBlocks(id=2, peer=ALICE, cids=(CIDS[0], CIDS[1]), size=3000, pending_bytes=0)
    assert server.engine.next_effect(0.0) is None
    assert server.engine.wants == 0
    assert isinstance(message, SendBlocks)
    server.sent(message)
    ledger = server.engine.ledger(ALICE)
    assert ledger is not None
    assert (ledger.blocks_sent, ledger.bytes_sent) == (2, 3000)
    assert repr(server.engine) == "<Engine 3 peers, 0 bytes on their way>"
    assert server.engine.ledger(peer_named("nobody")) is None


def test_what_came_in_while_looking_up_is_looked_up_next() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0]))
    server.wants(ALICE, Want(CIDS[1]))
    server.wants(ALICE, Want(CIDS[1], priority=9))
    first = server.engine.next_effect(0.0)
    assert first == LookUp(id=1, peer=ALICE, cids=(CIDS[0],))
    assert server.engine.next_effect(0.0) is None
    assert server.engine.wants == 2
    server.engine.looked_up(1, [None])
    assert server.engine.next_effect(0.0) == LookUp(id=2, peer=ALICE, cids=(CIDS[1],))
    server.engine.looked_up(2, [None])
    assert server.engine.next_effect(0.0) is None


def test_want_have_is_answered_without_the_block_unless_that_is_small() -> None:
    server = Server()
    server.sizes = {CIDS[0]: 1024, CIDS[1]: 1025}
    server.wants(
        ALICE, *(Want(cid, WantKind.HAVE, send_dont_have=True) for cid in CIDS[:3]), Want(CIDS[3], WantKind.HAVE)
    )
    sends = server.sends()
    assert [message.cids for message in sends] == [(CIDS[0],)]
    assert server.presences(ALICE) == [(CIDS[1], True), (CIDS[2], False)]
    assert server.engine.wants == 2  # those that are not here wait for their block


def test_presences_are_announced_once_and_taken_in_parts() -> None:
    server = Server()
    server.wants(ALICE, *(Want(cid, send_dont_have=True) for cid in CIDS[:5]))
    assert server.effects() == [PresencesReady(peer=ALICE)]
    assert server.engine.take_presences(ALICE, 2) == (Presence(CIDS[0], False), Presence(CIDS[1], False))
    assert len(server.engine.take_presences(ALICE, 100)) == 3
    assert server.engine.take_presences(ALICE, 100) == ()
    assert server.engine.take_presences(peer_named("nobody"), 100) == ()
    server.wants(ALICE, Want(CIDS[0], send_dont_have=True))
    assert server.effects() == [PresencesReady(peer=ALICE)]


def test_presences_that_nobody_reads_are_bounded() -> None:
    server = Server(trusting(presences=10))
    server.wants(ALICE, *(Want(cid, send_dont_have=True) for cid in CIDS))
    assert len(server.presences(ALICE)) == 10


def test_a_block_larger_than_may_travel_is_not_there() -> None:
    server = Server()
    server.sizes = {CIDS[0]: BLOCK_SIZE_MAX + 1, CIDS[1]: BLOCK_SIZE_MAX}
    server.wants(ALICE, Want(CIDS[0], send_dont_have=True), Want(CIDS[1]))
    assert [message.cids for message in server.sends()] == [(CIDS[1],)]
    assert server.presences(ALICE) == [(CIDS[0], False)]


def test_a_block_that_comes_later_goes_to_all_who_wait() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0]))
    server.wants(BOB, Want(CIDS[0], WantKind.HAVE), Want(CIDS[1]))
    assert server.sends() == []
    server.engine.blocks_added(CIDS[:1] + CIDS[5:6], [5000, 10])
    assert [(message.peer, message.cids) for message in server.sends()] == [(ALICE, (CIDS[0],))]
    assert server.presences(BOB) == [(CIDS[0], True)]
    server.engine.blocks_added([CIDS[0]], [5000])
    assert server.effects() == []


def test_a_full_wantlist_replaces_all_that_was_wanted() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[7], cancel=True), full=True)
    assert server.effects() == []
    server.sizes = {CIDS[2]: 10}
    server.wants(ALICE, Want(CIDS[0]))
    server.effects()
    server.wants(ALICE, Want(CIDS[1]))  # being looked up
    look_up = server.engine.next_effect(0.0)
    server.wants(ALICE, Want(CIDS[3]))  # to be looked up
    assert server.engine.wants == 3
    server.wants(ALICE, Want(CIDS[2]), full=True)
    assert server.engine.wants == 1
    assert isinstance(look_up, LookUp)
    server.engine.looked_up(look_up.id, [100])
    assert [message.cids for message in server.sends()] == [(CIDS[2],)]
    assert server.engine.wants == 0
    server.engine.blocks_added(CIDS[:4], [10] * 4)
    assert server.sends() == []


def test_cancels_reach_wants_wherever_they_are() -> None:
    parameters = trusting(outstanding_start=100)
    server = Server(parameters)
    server.sizes = {CIDS[0]: 100, CIDS[1]: 100}
    server.wants(ALICE, Want(CIDS[0]), Want(CIDS[1]), Want(CIDS[2], send_dont_have=True))
    first = server.sends()
    assert [message.cids for message in first] == [(CIDS[0],)]
    server.wants(ALICE, Want(CIDS[3]))
    look_up = server.engine.next_effect(0.0)
    server.wants(ALICE, Want(CIDS[4]), Want(CIDS[5]))
    server.wants(ALICE, *(Want(cid, cancel=True) for cid in CIDS[1:5]))
    assert server.engine.wants == 1
    assert isinstance(look_up, LookUp)
    server.engine.looked_up(look_up.id, [100])
    server.sent(first[0])
    assert server.sends() == []
    assert server.engine.take_presences(ALICE, 10) == ()
    server.engine.blocks_added([CIDS[2]], [10])
    assert server.sends() == []
    assert server.engine._absent == {CIDS[5].multihash: {ALICE: None}}


def test_a_cancel_of_one_peer_leaves_the_wants_of_others() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0]))
    server.wants(BOB, Want(CIDS[0]))
    server.effects()
    server.wants(ALICE, Want(CIDS[0], cancel=True))
    server.engine.blocks_added(CIDS[:1], [10])
    assert [message.peer for message in server.sends()] == [BOB]


def test_a_block_on_its_way_is_not_sent_twice() -> None:
    server = Server()
    server.sizes = {CIDS[0]: 100}
    server.wants(ALICE, Want(CIDS[0]))
    message = server.sends()[0]
    server.wants(ALICE, Want(CIDS[0]))
    assert server.effects() == []
    server.sent(message)
    server.wants(ALICE, Want(CIDS[0]))
    assert len(server.sends()) == 1


def test_blocks_that_could_not_be_read_are_told_and_wait() -> None:
    server = Server()
    server.sizes = {CIDS[0]: 100, CIDS[1]: 200}
    server.wants(ALICE, Want(CIDS[0]), Want(CIDS[1]))
    message = server.sends()[0]
    server.engine.message_sent(message.id, [CIDS[0]], 200, 1.0)
    ledger = server.engine.ledger(ALICE)
    assert ledger is not None
    assert (ledger.blocks_sent, ledger.bytes_sent) == (1, 200)
    assert server.presences(ALICE) == [(CIDS[0], False)]
    server.engine.blocks_added([CIDS[0]], [100])
    assert [message.cids for message in server.sends()] == [(CIDS[0],)]


def test_a_message_that_failed_frees_its_room() -> None:
    server = Server(trusting(outstanding_start=100))
    server.sizes = {CIDS[0]: 100, CIDS[1]: 100}
    server.wants(ALICE, Want(CIDS[0]), Want(CIDS[1]))
    first = server.sends()
    assert len(first) == 1
    server.engine.message_failed(first[0].id, 0.0)
    server.now = 0.2
    second = server.sends()
    assert [message.cids for message in second] == [(CIDS[1],)]
    server.sent(second[0])
    third = server.sends()
    assert [message.cids for message in third] == [(CIDS[0],)]
    server.sent(third[0])
    assert server.engine._total == server.engine._total_unproven == 0
    ledger = server.engine.ledger(ALICE)
    assert ledger is not None and ledger.blocks_sent == 2


def test_blocks_are_packed_up_to_the_size_of_a_message() -> None:
    server = Server(trusting(outstanding_start=10 * MIB, outstanding_most=10 * MIB))
    server.sizes = dict.fromkeys(CIDS[:7], 300 * KIB) | {CIDS[7]: 2 * MIB, CIDS[8]: MIB, CIDS[9]: MIB}
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:10]))
    sends = server.sends()
    assert [len(message.cids) for message in sends] == [3, 3, 1, 1, 1, 1]
    assert [message.pending_bytes for message in sends][-1] == 0
    assert sends[0].pending_bytes == 4 * 300 * KIB + 4 * MIB
    assert sends[0].size == 900 * KIB


@pytest.mark.parametrize(
    ("parameters", "rate", "counts"),
    [
        (trusting(), 400 * MIB, [7, 7, 7, 7]),
        (trusting(), 20 * MIB, [4, 4, 4, 4]),
        (EngineParameters.limited(1000 * MIB), 400 * MIB, [1, 4, 4, 4]),
    ],
)
def test_a_peer_that_takes_all_it_may_have_and_fast_gets_longer_messages_but_not_at_first(
    parameters: EngineParameters, rate: int, counts: list[int]
) -> None:
    server = Server(parameters)
    server.sizes = dict.fromkeys(CIDS, 256 * KIB)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:80]))
    for message in server.sends():
        assert message.size <= MIB
        server.sent(message, seconds=message.size / rate)
    found: list[int] = []
    while len(found) < 4:
        for message in server.sends():
            found.append(len(message.cids))
            server.now += message.size / rate
            server.engine.message_sent(message.id, (), message.size, server.now)
    assert found[:4] == counts
    assert parameters.message_most < MESSAGE_BYTES_MAX - 16 * KIB


def test_as_much_goes_to_a_peer_as_it_may_have_on_the_way() -> None:
    server = Server(trusting(message=100, outstanding_start=250, outstanding_least=250, outstanding_most=250))
    server.sizes = dict.fromkeys(CIDS[:10], 100)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:10]))
    sends = server.sends()
    assert len(sends) == 2
    server.sent(sends[0])
    assert len(server.sends()) == 1


def test_one_block_always_goes_even_if_it_is_larger_than_the_allowance() -> None:
    server = Server(trusting(outstanding_start=100))
    server.sizes = dict.fromkeys(CIDS[:2], 1000)
    server.wants(ALICE, Want(CIDS[0]), Want(CIDS[1]))
    assert [message.cids for message in server.sends()] == [(CIDS[0],)]


@pytest.mark.parametrize(
    ("rate", "allowance"),
    [
        (100 * KIB, 256 * KIB),
        (600 * KIB, 600 * KIB),
        (5 * MIB, MIB),
        (20 * MIB, 2 * MIB),
        (400 * MIB, 4 * MIB),
    ],
)
def test_a_peer_gets_as_much_ahead_as_it_takes_soon(rate: int, allowance: int) -> None:
    server = Server()
    server.sizes = {CIDS[0]: MIB}
    server.wants(ALICE, Want(CIDS[0]))
    message = server.sends()[0]
    server.sent(message, seconds=MIB / rate)
    assert server.engine._peers[ALICE].allowance == pytest.approx(allowance, abs=2)


def test_the_rate_of_a_peer_is_that_of_all_that_is_on_its_way_to_it() -> None:
    server = Server(trusting(message=256 * KIB))
    server.sizes = dict.fromkeys(CIDS[:4], 256 * KIB)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:4]))
    for number, message in enumerate(server.sends(), 1):
        server.sent(message, seconds=number / 80)
    assert number == 4
    assert server.engine._peers[ALICE].allowance == pytest.approx(2 * MIB, abs=2)


def test_peers_are_served_in_turns_by_bytes() -> None:
    server = Server(trusting(message=100, outstanding_start=100, outstanding_least=100, outstanding_most=100))
    server.sizes = dict.fromkeys(CIDS, 100)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:100]))
    server.wants(BOB, *(Want(cid) for cid in CIDS[100:110]))
    order = []
    waiting = server.sends()
    while waiting:
        message = waiting.pop(0)
        order.append(message.peer)
        server.sent(message)
        waiting += server.sends()
    assert order[:20] == [ALICE, BOB] * 10
    assert order[20:] == [ALICE] * 90


def test_who_wanted_nothing_for_long_gets_no_credit_for_it() -> None:
    parameters = trusting(
        message=100, outstanding_start=100, outstanding_least=100, outstanding_most=100, total=100, total_unproven=0
    )
    server = Server(parameters)
    server.sizes = dict.fromkeys(CIDS, 100)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:50]))
    for _ in range(20):
        server.sent(server.sends()[0])
    server.wants(BOB, *(Want(cid) for cid in CIDS[:50]))
    order = []
    for _ in range(20):
        message = server.sends()[0]
        order.append(message.peer)
        server.sent(message)
    assert 9 <= order.count(ALICE) <= 11


def test_a_small_want_need_not_wait_for_a_large_queue() -> None:
    parameters = trusting(
        message=100, outstanding_start=100, outstanding_least=100, outstanding_most=100, total=100, total_unproven=0
    )
    server = Server(parameters)
    server.sizes = dict.fromkeys(CIDS, 100)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:100]))
    first = server.sends()[0]
    server.wants(BOB, Want(CIDS[150]))
    assert server.sends() == []
    server.sent(first)
    second = server.sends()[0]
    server.sent(second)
    third = server.sends()[0]
    assert BOB in (second.peer, third.peer)


def test_what_is_on_the_way_to_all_is_bounded_and_of_unproven_peers_by_itself() -> None:
    server = Server(
        EngineParameters(message=100, piece=100, outstanding_start=1000, total=500, total_unproven=200, proven=100)
    )
    server.sizes = dict.fromkeys(CIDS, 100)
    for peer in (ALICE, BOB, CAROL):
        server.wants(peer, *(Want(cid) for cid in CIDS[:50]))
    first = server.sends()
    assert [(message.peer, message.in_pieces) for message in first] == [(ALICE, True), (BOB, True)]
    server.sent(first[0], seconds=0.0001)
    second = server.sends()
    assert [(message.peer, message.in_pieces) for message in second] == [(CAROL, True), *[(ALICE, False)] * 5]
    assert (server.engine._total, server.engine._total_unproven) == (700, 200)


def test_finding_10_who_has_read_nothing_holds_a_piece_however_large_its_block() -> None:
    server = Server(EngineParameters())
    server.sizes = dict.fromkeys(CIDS, MIB)
    readers = [peer_named(f"reader {number}") for number in range(200)]
    for reader in readers:
        server.engine.peer_connected(reader)
        server.wants(reader, *(Want(cid) for cid in CIDS[:4]))
    server.wants(ALICE, Want(CIDS[0]))
    sends = server.sends()
    assert {message.peer for message in sends} == {*readers, ALICE}
    assert all(message.in_pieces and len(message.cids) == 1 for message in sends)
    assert server.engine._total == 201 * 64 * KIB
    for message in sends:
        server.sent(message, seconds=0.01)
    then = server.sends()
    assert sum(message.size for message in then if not message.in_pieces) == 48 * MIB
    assert {message.peer for message in then} == {*readers}  # those for whom there is no room get pieces as before


def test_finding_10_who_stops_reading_gets_pieces_again_and_who_is_slow_too() -> None:
    server = Server(EngineParameters())
    server.sizes = dict.fromkeys(CIDS, MIB)
    for peer in (ALICE, BOB):
        server.wants(peer, *(Want(cid) for cid in CIDS[:8]))
    first = server.sends()
    server.sent(first[0], seconds=0.01)
    server.sent(first[1], seconds=100)
    whole = server.sends()
    assert {(message.peer, message.in_pieces) for message in whole} == {(ALICE, False), (BOB, True)}
    for message in whole:
        server.engine.message_failed(message.id, server.now)
    server.now += 20
    assert [message.in_pieces for message in server.sends()] == [True, True]


def test_finding_9_the_answer_to_an_old_connection_leaves_the_wants_of_the_new_one() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0]))
    old = server.engine.next_effect(0.0)
    assert isinstance(old, LookUp)
    server.engine.peer_disconnected(ALICE)
    server.engine.peer_connected(ALICE)
    server.wants(ALICE, Want(CIDS[1]))
    new = server.engine.next_effect(0.0)
    assert isinstance(new, LookUp)
    server.engine.looked_up(old.id, [100])
    assert server.engine.wants == 1
    server.engine.looked_up(new.id, [100])
    assert [message.cids for message in server.sends()] == [(CIDS[1],)]


def test_finding_9_wants_of_a_message_that_failed_go_back_but_not_what_was_withdrawn() -> None:
    server = Server()
    server.sizes = dict.fromkeys(CIDS, 100)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:3]))
    (message,) = server.sends()
    server.wants(ALICE, Want(CIDS[1], cancel=True), Want(CIDS[2], cancel=True), Want(CIDS[2]))
    again_at = server.engine.message_failed(message.id, 0.0)
    assert again_at > 0 and server.sends() == []
    server.now = again_at
    (again,) = server.sends()
    assert again.cids == (CIDS[0], CIDS[2])
    server.wants(ALICE, Want(CIDS[0]), full=True)
    second = server.engine.message_failed(again.id, server.now)
    assert second - server.now > again_at  # it is left alone for longer each time
    server.now = second
    (last,) = server.sends()
    assert last.cids == (CIDS[0],)
    server.sent(last)
    assert (server.engine.wants, server.engine._total) == (0, 0)


def test_finding_9_a_message_for_which_we_had_no_memory_is_not_held_against_the_peer() -> None:
    server = Server(EngineParameters())
    server.sizes = dict.fromkeys(CIDS, MIB)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:9]))
    server.sent(server.sends()[0])
    for message in server.sends():
        server.now = server.engine.message_failed(message.id, 0.0, ours=True)
    assert not server.sends()[0].in_pieces


def test_finding_9_presences_that_could_not_be_sent_are_said_again() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0], send_dont_have=True), Want(CIDS[1], send_dont_have=True))
    server.effects()
    taken = server.engine.take_presences(ALICE, 2)
    server.engine.presences_failed(ALICE, taken)
    server.engine.presences_failed(peer_named("nobody"), taken)
    assert server.effects() == [PresencesReady(peer=ALICE)]
    server.engine.presences_failed(ALICE, [Presence(CIDS[0], True)])  # older than what is known by now
    assert server.engine.take_presences(ALICE, 9) == taken


def test_finding_30_an_answer_is_awaited_while_somebody_wants_it() -> None:
    server = Server()
    for end in ("cancel", "leave"):
        server.wants(ALICE, Want(CIDS[0]))
        look_up = server.engine.next_effect(0.0)
        assert isinstance(look_up, LookUp) and server.engine.awaits(look_up.id)
        if end == "cancel":
            server.wants(ALICE, Want(CIDS[0], cancel=True))
        else:
            server.engine.peer_disconnected(ALICE)
        assert not server.engine.awaits(look_up.id)
        server.engine.looked_up(look_up.id, [None])


def test_finding_10_a_question_to_the_index_is_short_however_long_the_wantlist() -> None:
    server = Server(trusting(lookup=100))
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:150]))
    look_up = server.engine.next_effect(0.0)
    assert isinstance(look_up, LookUp) and look_up.cids == tuple(CIDS[:100])
    server.engine.looked_up(look_up.id, [None] * 100)
    rest = server.engine.next_effect(0.0)
    assert isinstance(rest, LookUp) and rest.cids == tuple(CIDS[100:150])
    assert server.engine.wants == 150


def test_B8_who_floods_makes_room_for_who_does_not() -> None:
    server = Server(trusting(lookups=600, lookup=1))
    server.wants(ALICE, *(Want(cid_of(index)) for index in range(1000)))
    assert server.engine.wants == 600
    server.wants(BOB, *(Want(cid) for cid in CIDS[:100]))
    assert server.engine.wants <= 600
    assert len(server.engine._peers[BOB].incoming) == 99


def test_A45_all_is_forgotten_when_a_peer_leaves() -> None:
    server = Server()
    server.sizes = {CIDS[0]: 10}
    server.wants(ALICE, Want(CIDS[0]), Want(CIDS[1], send_dont_have=True))
    message = server.sends()[0]
    server.wants(ALICE, Want(CIDS[2]))
    look_up = server.engine.next_effect(0.0)
    server.wants(ALICE, Want(CIDS[3]))
    server.engine.peer_disconnected(ALICE)
    server.engine.peer_disconnected(ALICE)
    assert server.engine.wants == 0
    assert server.engine._absent == {}
    assert (server.engine._total, server.engine._total_unproven) == (0, 0)
    assert isinstance(look_up, LookUp)
    server.engine.looked_up(look_up.id, [1])
    server.engine.peer_connected(ALICE)
    server.sent(message)  # of the connection before
    assert server.effects() == []
    assert (server.engine._total, server.engine._total_unproven) == (0, 0)
    ledger = server.engine.ledger(ALICE)
    assert ledger is not None and ledger.blocks_sent == 0
    assert server.engine._sending == {}


def test_leaving_gives_back_the_room_of_proven_peers_too() -> None:
    server = Server()
    server.sizes = {CIDS[0]: 10, CIDS[1]: 10}
    server.wants(ALICE, Want(CIDS[0]))
    server.sent(server.sends()[0])
    server.wants(ALICE, Want(CIDS[1]))
    message = server.sends()[0]
    assert (server.engine._total, server.engine._total_unproven) == (10, 0)
    server.engine.peer_disconnected(ALICE)
    assert (server.engine._total, server.engine._total_unproven) == (0, 0)
    server.engine.message_failed(message.id, 0.0)
    assert server.engine._total == 0


def test_the_wants_of_strangers_are_not_kept() -> None:
    server = Server()
    nobody = peer_named("nobody")
    server.wants(nobody, Want(CIDS[0]))
    server.engine.count_received(nobody, 1, 1)
    assert server.engine.wants == 0
    assert server.effects() == []


def test_connecting_twice_changes_nothing() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0]))
    server.engine.peer_connected(ALICE)
    assert server.engine.wants == 1


def test_received_bytes_are_counted() -> None:
    server = Server()
    server.engine.count_received(ALICE, 2, 500)
    ledger = server.engine.ledger(ALICE)
    assert ledger is not None
    assert (ledger.blocks_received, ledger.bytes_received) == (2, 500)


def test_B8_wants_that_wait_for_the_index_are_bounded() -> None:
    server = Server(trusting(lookups=150))
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:100]))
    server.wants(BOB, *(Want(cid) for cid in CIDS[:100]))
    assert server.engine.wants == 150
    look_up = server.engine.next_effect(0.0)
    assert isinstance(look_up, LookUp)
    server.engine.looked_up(look_up.id, [None] * 100)
    server.wants(BOB, *(Want(cid) for cid in CIDS[100:200]))
    assert server.engine.wants == 100 + 150


def test_B8_wants_of_one_peer_that_wait_for_the_index_are_bounded() -> None:
    server = Server()
    many = [Want(cid_of(10_000 + index)) for index in range(WANTS_PER_MESSAGE_MAX + 1)]
    server.wants(ALICE, Want(CIDS[0]))
    server.wants(ALICE, *many)
    assert server.engine.wants == 1 + WANTS_PER_MESSAGE_MAX


def test_A48_identity_cids_and_weak_hashes_are_passed_over() -> None:
    server = Server()
    weak = Cid.v1(0x55, b"\x12\x0a" + bytes(10))
    server.wants(ALICE, Want(Cid.of(b"x", hash="identity"), send_dont_have=True), Want(weak, send_dont_have=True))
    assert server.engine.wants == 0
    assert server.effects() == []


def test_a_limited_upload_serves_so_many_peers_at_a_time_and_the_others_after_them() -> None:
    server = Server(trusting(peers_at_once=2, message=100, outstanding_start=100, outstanding_least=100))
    server.sizes = dict.fromkeys(CIDS, 100)
    for peer in (ALICE, BOB, CAROL):
        server.wants(peer, Want(CIDS[0]), Want(CIDS[1]))
    first = server.sends()
    assert [message.peer for message in first] == [ALICE, BOB]
    server.sent(first[0])
    (second,) = server.sends()
    assert second.peer == CAROL  # the least served is next, not who has just had its turn
    server.sent(first[1])
    assert [message.peer for message in server.sends()] == [ALICE]


def test_those_who_want_the_same_in_any_order_get_different_blocks_first() -> None:
    server = Server(trusting(message=100, outstanding_start=100, outstanding_least=100, outstanding_most=100))
    server.sizes = dict.fromkeys(CIDS, 100)
    for peer in (ALICE, BOB, CAROL):
        server.wants(peer, *(Want(cid) for cid in CIDS[:3]))
    sent: dict[PeerId, list[Cid]] = {ALICE: [], BOB: [], CAROL: []}
    rounds = []
    while messages := server.sends():
        rounds.append({cid for message in messages for cid in message.cids})
        for message in messages:
            sent[message.peer] += message.cids
            server.sent(message)
    assert rounds[0] == set(CIDS[:3])
    assert all(sorted(cids) == sorted(CIDS[:3]) for cids in sent.values())


def test_a_block_that_did_not_reach_its_peer_is_sent_first_to_another() -> None:
    server = Server(trusting(message=100, outstanding_start=100, outstanding_least=100))
    server.sizes = dict.fromkeys(CIDS, 100)
    server.wants(ALICE, Want(CIDS[0]))
    (lost,) = server.sends()
    server.wants(CAROL, Want(CIDS[1]))
    server.sends()
    server.engine.message_failed(lost.id, 0.0)
    server.wants(BOB, Want(CIDS[1]), Want(CIDS[0]))
    assert [message.cids for message in server.sends()] == [(CIDS[0],)]


def test_a_limited_upload_has_short_messages_and_little_on_its_way() -> None:
    slow, fast = EngineParameters.limited(100_000), EngineParameters.limited(400 * MIB)
    assert (slow.message, slow.outstanding_most, slow.peers_at_once) == (10_000, 256 * KIB, 12)
    assert (fast.message, fast.outstanding_most) == (MIB, 4 * MIB)
    assert EngineParameters.limited(1).peers_at_once == 1
    server = Server(slow)
    server.sizes = dict.fromkeys(CIDS, 256 * KIB)
    server.wants(ALICE, *(Want(cid) for cid in CIDS[:8]))
    assert [len(message.cids) for message in server.sends()] == [1]


def test_a_look_up_says_what_its_peer_may_see_and_one_that_has_proved_more_meanwhile_is_made_again() -> None:
    engine = Engine(trusting())
    engine.peer_connected(ALICE)
    engine.receive_wants(ALICE, [Want(CIDS[0], send_dont_have=True), Want(CIDS[1])], full=False)
    first = engine.next_effect(0.0)
    assert isinstance(first, LookUp) and first.admitted == frozenset()
    engine.peer_admitted(ALICE, frozenset({RealmId(1)}))
    engine.receive_wants(ALICE, [Want(CIDS[1]), Want(CIDS[2])], full=False)
    engine.looked_up(first.id, [None, None])
    second = engine.next_effect(0.0)
    assert isinstance(second, LookUp) and second.admitted == {1}
    assert set(second.cids) == set(CIDS[:3])
    engine.looked_up(second.id, [1000] * 3)
    sent = engine.next_effect(0.0)
    assert isinstance(sent, SendBlocks) and len(sent.cids) == 3
    assert engine.take_presences(ALICE, 10) == ()
    assert engine.wants == 0


def test_who_is_admitted_gets_what_it_wanted_before_and_is_not_told_again_what_it_lacks() -> None:
    server = Server()
    server.wants(ALICE, Want(CIDS[0], send_dont_have=True), Want(CIDS[1], send_dont_have=True))
    assert server.presences(ALICE) == [(CIDS[0], False), (CIDS[1], False)]
    server.sizes = {CIDS[0]: 1000}
    server.engine.peer_admitted(ALICE, frozenset({RealmId(1)}))
    assert [message.cids for message in server.sends()] == [(CIDS[0],)]
    assert server.presences(ALICE) == []
    server.engine.peer_admitted(ALICE, frozenset({RealmId(1)}))  # nothing new: nothing is looked for
    assert server.engine.next_effect(0.0) is None
    server.engine.peer_admitted(peer_named("a stranger"), frozenset({RealmId(1)}))


def test_what_comes_for_a_realm_goes_to_those_who_may_enter_it_and_to_others_when_it_is_opened() -> None:
    server = Server()
    server.engine.peer_admitted(BOB, frozenset({RealmId(1), RealmId(2)}))
    for peer in (ALICE, BOB, CAROL):
        server.wants(peer, Want(CIDS[0]))
        assert server.sends() == []
    server.engine.blocks_added([CIDS[0]], [1000], frozenset({RealmId(2)}))
    assert [message.peer for message in server.sends()] == [BOB]
    server.sizes = {CIDS[0]: 1000}
    server.engine.realm_opened()
    assert {message.peer for message in server.sends()} == {ALICE, CAROL}


def test_what_was_proved_ends_with_the_connection() -> None:
    server = Server()
    server.engine.peer_admitted(ALICE, frozenset({RealmId(1)}))
    server.engine.peer_disconnected(ALICE)
    server.engine.peer_connected(ALICE)
    server.engine.receive_wants(ALICE, [Want(CIDS[0])], full=False)
    effect = server.engine.next_effect(0.0)
    assert isinstance(effect, LookUp) and effect.admitted == frozenset()
