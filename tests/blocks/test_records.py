"""The format of a pack's records, by the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.blocks.records import HEAD, RECORD_HEAD_MAX, RecordHead, decode_head, encode_head, head_size

NAME = b"\x12\x20" + bytes(range(32))


def test_a_head_is_written_as_the_format_says() -> None:
    assert HEAD == b"stkpack1"
    head = encode_head(NAME, 0x01020304)
    assert head[:9] == b"\xf5blk\x22\x01\x02\x03\x04"
    assert head[9:43] == NAME
    assert len(head) == 47 == head_size(NAME)


@given(st.binary(max_size=255), st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_what_was_written_is_read_whatever_follows(name: bytes, length: int, rest: bytes) -> None:
    head = encode_head(name, length)
    assert len(head) <= RECORD_HEAD_MAX
    assert decode_head(head + rest) == RecordHead(name, length, len(head))


@pytest.mark.parametrize("size", range(47))
def test_a_head_that_is_cut_short_is_none(size: int) -> None:
    assert decode_head(encode_head(NAME, 1000)[:size]) is None


@given(st.integers(0, 47 * 8 - 1))
def test_a_head_with_a_flipped_bit_is_none(bit: int) -> None:
    head = bytearray(encode_head(NAME, 1000))
    head[bit // 8] ^= 1 << bit % 8
    assert decode_head(bytes(head) + bytes(300)) is None
