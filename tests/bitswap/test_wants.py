"""Who waits for which block, and what each peer has been told of it."""

from stack.bitswap.messages import Want, WantKind
from stack.bitswap.wants import (
    OWED_MAX,
    PRIORITY_ANY_ORDER,
    PRIORITY_MAX,
    TOLD_MAX,
    Answer,
    PeerWants,
    SessionId,
    Taker,
    WantedBlocks,
)
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.bitswap.simulation import cid_of

A, B = cid_of(1), cid_of(2)
ONE, TWO = SessionId(1), SessionId(2)


class Waiting:
    """A call that keeps what it gets."""

    def __init__(self, session: SessionId = ONE, *, keeps: bool = False, error: Exception | None = None) -> None:
        self.session = session
        self.keeps = keeps
        self.error = error
        self.got: list[tuple[Cid, bytes]] = []

    def take(self, cid: Cid, data: memoryview) -> None:
        if self.error is not None:
            raise self.error
        self.got.append((cid, bytes(data)))

    def handed_over(self, cid: Cid) -> None:
        """Nobody is told."""

    def failed(self, error: Exception) -> None:
        """Nobody is told."""


class TestWantedBlocks:
    """Finding 2: a want ends when nobody is in it, whatever happens between the worker thread and the loop."""

    def test_all_who_wait_are_served_together_each_by_its_own_cid(self) -> None:
        wanted = WantedBlocks()
        first, second = Waiting(), Waiting()
        other = A.with_codec(DAG_PB)
        wanted.add(first, A)
        wanted.add(second, other)
        assert wanted.takers(A.multihash) == (Taker(first, A), Taker(second, other))
        assert len(wanted) == 1
        assert wanted.delivered(A.multihash, wanted.takers(A.multihash)) == (
            (Taker(first, A), Taker(second, other)),
            (),
        )
        assert len(wanted) == 0

    def test_looking_takes_nothing_out(self) -> None:
        wanted = WantedBlocks()
        wanted.add(Waiting(), A)
        assert wanted.takers(A.multihash) == wanted.takers(A.multihash) != ()
        assert wanted.takers(B.multihash) == ()

    def test_who_joins_while_the_block_is_handed_over_is_left_and_served_by_the_next_round(self) -> None:
        wanted = WantedBlocks()
        first, second = Waiting(), Waiting(TWO)
        wanted.add(first, A)
        served = wanted.takers(A.multihash)
        wanted.add(second, A)
        assert wanted.delivered(A.multihash, served) == ((Taker(first, A),), (Taker(second, A),))
        assert wanted.needed_by(TWO, A.multihash) and not wanted.needed_by(ONE, A.multihash)
        assert wanted.delivered(A.multihash, wanted.takers(A.multihash)) == ((Taker(second, A),), ())
        assert len(wanted) == 0

    def test_who_joins_after_the_worker_looked_and_found_nobody_is_left(self) -> None:
        wanted = WantedBlocks()
        late = Waiting()
        served = wanted.takers(A.multihash)
        wanted.add(late, A)
        assert wanted.delivered(A.multihash, served) == ((), (Taker(late, A),))

    def test_a_second_copy_that_was_hashed_before_the_first_was_heard_of_serves_nobody_twice(self) -> None:
        wanted = WantedBlocks()
        call = Waiting()
        wanted.add(call, A)
        served = wanted.takers(A.multihash)
        assert wanted.delivered(A.multihash, served) == ((Taker(call, A),), ())
        assert wanted.delivered(A.multihash, served) == ((), ())

    def test_a_call_that_comes_again_after_it_was_served_waits_again(self) -> None:
        wanted = WantedBlocks()
        first, again = Waiting(), Waiting()
        wanted.add(first, A)
        served = wanted.takers(A.multihash)
        wanted.delivered(A.multihash, served)
        wanted.add(again, A)
        assert wanted.delivered(A.multihash, served) == ((), (Taker(again, A),))

    def test_who_gives_up_is_left_out_and_the_other_stays(self) -> None:
        wanted = WantedBlocks()
        first, second = Waiting(), Waiting()
        wanted.add(first, A)
        wanted.add(second, A)
        served = wanted.takers(A.multihash)
        wanted.remove(first, A.multihash)
        wanted.remove(first, B.multihash)
        assert wanted.needed_by(ONE, A.multihash)
        assert wanted.delivered(A.multihash, served) == ((Taker(second, A),), ())

    def test_when_all_give_up_while_the_worker_runs_nothing_is_left(self) -> None:
        wanted = WantedBlocks()
        call = Waiting()
        wanted.add(call, A)
        served = wanted.takers(A.multihash)
        wanted.remove(call, A.multihash)
        assert len(wanted) == 0
        assert wanted.delivered(A.multihash, served) == ((), ())


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
        assert wants.answered(A.multihash, have=False) == {ONE}
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

    def test_an_answer_is_told_to_the_sessions_that_asked(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.HAVE)
        wants.ask(TWO, [A], WantKind.HAVE)
        told(wants)
        assert wants.answered(A.multihash, have=True) == {ONE, TWO}


class TestWhatAPeerOwes:
    """Findings 11 and 28: each telling is good for one copy, however late; more are copies; what was never told is wrong."""

    def test_a_block_is_owed_once_for_each_time_that_it_was_told(self) -> None:
        wants = PeerWants()
        assert wants.received(A.multihash) is Answer.NEVER_ASKED
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        assert wants.received(A.multihash) is Answer.OWED
        assert wants.received(A.multihash) is Answer.COPY
        assert wants.received(B.multihash) is Answer.NEVER_ASKED

    def test_what_was_only_to_be_told_is_not_owed(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        assert wants.received(A.multihash) is Answer.NEVER_ASKED

    def test_what_was_withdrawn_is_owed_until_it_has_come(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        wants.withdraw(ONE, [A])
        told(wants)
        assert wants.received(A.multihash) is Answer.OWED
        assert wants.received(A.multihash) is Answer.COPY

    def test_what_was_told_twice_may_come_twice(self) -> None:
        wants = PeerWants()
        for _ in range(2):
            wants.ask(ONE, [A], WantKind.BLOCK)
            told(wants)
        assert [wants.received(A.multihash) for _ in range(3)] == [Answer.OWED, Answer.OWED, Answer.COPY]

    def test_a_block_in_place_of_have_is_owed(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.HAVE)
        told(wants)
        assert wants.answered(A.multihash, have=True)
        assert wants.received(A.multihash) is Answer.OWED

    def test_what_a_message_carried_that_seemed_to_fail_is_owed_too(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        wants.restart()
        assert wants.received(A.multihash) is Answer.OWED

    def test_a_lost_connection_ends_what_was_asked_but_not_what_may_still_be_in_hand(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A, B], WantKind.BLOCK)
        told(wants, 1)
        wants.lost()
        assert len(wants) == 0 and not wants.pending and wants._open == 0
        assert wants.received(A.multihash) is Answer.OWED
        assert wants.received(B.multihash) is Answer.NEVER_ASKED
        wants.ask(ONE, [A], WantKind.BLOCK)
        assert wants.take(10)[1]

    def test_what_was_told_is_remembered_within_a_bound_and_never_forgotten_while_it_is_asked(self) -> None:
        wants = PeerWants()
        wants.ask(ONE, [A], WantKind.BLOCK)
        told(wants)
        for start in range(10, OWED_MAX + 510, 500):
            cids = [cid_of(index) for index in range(start, start + 500)]
            wants.ask(ONE, cids, WantKind.BLOCK)
            told(wants, 500)
            wants.withdraw(ONE, cids)
            told(wants, 500)
        assert len(wants._owed) == OWED_MAX
        assert wants.received(cid_of(10).multihash) is Answer.NEVER_ASKED
        assert wants.received(cid_of(OWED_MAX).multihash) is Answer.OWED
        assert wants.received(A.multihash) is Answer.OWED
