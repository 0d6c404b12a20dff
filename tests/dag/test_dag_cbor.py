"""dag-cbor: one form for each value, and hostile blocks that cost nothing. The vectors are in tests/vectors/test_ipld.py."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag import dag_cbor, model
from stack.dag.dag_cbor import decode, encode, links
from stack.dag.model import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, EncodeError, Value
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from tests.dag.strategies import values
from tests.flooding import quickest

LEAF = Cid.of(b"leaf")


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@given(values())
@settings(deadline=None)
def test_a_value_comes_back_and_has_one_form(value: Value) -> None:
    block = encode(value)
    assert decode(block) == value
    assert encode(decode(block)) == block


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_a_decode_error_or_the_one_form_of_a_value(data: bytes) -> None:
    try:
        value = decode(data)
    except DecodeError:
        return
    assert encode(value) == data


@given(values(), st.data())
@settings(deadline=None)
def test_a_changed_byte_gives_another_canonical_block_or_a_decode_error(value: Value, data: st.DataObject) -> None:
    block = bytearray(encode(value))
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(block)
    except DecodeError:
        return
    assert encode(found) == block


@given(values())
@settings(deadline=None)
def test_every_truncation_is_an_error(value: Value) -> None:
    block = encode(value)
    for stop in range(len(block)):
        with pytest.raises(DecodeError):
            decode(block[:stop])


def test_nesting_up_to_the_bound_is_read_and_written_without_recursion() -> None:
    for block in (
        b"\x81" * DEPTH_MAX + b"\x00",
        b"\x81" * (DEPTH_MAX - 1) + b"\x80",
        b"\xa1\x61a" * DEPTH_MAX + b"\x00",
    ):
        assert encode(decode(block)) == block


@pytest.mark.parametrize("empty", [b"\x80", b"\xa0", b"\x81\x00"])
def test_nesting_over_the_bound_is_refused(empty: bytes) -> None:
    with pytest.raises(DecodeError, match="nested"):
        decode(b"\x81" * DEPTH_MAX + empty)
    value: Value = []
    for _ in range(DEPTH_MAX):
        value = {"a": value}
    with pytest.raises(EncodeError, match="nested"):
        encode(value)


def test_a_value_that_holds_itself_is_an_error() -> None:
    value: list[Value] = []
    value.append(value)
    with pytest.raises(EncodeError):
        encode(value)


@pytest.mark.parametrize(
    "block",
    [
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff" * 10,
        b"\x9a\xff\xff\xff\xff" * 19,
        b"\xba\xff\xff\xff\xff\x61a" * 14,
        b"\x81" * 60 + b"\x9a\x00\x10\x00\x00" * 8,
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x7a\xff\xff\xff\xff",
        b"\xd8\x2a\x5a\xff\xff\xff\xff\x00",
    ],
)
def test_A55_claimed_lengths_cost_no_memory(block: bytes) -> None:
    assert len(block) < 101
    with memory_below(2**20), pytest.raises(DecodeError):
        decode(block)


@pytest.mark.parametrize(
    "pattern", [b"\x81", b"\xa1\x61a", b"\xd8\x2a", b"\xc0", b"\x82\x00", b"\x9f", b"\xbf\x61a", b"\x82\x81"]
)
def test_A56_two_megabytes_of_openings_are_an_error_at_once(pattern: bytes) -> None:
    block = pattern * (2 * 10**6 // len(pattern))

    def work() -> None:
        with memory_below(2**20), pytest.raises(DecodeError):
            decode(block)

    assert quickest(work) < 2


def test_A57_the_items_of_a_block_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_cbor, "ITEMS_MAX", 4)
    assert decode(b"\x84\x00\x00\x00\x00") == [0] * 4
    assert decode(b"\xa2\x61a\x00\x61b\x00") == {"a": 0, "b": 0}
    for block in (b"\x85" + bytes(5), b"\x82\x82\x00\x00\x81\x00", b"\xa2\x61a\x00\x61b\x81\x00"):
        with pytest.raises(DecodeError, match="items"):
            decode(block)


def test_A57_a_block_of_two_megabytes_stays_below_the_bound_of_items() -> None:
    assert model.ITEMS_MAX > 2 * 2**20


@pytest.mark.parametrize(
    "value", [INTEGER_MIN - 1, INTEGER_MAX + 1, float("nan"), float("inf"), "\ud800", {"\ud800": 1}]
)
def test_values_outside_of_the_data_model_are_not_written(value: Value) -> None:
    with pytest.raises(EncodeError):
        encode([value])


@pytest.mark.parametrize("value", [{1: 2}, {b"a": 1}, (1, 2), {3}, object()])
def test_objects_outside_of_the_data_model_are_not_written(value: Value) -> None:
    with pytest.raises(EncodeError):
        encode(value)


@pytest.mark.parametrize(
    "value", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, INTEGER_MAX, -1, -24, -25, INTEGER_MIN]
)
def test_integers_take_the_fewest_bytes(value: int) -> None:
    block = encode(value)
    magnitude = value if value >= 0 else -1 - value
    assert len(block) == 1 + next(
        n for n, limit in ((0, 24), (1, 2**8), (2, 2**16), (4, 2**32), (8, 2**64)) if magnitude < limit
    )
    assert decode(block) == value


def test_a_reserved_head_is_refused() -> None:
    for first in (0x1C, 0x3D, 0x5E, 0xFC, 0xF8, 0xF9):
        with pytest.raises(DecodeError):
            decode(bytes((first,)) + bytes(8))


def test_links_come_in_the_order_of_the_block() -> None:
    others = [Cid.of(bytes((number,))) for number in range(3)]
    block = encode({"a": [others[0], {"z": others[1]}], "b": others[0], "cc": [[others[2]], 5, LEAF]})
    assert links(block) == [others[0], others[1], others[0], others[2], LEAF]
