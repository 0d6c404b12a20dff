"""Hashes of names, and the links of foreign shards."""

import pytest

from stack.dag.dag_pb import Link
from stack.dag.unixfs.hamt import hash_name, murmur3, shard_links
from stack.errors import DecodeError
from stack.multiformats.cid import Cid

CID = Cid.of(b"")


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", 0),
        ("hello", 0xCBD8A7B341BD9B02),
        ("hello, world", 0x342FAC623A5EBC8E),
        ("19 Jan 2038 at 3:14:07 AM", 0xB89E5988B737AFFC),
        ("The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_murmur3_as_others_compute_it(text: str, digest: int) -> None:
    assert murmur3(text.encode()) == digest


def test_the_first_digits_of_the_specifications_example() -> None:
    # unixfs.md, "`dag-pb` `HAMTDirectory` Path Resolution": buckets 00, then 6E and FF.
    assert hash_name("470.txt") >> 48 == 0x006E
    assert hash_name("742.txt") >> 48 == 0x00FF


def test_names_that_are_not_utf8_are_hashed_as_their_bytes() -> None:
    assert hash_name("a\udcff") == murmur3(b"a\xff")


def test_the_name_of_a_link_is_digit_and_name() -> None:
    links = [Link("0F", 1, CID), Link("A0x", 1, CID)]
    found = shard_links(links, (1 << 0x0F | 1 << 0xA0).to_bytes(32, "big"), 256)
    assert [(link.digit, link.name) for link in found] == [(0x0F, ""), (0xA0, "x")]


@pytest.mark.parametrize(
    ("names", "bits", "fanout"),
    [
        (["0"], 1, 256),
        ([None], 0, 256),
        (["zz"], 0, 256),
        (["0f"], 1 << 15, 256),
        (["+F"], 1 << 15, 256),
        (["-1"], 0, 256),
        (["A"], 1 << 10, 8),
        (["00x", "00y"], 1, 256),
        (["00"], 2, 256),
        (["00"], 3, 256),
        ([], 1, 256),
    ],
    ids=[
        "short",
        "no name",
        "no digit",
        "lower case",
        "plus",
        "minus",
        "above fanout",
        "twice",
        "wrong",
        "more",
        "none",
    ],
)
def test_A53_links_that_contradict_the_shard_are_refused(names: list[str | None], bits: int, fanout: int) -> None:
    with pytest.raises(DecodeError):
        shard_links([Link(name, 1, CID) for name in names], bits.to_bytes(32, "big"), fanout)
