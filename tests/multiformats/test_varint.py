import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.multiformats import varint


@given(st.integers(0, varint.VALUE_MAX), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_comes_back_from_any_place_in_a_buffer(value: int, before: bytes, after: bytes) -> None:
    data = before + varint.encode(value) + after
    assert varint.decode(data, len(before)) == (value, len(data) - len(after))
    assert varint.decode(memoryview(data), len(before)) == (value, len(data) - len(after))


@given(st.binary(max_size=12))
def test_any_bytes_are_a_minimal_varint_or_a_decode_error(data: bytes) -> None:
    try:
        value, end = varint.decode(data)
    except DecodeError:
        return
    assert varint.encode(value) == data[:end]


@pytest.mark.parametrize("value", [-1, varint.VALUE_MAX + 1, 1 << 80])
def test_what_nine_bytes_cannot_hold_is_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="not between"):
        varint.encode(value)


def test_an_endless_varint_is_refused_after_nine_bytes() -> None:
    with pytest.raises(DecodeError, match="longer than 9"):
        varint.decode(b"\x80" * 200_000)
