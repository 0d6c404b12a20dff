"""Which leaves somebody has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.protocols.providers.interfaces import KEY_BYTES, RangeBook, announce_key
from stack.protocols.providers.ranges import LEAVES_MAX, LeafRanges, merge_runs
from tests.bitswap.simulation import cid_of

runs_of_100 = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)).map(lambda pair: (min(pair), max(pair))))


@given(st.integers(1, 100), runs_of_100)
def test_a_bitmap_is_a_set_of_numbers(count: int, runs: list[tuple[int, int]]) -> None:
    ranges = LeafRanges(count)
    expected: set[int] = set()
    for start, end in runs:
        start, end = min(start, count), min(end, count)
        ranges.add(start, end)
        expected |= set(range(start, end))
    assert len(ranges) == len(expected)
    assert [leaf for leaf in range(-1, count + 9) if leaf in ranges] == sorted(expected)
    assert ranges.complete == (len(expected) == count)
    assert ranges.runs() == merge_runs(runs_in(expected))
    assert {leaf for start, end in ranges.runs() for leaf in range(start, end)} == expected
    assert LeafRanges.decode(count, bytes(ranges)) == ranges
    copy = ranges.copy()
    assert copy == ranges
    copy.add(0, count)
    assert copy.runs_missing_in(ranges, count) == merge_runs(runs_in(set(range(count)) - expected))
    assert ranges.runs_missing_in(copy, count) == []


def runs_in(numbers: set[int]) -> list[tuple[int, int]]:
    return [(number, number + 1) for number in numbers]


def test_leaf_n_is_bit_n_modulo_8_of_byte_n_over_8() -> None:
    ranges = LeafRanges(12)
    ranges.add(1, 2)
    ranges.add(8, 10)
    assert bytes(ranges) == b"\x02\x03"
    assert repr(ranges) == "<LeafRanges 3 of 12>"


@pytest.mark.parametrize(
    ("count", "bitmap"),
    [(8, b""), (8, b"\x00\x00"), (9, b"\xff"), (9, b"\xff\x02"), (0, b"\x00"), (-1, b""), (LEAVES_MAX + 1, b"\x00")],
)
def test_bitmaps_of_another_size_or_with_stray_bits_are_refused(count: int, bitmap: bytes) -> None:
    with pytest.raises(DecodeError):
        LeafRanges.decode(count, bitmap)


def test_a_bitmap_without_spare_bits_is_taken() -> None:
    assert LeafRanges.decode(9, b"\xff\x01").complete
    assert LeafRanges.decode(0, b"").complete


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 11)])
def test_leaves_outside_of_the_file_are_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="leaves"):
        LeafRanges(10).add(start, end)


@pytest.mark.parametrize("count", [-1, LEAVES_MAX + 1])
def test_bitmaps_are_bounded(count: int) -> None:
    with pytest.raises(ValueError, match="leaves"):
        LeafRanges(count)


def test_ranges_equal_only_ranges() -> None:
    assert LeafRanges(3) != b"\x00"
    assert LeafRanges(3) != LeafRanges(4)


def test_runs_are_sorted_and_joined() -> None:
    assert merge_runs([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4), (1, 2)]) == [(0, 3), (5, 9)]
    assert merge_runs([]) == []


def test_a_key_tells_nothing_to_those_who_do_not_know_the_root() -> None:
    key = announce_key(cid_of(1).multihash)
    assert len(key) == KEY_BYTES
    assert key.hex() == "e707960adf06f14f0cacdc750a7bd8a4"
    assert key not in cid_of(1).multihash


def test_a_book_knows_roots_by_their_keys() -> None:
    book = RangeBook()
    root, other = cid_of(1), cid_of(2)
    ranges = LeafRanges(4)
    book.add(root, ranges)
    assert book.root_of(announce_key(root.multihash)) == root
    assert book.root_of(announce_key(other.multihash)) is None
    assert book.ranges(root) is ranges
    assert book.ranges(other) is None
    book.add(root, LeafRanges(5))
    assert len(book) == 1
    book.remove(root)
    book.remove(root)
    assert book.root_of(announce_key(root.multihash)) is None
    assert len(book) == 0
