import base64

import multibase as py_multibase
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.multiformats import multibase
from tests.flooding import quickest

BIG_NUMBERS = ("base10", "base36", "base36upper", "base58btc", "base58flickr")


@given(st.sampled_from(multibase.BASES), st.binary(max_size=80))
def test_bytes_come_back_from_every_base(base: str, data: bytes) -> None:
    assert multibase.decode(multibase.encode(base, data)) == (base, data)


@given(
    st.sampled_from(sorted(set(multibase.BASES) - {"base2", "base8", "base32z"})), st.binary(min_size=1, max_size=40)
)
def test_py_multibase_writes_the_same(base: str, data: bytes) -> None:
    if base in BIG_NUMBERS:
        data = b"\x01" + data  # py-multibase loses leading zeros
    assert multibase.encode(base, data) == py_multibase.encode(base, data).decode()


@given(st.text(max_size=40))
def test_any_text_is_what_would_be_written_or_a_decode_error(text: str) -> None:
    try:
        base, data = multibase.decode(text)
    except DecodeError:
        return
    written = multibase.encode(base, data)
    assert text == written or (text.isascii() and text.lower() == written.lower())


@given(st.sampled_from(multibase.BASES), st.text(alphabet="0123456789abcdefABCDEFzZ_+-= \u0661\u212a", max_size=12))
def test_unusual_digits_are_refused_or_mean_what_is_written(base: str, digits: str) -> None:
    text = multibase.encode(base, b"")[0] + digits
    try:
        name, data = multibase.decode(text)
    except DecodeError:
        return
    assert name == base
    assert digits.isascii()
    assert multibase.encode(base, data).lower() == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "bab",  # base32: two bits of 'b' would be lost
        "mAB",  # base64: four bits of 'B' would be lost
        "70",  # base8: three digits hold a byte
        "01",  # base2: eight digits hold a byte
        "01_00000001",
        "MAA",
        "uAA==",
        "hYY",  # base32z has one case
    ],
)
def test_a_second_text_for_the_same_bytes_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        multibase.decode(text)


def test_there_is_no_base_of_another_name() -> None:
    with pytest.raises(ValueError, match="no base"):
        multibase.encode("base7", b"")


@pytest.mark.parametrize("base", BIG_NUMBERS)
def test_what_costs_the_square_of_its_length_is_capped(base: str) -> None:
    with pytest.raises(ValueError, match="at most 1024"):
        multibase.encode(base, bytes(multibase.BIG_NUMBER_BYTES_MAX + 1))
    longest = multibase.encode(base, b"\xff" * multibase.BIG_NUMBER_BYTES_MAX)
    assert multibase.decode(longest) == (base, b"\xff" * multibase.BIG_NUMBER_BYTES_MAX)

    def work() -> None:
        with pytest.raises(DecodeError, match="are read"):
            multibase.decode(longest[0] + "2" * 10_000_000)

    assert quickest(work) < 0.05


def test_base58_without_prefix_is_that_of_bitcoin() -> None:
    assert multibase.encode_base58(b"Hello World!") == "2NEpo7TZRRrLZSi2U"
    assert multibase.decode_base58("2NEpo7TZRRrLZSi2U") == b"Hello World!"
    with pytest.raises(DecodeError, match="'0' is no digit"):
        multibase.decode_base58("10")


@given(st.binary(max_size=70))
def test_base32_is_that_of_the_standard_library(data: bytes) -> None:
    assert multibase.encode("base32upper", data) == "B" + base64.b32encode(data).decode().rstrip("=")
