"""What a peer is sent first that leaves the order to us."""

from stack.bitswap.copies import CHOICE_MAX, COPIES_MAX, Copies
from stack.bitswap.ledger import HeldWant, Ledger
from tests.bitswap.simulation import cid_of

CIDS = [cid_of(index) for index in range(CHOICE_MAX + 8)]


def ledger_of(*wants: tuple[int, int]) -> Ledger:
    """Held wants: number, priority."""
    ledger = Ledger()
    ledger.hold([HeldWant(CIDS[number], 10, priority) for number, priority in wants])
    return ledger


def least(copies: Copies, ledger: Ledger) -> int | None:
    want = copies.least(ledger)
    return CIDS.index(want.cid) if want is not None else None


def test_of_equals_the_one_that_was_sent_least_goes_first_and_the_oldest_of_these() -> None:
    copies = Copies()
    ledger = ledger_of((0, 1), (1, 1), (2, 1), (3, 1))
    assert least(copies, ledger) == 0
    copies.sent(CIDS[0])
    copies.sent(CIDS[1])
    assert least(copies, ledger) == 2
    copies.sent(CIDS[2])
    copies.sent(CIDS[3])
    assert least(copies, ledger) == 0


def test_nothing_is_wanted_of_a_peer_that_wants_nothing() -> None:
    copies = Copies()
    copies.sent(CIDS[0])
    assert least(copies, Ledger()) is None


def test_priority_is_stronger_than_rarity() -> None:
    copies = Copies()
    copies.sent(CIDS[0])
    assert least(copies, ledger_of((1, 1), (0, 2))) == 0


def test_what_did_not_get_there_was_not_sent() -> None:
    copies = Copies()
    copies.sent(CIDS[0])
    copies.sent(CIDS[1])
    copies.failed([CIDS[1]])
    assert least(copies, ledger_of((0, 1), (1, 1))) == 1


def test_what_was_sent_in_vain_stands_where_it_stood_before() -> None:
    for number in (0, 1):
        copies = Copies()
        copies.sent(CIDS[2])
        copies.sent(CIDS[number])
        copies.failed([CIDS[number]])
        assert least(copies, ledger_of((0, 1), (1, 1), (2, 1))) == 0


def test_a_bounded_number_of_wants_is_looked_at() -> None:
    copies = Copies()
    for cid in CIDS[:CHOICE_MAX]:
        copies.sent(cid)
    assert least(copies, ledger_of(*((number, 1) for number in range(len(CIDS))))) == 0


def test_a_want_of_high_priority_behind_many_others_is_next_all_the_same() -> None:
    copies = Copies()
    copies.sent(CIDS[0])
    wants = [(number, 1) for number in range(CHOICE_MAX)]
    assert least(copies, ledger_of(*wants, (CHOICE_MAX, 5))) == CHOICE_MAX


def test_a_bounded_number_of_blocks_is_remembered_those_sent_last() -> None:
    copies = Copies()
    for number in range(COPIES_MAX):
        copies.sent(cid_of(number))
    copies.sent(cid_of(0))
    copies.sent(cid_of(COPIES_MAX))
    assert len(copies._counts) == COPIES_MAX
    assert cid_of(0).multihash in copies._counts
    assert cid_of(1).multihash not in copies._counts
