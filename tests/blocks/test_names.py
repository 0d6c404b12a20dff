"""A set of names in little memory, against Python's own."""

import hashlib
import sys

import pytest

from stack.blocks import names
from stack.blocks.names import NameSet


def name(number: int) -> bytes:
    """A multihash."""
    return b"\x12\x20" + hashlib.sha256(number.to_bytes(4, "big")).digest()


@pytest.mark.parametrize("bucket", [1, 3, 32])
def test_it_knows_what_a_set_knows(monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    monkeypatch.setattr(names, "_BUCKET_ENTRIES", bucket)
    few, known = NameSet(), set()
    for number in range(3000):
        one = name(number * 7919 % 2000)
        assert (one in few) == (one in known)
        assert few.add(one) == (one not in known)
        known.add(one)
    few.update(name(number) for number in range(1500, 2500))
    assert len(few) == 2500
    assert [number for number in range(3000) if name(number) in few] == list(range(2500))


def test_names_that_differ_in_one_place_are_different() -> None:
    """One digest under two hash functions, and two digests with the same end."""
    few = NameSet()
    one = name(1)
    variants = [one, b"\x16" + one[1:], one[:2] + b"\0" + one[3:], one + b"\0", b"\0" + one, one[-8:]]
    assert [few.add(variant) for variant in variants] == [True] * len(variants)


def test_an_entry_across_the_border_of_two_others_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_BUCKETS", 1)
    few = NameSet()
    few.add(name(1))
    few.add(name(2))
    assert names._holds(few._buckets[0], bytes(few._buckets[0][16:]))
    assert not names._holds(few._buckets[0], bytes(few._buckets[0][8:24]))


def test_a_name_takes_at_most_30_bytes() -> None:
    """Finding 41: 1 TiB of leaves of 256 KiB is four million names."""
    few = NameSet()
    for number in range(70_000):  # as few in a bucket as can be, 2,000 after a growth
        few.add(name(number))
    size = sum(sys.getsizeof(bucket) + 16 for bucket in few._buckets) + sys.getsizeof(few._buckets)
    assert size / len(few) < 30
