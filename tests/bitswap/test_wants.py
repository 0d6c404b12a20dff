"""What we want, and what each peer has been told of it."""

from stack.bitswap.messages import Want, WantKind
from stack.bitswap.wants import (
    PRIORITY_ANY_ORDER,
    PRIORITY_MAX,
    RECENT_MAX,
    TOLD_MAX,
    PeerWants,
    SessionId,
    WaiterId,
    WantedBlocks,
)
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.bitswap.simulation import cid_of

A, B = cid_of(1), cid_of(2)
ONE, TWO = SessionId(1), SessionId(2)
FIRST, SECOND = WaiterId(1), WaiterId(2)


def sink(cid: Cid, data: memoryview) -> None:
    """Keeps nothing."""


class TestWantedBlocks:
    def test_a_block_is_claimed_once(self) -> None:
        wanted = WantedBlocks()
        wanted.add(FIRST, A, sink)
        assert len(wanted) == 1
        assert wanted.was_wanted(A.multihash)
        assert wanted.claim(A.multihash) == ((FIRST, A, sink),)
        assert wanted.claim(A.multihash) == ()
        assert len(wanted) == 0

    def test_all_who_wait_are_in_one_claim_each_with_its_own_cid(self) -> None:
        wanted = WantedBlocks()
        other = A.with_codec(DAG_PB)
        wanted.add(FIRST, A, sink)
        wanted.add(SECOND, other, None)
        assert wanted.claim(A.multihash) == ((FIRST, A, sink), (SECOND, other, None))

    def test_a_second_copy_is_no_offence_before_and_after_delivery(self) -> None:
        wanted = WantedBlocks()
        assert not wanted.was_wanted(A.multihash)
        wanted.add(FIRST, A, sink)
        wanted.claim(A.multihash)
        assert wanted.was_wanted(A.multihash)
        wanted.delivered(A.multihash)
        assert wanted.was_wanted(A.multihash)
        assert wanted._claimed == {}

    def test_who_gives_up_is_left_out(self) -> None:
        wanted = WantedBlocks()
        wanted.add(FIRST, A, sink)
        wanted.add(SECOND, A, None)
        wanted.remove(FIRST, A.multihash)
        assert wanted.claim(A.multihash) == ((SECOND, A, None),)

    def test_what_nobody_wants_any_more_is_remembered_for_a_while(self) -> None:
        wanted = WantedBlocks()
        wanted.add(FIRST, A, sink)
        wanted.remove(FIRST, A.multihash)
        assert len(wanted) == 0
        assert wanted.was_wanted(A.multihash)
        wanted.remove(FIRST, B.multihash)
        assert not wanted.was_wanted(B.multihash)

    def test_what_was_wanted_is_forgotten_in_the_order_it_was_last_wanted(self) -> None:
        wanted = WantedBlocks()
        names = [index.to_bytes(4, "big") for index in range(RECENT_MAX + 1)]
        for name in names[:-1]:
            wanted.delivered(name)
        wanted.delivered(names[0])
        wanted.delivered(names[-1])
        assert wanted.was_wanted(names[0])
        assert not wanted.was_wanted(names[1])
        assert wanted.was_wanted(names[2])
        assert len(wanted._recent) == RECENT_MAX


def told(wants: PeerWants, limit: int = 100) -> list[Want]:
    return list(wants.take(limit)[0])


class TestPeerWants:
    def test_the_first_message_is_a_full_wantlist(self) -> None:
        wants = PeerWants()
        assert not wants.pending
        wants.ask(ONE, [A, B], WantKind.BLOCK)
        assert wants.pending and len(wants) == 2
        entries, full = wants.take(100)
        assert full
        assert entries == (
            Want(A, WantKind.BLOCK, PRIORITY_MAX - 1, send_dont_have=True),
            Want(B, WantKind.BLOCK, PRIORITY_MAX - 2, send_dont_have=True),
        )
        assert not wants.pending and len(wants) == 2
        assert wants.take(100) == ((), False)

    def test_priorities_fall_and_start_again_at_the_top(self) -> None:
        wants = PeerWants()
        wants._priority = 2
        wants.ask(ONE, [cid_of(index) for index in range(3)], WantKind.BLOCK)
        assert [want.priority for want in told(wants)] == [1, PRIORITY_MAX, PRIORITY_MAX - 1]

    def test_what_may_come_in_any_order_is_equal_and_after_all_that_may_not(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A, B], WantKind.BLOCK, any_order=True)
        wants.ask(ONE, [cid_of(3)], WantKind.BLOCK)
        assert [want.priority for want in told(wants)] == [PRIORITY_ANY_ORDER, PRIORITY_ANY_ORDER, PRIORITY_MAX - 1]

    def test_what_one_of_two_sessions_needs_in_its_order_keeps_its_place(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK, any_order=True)
        wants.ask(TWO, [A], WantKind.BLOCK)
        wants.ask(ONE, [A], WantKind.BLOCK, any_order=True)
        assert [want.priority for want in told(wants)] == [PRIORITY_MAX - 1]

    def test_a_message_has_no_more_entries_than_allowed(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [cid_of(index) for index in range(5)], WantKind.BLOCK)
        assert len(told(wants, 2)) == 2
        assert wants.pending
        assert len(told(wants, 2)) == 2
        assert len(told(wants, 2)) == 1
        assert not wants.pending

    def test_withdrawing_tells_a_cancel_only_when_the_peer_knew(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A, B], WantKind.BLOCK)
        told(wants, 1)
        wants.withdraw(ONE, [A, B, cid_of(3)])
        assert len(wants) == 0
        assert told(wants) == [Want(A, cancel=True, priority=0)]
        assert not wants.pending

    def test_cancels_go_first_and_count(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A, B], WantKind.BLOCK)
        told(wants)
        wants.withdraw(ONE, [A, B])
        wants.ask(ONE, [cid_of(3)], WantKind.BLOCK)
        assert [(want.cid, want.cancel) for want in told(wants, 1)] == [(A, True)]
        assert [(want.cid, want.cancel) for want in told(wants, 2)] == [(B, True), (cid_of(3), False)]

    def test_a_block_that_came_needs_no_cancel(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        wants.received(A.multihash)
        wants.received(A.multihash)
        wants.withdraw(ONE, [A])
        assert not wants.pending and len(wants) == 0

    def test_a_block_that_came_before_it_was_told_is_not_told(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        wants.received(A.multihash)
        assert told(wants) == []

    def test_a_want_of_two_sessions_is_cancelled_with_the_last(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        wants.ask(TWO, [A], WantKind.BLOCK)
        assert len(told(wants)) == 1
        wants.withdraw(ONE, [A])
        assert not wants.pending
        wants.withdraw(TWO, [A])
        assert told(wants) == [Want(A, cancel=True, priority=0)]

    def test_asking_again_takes_a_cancel_back(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        wants.withdraw(ONE, [A])
        wants.ask(ONE, [A], WantKind.BLOCK)
        assert [want.cancel for want in told(wants)] == [False]

    def test_asking_again_tells_again(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        wants.ask(ONE, [A], WantKind.BLOCK)
        assert [want.cid for want in told(wants)] == [A]

    def test_want_block_is_stronger_than_want_have(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.HAVE)
        assert [want.kind for want in told(wants)] == [WantKind.HAVE]
        wants.ask(ONE, [A], WantKind.BLOCK)
        assert [want.kind for want in told(wants)] == [WantKind.BLOCK]
        wants.ask(TWO, [A], WantKind.HAVE)
        assert [want.kind for want in told(wants)] == [WantKind.BLOCK]

    def test_answers_count_only_for_what_was_told(self) -> None:
        wants = PeerWants()
        assert not wants.answered(A.multihash, have=True)
        wants.ask(ONE, [A], WantKind.BLOCK)
        assert not wants.answered(A.multihash, have=False)
        told(wants)
        assert wants.answered(A.multihash, have=False)
        assert len(wants) == 1  # the peer may still send it, should it come

    def test_have_ends_a_want_have(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.HAVE)
        wants.ask(ONE, [B], WantKind.BLOCK)
        told(wants)
        assert wants.answered(A.multihash, have=True)
        assert wants.answered(B.multihash, have=True)
        assert len(wants) == 1

    def test_A46_no_more_is_told_than_a_server_keeps(self) -> None:
        wants = PeerWants()
        cids = [cid_of(index) for index in range(TOLD_MAX + 10)]
        wants.ask(ONE, cids, WantKind.BLOCK)
        assert len(told(wants, 600)) == 600
        assert len(told(wants, 600)) == 400
        assert not wants.pending
        assert told(wants, 600) == []
        wants.received(cids[0].multihash)
        wants.answered(cids[1].multihash, have=False)
        wants.answered(cids[1].multihash, have=False)
        wants.withdraw(ONE, [cids[2]])
        assert wants.pending
        entries = told(wants, 600)
        assert [want.cancel for want in entries] == [True, False, False, False]
        assert not wants.pending
        wants.ask(ONE, [cids[3]], WantKind.BLOCK)  # its first telling counts no more
        assert len(told(wants)) == 1

    def test_after_a_restart_all_is_told_again(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A, B], WantKind.BLOCK)
        told(wants)
        wants.answered(B.multihash, have=False)
        wants.ask(ONE, [cid_of(3)], WantKind.BLOCK)
        wants.withdraw(ONE, [A])
        wants.restart()
        entries, full = wants.take(100)
        assert full
        assert [want.cid for want in entries] == [B, cid_of(3)]
        assert not any(want.cancel for want in entries)
        assert wants._open == 2
        assert wants.answered(B.multihash, have=False)
        assert wants._open == 1

    def test_the_end_of_a_session_withdraws_what_only_it_asked(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A, B], WantKind.BLOCK)
        wants.ask(TWO, [B], WantKind.BLOCK)
        told(wants)
        wants.end_session(ONE)
        assert told(wants) == [Want(A, cancel=True, priority=0)]
        wants.end_session(TWO)
        assert told(wants) == [Want(B, cancel=True, priority=0)]
        assert wants._open == 0
