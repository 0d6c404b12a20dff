"""Cuts: against a plain loop over the bytes, however the input is split."""

import hashlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag.unixfs import chunkers
from stack.dag.unixfs.chunkers import CHUNK_SIZE_MAX, parse_chunker
from stack.errors import ConfigError

POLYNOMIAL = 17437180132763653


def cut(chunker: str, data: bytes, sizes: list[int] | None = None) -> list[int]:
    """The chunks of `data`, fed in pieces of these sizes, then the rest."""
    machine = parse_chunker(chunker)
    lengths: list[int] = []
    position = 0
    for size in sizes or ():
        lengths += machine.feed(memoryview(data)[position : position + size])
        position += size
    return lengths + machine.feed(data[position:]) + machine.finish()


def rabin_by_loop(data: bytes, minimum: int, average: int, maximum: int) -> list[int]:
    mask = (1 << (average.bit_length() - 1)) - 1
    lengths = []
    start = 0
    while start < len(data):
        end = start + minimum
        while end < min(len(data), start + maximum):
            remainder = 0
            for byte in data[end - 16 : end]:
                remainder = remainder << 8 | byte
                while remainder >> 53:
                    remainder ^= POLYNOMIAL << (remainder.bit_length() - 54)
            if not remainder & mask:
                break
            end += 1
        lengths.append(min(end, len(data)) - start)
        start += lengths[-1]
    return lengths


@cache
def buzhash_numbers() -> list[int]:
    numbers = bytes.fromhex("".join(chunkers._BUZHASH_NUMBERS))
    return [int.from_bytes(numbers[i : i + 4], "big") for i in range(0, 1024, 4)]


def buzhash_by_loop(data: bytes) -> list[int]:
    numbers = buzhash_numbers()
    lengths = []
    start = 0
    while start < len(data):
        end = start + 128 * 1024
        state = 0
        for byte in data[end - 32 : end]:
            state = (state << 1 & 0xFFFFFFFF | state >> 31) ^ numbers[byte]
        while end < min(len(data), start + 512 * 1024) and state & 0x1FFFF:
            state = (state << 1 & 0xFFFFFFFF | state >> 31) ^ numbers[data[end]] ^ numbers[data[end - 32]]
            end += 1
        lengths.append(min(end, len(data)) - start)
        start += lengths[-1]
    return lengths


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=1500) | st.builds(lambda unit, times: unit * times, st.binary(max_size=3), st.integers(0, 500)),
    st.sampled_from([(16, 17, 18), (16, 32, 64), (17, 255, 256), (30, 300, 400)]),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_rabin_cuts_where_a_loop_would_whatever_the_split(
    data: bytes, sizes: tuple[int, int, int], split: list[int]
) -> None:
    text = "rabin-" + "-".join(map(str, sizes))
    assert cut(text, data, split) == rabin_by_loop(data, *sizes)


def test_buzhash_cuts_where_a_loop_would() -> None:
    data = hashlib.shake_256(b"buzhash").digest(1_200_000)
    assert cut("buzhash", data) == buzhash_by_loop(data)


def test_buzhash_cuts_at_its_maximum_where_the_hash_never_ends_in_zeros() -> None:
    # 32 times the same byte: all bits of the hash are the parity of its number.
    odd = next(byte for byte, number in enumerate(buzhash_numbers()) if number.bit_count() % 2)
    assert cut("buzhash", bytes((odd,)) * 1_200_000) == [524288, 524288, 151424]
    even = next(byte for byte, number in enumerate(buzhash_numbers()) if not number.bit_count() % 2)
    assert cut("buzhash", bytes((even,)) * 300_000) == [131072, 131072, 37856]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 400_000), max_size=8), st.sampled_from(["buzhash", "rabin", "size-100000"]))
def test_any_split_of_the_input_gives_the_same_chunks(split: list[int], chunker: str) -> None:
    data = hashlib.shake_256(b"split").digest(900_000)
    whole = cut(chunker, data)
    assert sum(whole) == len(data)
    assert cut(chunker, data, split) == whole


@pytest.mark.parametrize("chunker", ["size-5", "rabin-16-32-64", "buzhash"])
def test_byte_by_byte_is_the_same_as_at_once(chunker: str) -> None:
    data = hashlib.shake_256(b"bytes").digest(2000)
    assert cut(chunker, data, [1] * len(data)) == cut(chunker, data)


@pytest.mark.parametrize("chunker", ["size-5", "rabin", "buzhash"])
def test_nothing_is_no_chunk(chunker: str) -> None:
    assert cut(chunker, b"") == []


@pytest.mark.parametrize(("size", "lengths"), [(9, [5, 4]), (10, [5, 5]), (3, [3])])
def test_fixed_sizes_leave_a_rest(size: int, lengths: list[int]) -> None:
    assert cut("size-5", bytes(size)) == lengths


def test_only_fixed_sizes_are_told_in_advance() -> None:
    assert parse_chunker(f"size-{CHUNK_SIZE_MAX}").fixed_size == CHUNK_SIZE_MAX
    assert parse_chunker("rabin-64").fixed_size is None
    assert parse_chunker("buzhash").fixed_size is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "size",
        "size-0",
        "size--1",
        "size-1-2",
        "size-x",
        "size-1_0",
        "size-٣",
        "size-" + "1" * 4000,
        f"size-{CHUNK_SIZE_MAX + 1}",
        "rabin-1-2",
        "rabin-1-2-3-4",
        "rabin-15-20-30",
        "rabin-20-20-30",
        "rabin-20-30-30",
        "rabin-47",
        f"rabin-20-30-{CHUNK_SIZE_MAX + 1}",
        "buzhash-5",
        "fastcdc",
    ],
)
def test_what_is_no_chunker_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_chunker(text)


def test_the_base_class_decides_no_cut() -> None:
    with pytest.raises(NotImplementedError):
        chunkers._ContentChunker(1, 2)._find(b"", 0)
