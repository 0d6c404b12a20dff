"""What one peer wants from us."""

from hypothesis import given
from hypothesis import strategies as st

from stack.bitswap.ledger import WANTS_MAX, HeldWant, Ledger, held_want, is_answered_by_block
from stack.bitswap.messages import Want, WantKind
from tests.bitswap.simulation import cid_of

CIDS = [cid_of(index) for index in range(WANTS_MAX + 40)]


def held(number: int, *, size: int = 10, priority: int = 1) -> HeldWant:
    return HeldWant(CIDS[number], size, priority)


def taken(ledger: Ledger) -> HeldWant | None:
    """Take what is to be sent next."""
    want = ledger.peek()
    if want is not None:
        ledger.take(want)
    return want


def drain(ledger: Ledger) -> list[int]:
    """Numbers of all held wants, in the order they would be sent."""
    numbers = []
    while (want := taken(ledger)) is not None:
        numbers.append(CIDS.index(want.cid))
    return numbers


def waits(ledger: Ledger, number: int) -> bool:
    """Whether a want waits for this block; it does no longer after this."""
    try:
        ledger.take_absent(CIDS[number].multihash)
    except KeyError:
        return False
    return True


def test_a_server_keeps_as_many_wants_as_boxo_does() -> None:
    assert WANTS_MAX == 1024


def test_a_new_ledger_is_empty() -> None:
    ledger = Ledger()
    assert (len(ledger), ledger.held, ledger.held_bytes()) == (0, 0, 0)
    assert ledger.peek() is None
    assert ledger.peek() is None
    assert repr(ledger) == "<Ledger 0 held, 0 absent>"


def test_the_highest_priority_goes_first_and_the_oldest_of_equals() -> None:
    ledger = Ledger()
    assert ledger.hold([held(0, priority=1), held(1, priority=5), held(2, priority=5), held(3, priority=-2)]) == []
    assert ledger.held == len(ledger) == 4
    assert ledger.held_bytes() == 40
    first = ledger.peek()
    assert first is not None and first.cid == CIDS[1]
    assert ledger.held == 4
    assert drain(ledger) == [1, 2, 0, 3]
    assert len(ledger) == 0


def test_a_want_that_is_repeated_takes_its_new_priority() -> None:
    ledger = Ledger()
    ledger.hold([held(0, priority=1), held(1, priority=2)])
    ledger.hold([held(0, priority=3, size=7)])
    assert ledger.held == 2
    want = taken(ledger)
    assert want == held(0, priority=3, size=7)
    assert drain(ledger) == [1]


def test_a_repeated_want_with_lower_priority_goes_later() -> None:
    ledger = Ledger()
    ledger.hold([held(0, priority=9), held(1, priority=2)])
    ledger.hold([held(0, priority=1)])
    assert drain(ledger) == [1, 0]


def test_one_of_equals_can_be_taken_out_of_turn() -> None:
    ledger = Ledger()
    ledger.hold([held(0), held(1, priority=2), held(2), held(3)])
    assert ledger.equals_of(held(9), 3) == [held(0), held(2)]
    assert ledger.equals_of(held(9, priority=2), 10) == [held(1, priority=2)]
    ledger.take(held(2))
    assert drain(ledger) == [1, 0, 3]


def test_cancelled_wants_are_not_sent() -> None:
    ledger = Ledger()
    ledger.hold([held(0), held(1)])
    ledger.miss(Want(CIDS[2]))
    ledger.cancel(CIDS[0].multihash)
    ledger.cancel(CIDS[2].multihash)
    ledger.cancel(CIDS[3].multihash)
    assert drain(ledger) == [1]
    assert not waits(ledger, 2)


def test_absent_wants_wait_for_their_block() -> None:
    ledger = Ledger()
    want = Want(CIDS[0], WantKind.HAVE, 4, send_dont_have=True)
    assert ledger.miss(want) == []
    assert (len(ledger), ledger.held) == (1, 0)
    assert repr(ledger) == "<Ledger 0 held, 1 absent>"
    assert not waits(ledger, 1)
    assert ledger.take_absent(CIDS[0].multihash) == want
    assert len(ledger) == 0
    assert not waits(ledger, 0)


def test_a_want_is_either_held_or_absent() -> None:
    ledger = Ledger()
    ledger.miss(Want(CIDS[0]))
    ledger.hold([held(0)])
    assert (len(ledger), ledger.held) == (1, 1)
    ledger.miss(Want(CIDS[0]))
    assert (len(ledger), ledger.held) == (1, 0)
    assert ledger.peek() is None


def test_the_oldest_absent_want_goes_when_there_are_too_many() -> None:
    ledger = Ledger()
    for index in range(WANTS_MAX):
        assert ledger.miss(Want(CIDS[index])) == []
    assert ledger.miss(Want(CIDS[WANTS_MAX])) == [CIDS[0].multihash]
    assert len(ledger) == WANTS_MAX
    assert ledger.miss(Want(CIDS[1])) == []  # it is the newest now
    assert ledger.miss(Want(CIDS[WANTS_MAX + 1])) == [CIDS[2].multihash]
    assert waits(ledger, 1)


def test_A46_absent_wants_make_way_for_held_ones() -> None:
    ledger = Ledger()
    for index in range(WANTS_MAX):
        ledger.miss(Want(CIDS[index]))
    gone = ledger.hold([held(WANTS_MAX), held(WANTS_MAX + 1)])
    assert gone == [CIDS[0].multihash, CIDS[1].multihash]
    assert (len(ledger), ledger.held) == (WANTS_MAX, 2)


def test_A46_of_too_many_held_wants_the_lowest_priorities_go_the_newest_first() -> None:
    ledger = Ledger()
    ledger.hold([held(index, priority=1) for index in range(WANTS_MAX)])
    ledger.hold([held(WANTS_MAX, priority=1), held(WANTS_MAX + 1, priority=2), held(WANTS_MAX + 2, priority=0)])
    assert ledger.held == WANTS_MAX
    numbers = drain(ledger)
    assert numbers[0] == WANTS_MAX + 1
    assert numbers[1:] == list(range(WANTS_MAX - 1))


def test_A46_where_all_is_held_absent_wants_are_not_remembered() -> None:
    ledger = Ledger()
    ledger.hold([held(index) for index in range(WANTS_MAX - 1)])
    assert ledger.miss(Want(CIDS[WANTS_MAX])) == []
    ledger.hold([held(WANTS_MAX - 1)])
    assert len(ledger) == WANTS_MAX
    assert ledger.miss(Want(CIDS[WANTS_MAX + 1])) == [CIDS[WANTS_MAX + 1].multihash]
    assert len(ledger) == WANTS_MAX == ledger.held


def test_A45_the_order_does_not_grow_with_wants_that_are_repeated() -> None:
    ledger = Ledger()
    ledger.hold([held(200, priority=7), held(201, priority=-5), held(202, priority=9)])
    for _ in range(50):
        ledger.hold([held(index, priority=1) for index in range(100)])
        assert len(ledger._order) <= 2 * WANTS_MAX
    assert ledger.held == 103
    assert drain(ledger) == [202, 200, *range(100), 201]


def test_clearing_forgets_all_wants_and_keeps_the_counts() -> None:
    ledger = Ledger()
    ledger.hold([held(0)])
    ledger.miss(Want(CIDS[1]))
    ledger.count_sent(2, 500)
    ledger.count_sent(1, 50)
    ledger.count_received(3, 700)
    ledger.count_received(1, 7)
    assert ledger.clear() == [CIDS[1].multihash]
    assert len(ledger) == 0
    assert ledger._order == []
    assert ledger.peek() is None
    assert (ledger.blocks_sent, ledger.bytes_sent) == (3, 550)
    assert (ledger.blocks_received, ledger.bytes_received) == (4, 707)


def test_blocks_answer_want_block_and_small_ones_want_have() -> None:
    cid = CIDS[0]
    assert is_answered_by_block(Want(cid), 2_000_000, 1024)
    assert is_answered_by_block(Want(cid, WantKind.HAVE), 1024, 1024)
    assert not is_answered_by_block(Want(cid, WantKind.HAVE), 1025, 1024)
    assert held_want(Want(cid, priority=8), 99) == HeldWant(cid, 99, 8)


@given(
    st.lists(
        st.tuples(st.sampled_from(["hold", "miss", "cancel", "pop", "clear"]), st.integers(0, 30), st.integers(-3, 3)),
        max_size=60,
    )
)
def test_any_order_of_operations_keeps_the_books(operations: list[tuple[str, int, int]]) -> None:
    ledger = Ledger()
    expected_held: dict[int, int] = {}
    expected_absent: set[int] = set()
    for what, number, priority in operations:
        if what == "hold":
            ledger.hold([held(number, priority=priority)])
            expected_absent.discard(number)
            expected_held[number] = priority
        elif what == "miss":
            ledger.miss(Want(CIDS[number]))
            expected_held.pop(number, None)
            expected_absent.add(number)
        elif what == "cancel":
            ledger.cancel(CIDS[number].multihash)
            expected_held.pop(number, None)
            expected_absent.discard(number)
        elif what == "pop":
            want = taken(ledger)
            assert (want is None) == (not expected_held)
            if want is not None:
                assert want.priority == max(expected_held.values())
                assert expected_held.pop(CIDS.index(want.cid)) == want.priority
        else:
            assert set(ledger.clear()) == {CIDS[index].multihash for index in expected_absent}
            expected_held.clear()
            expected_absent.clear()
        assert ledger.held == len(expected_held)
        assert len(ledger) == len(expected_held) + len(expected_absent)
