"""dag-pb: canonical bytes out, strict reading in. The vectors are in tests/vectors/test_ipld.py."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag.dag_pb import CODEC, SIZE_MAX, Link, Node, decode, encode, from_value, links, to_value
from stack.dag.model import EncodeError
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from tests.dag.strategies import cids, nodes

VECTORS = Path(__file__).parent.parent / "vectors"
LEAF = Cid.of(b"leaf")
HASH = b"\x0a\x24" + bytes(LEAF)


def wrapped(link: bytes) -> bytes:
    """A node with this one link."""
    return b"\x12" + bytes((len(link),)) + link


def recorded_blocks() -> list[bytes]:
    fixtures = json.loads((VECTORS / "ipld-codec-fixtures.json").read_text())["fixtures"]
    blocks = [record["hex"] for record in json.loads((VECTORS / "ipld.json").read_text())["dag_pb"]]
    blocks += [record["forms"]["dag-pb"]["hex"] for record in fixtures if "dag-pb" in record["forms"]]
    return [bytes.fromhex(block) for block in blocks]


@given(nodes())
@settings(deadline=None)
def test_a_node_comes_back_with_its_links_sorted_by_the_bytes_of_their_names(node: Node) -> None:
    block = encode(node)
    found = decode(block)
    assert found.data == node.data
    assert found.links == tuple(
        sorted(node.links, key=lambda link: (link.name or "").encode("utf-8", "surrogateescape"))
    )
    assert encode(found) == block
    assert links(block) == [link.cid for link in found.links]


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_any_bytes_are_a_node_or_a_decode_error(data: bytes) -> None:
    try:
        node = decode(data)
    except DecodeError:
        return
    assert decode(encode(node)).data == node.data


@given(nodes(), st.data())
@settings(deadline=None)
def test_a_changed_byte_gives_a_node_or_a_decode_error(node: Node, data: st.DataObject) -> None:
    block = bytearray(encode(node))
    if block:
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(block)
    except DecodeError:
        pass


def test_A50_every_truncation_of_a_block_is_an_error_or_ends_between_two_fields() -> None:
    blocks = recorded_blocks()
    assert len(blocks) >= 20
    for block in blocks:
        whole = decode(block)
        for stop in range(len(block)):
            try:
                node = decode(block[:stop])
            except DecodeError:
                continue
            assert node.links == whole.links[: len(node.links)]
            assert node.data in (None, whole.data)


def test_A50_a_length_past_the_end_of_its_link_does_not_reach_into_the_next_field() -> None:
    for link in (
        b"\x0a\x25" + bytes(LEAF),
        HASH + b"\x12\x05ab",
        HASH + b"\x18",
        HASH + b"\x18\x80",
        HASH + b"\x12",
        b"\x0a",
    ):
        with pytest.raises(DecodeError):
            decode(wrapped(link) + wrapped(HASH) + b"\x0a\x02ab")


def test_A57_a_block_full_of_links_is_read_in_bounded_memory() -> None:
    block = wrapped(HASH) * 52_000  # 2 MiB
    tracemalloc.start()
    try:
        assert len(decode(block).links) == 52_000
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_name_that_is_not_utf8_is_kept_and_written_back() -> None:
    block = wrapped(HASH + b"\x12\x02\xff\xfe")
    node = decode(block)
    assert node.links[0].name == "\udcff\udcfe"
    assert encode(node) == block


def test_names_are_sorted_by_bytes_where_text_would_sort_otherwise() -> None:
    wide, odd = "\U0001f600", "\udcff"  # f0 9f 98 80 and ff; as code points the other way round
    node = Node(None, (Link(odd, None, LEAF), Link(wide, None, LEAF), Link(None, None, LEAF), Link("", None, LEAF)))
    assert [link.name for link in decode(encode(node)).links] == [None, "", wide, odd]


def test_lengths_and_sizes_need_not_be_minimal() -> None:
    """Standard protobuf parsing, as go-codec-dagpb and @ipld/dag-pb do."""
    assert decode(b"\x0a\x81\x00x") == Node(b"x", ())
    assert decode(wrapped(HASH + b"\x18\x85\x00")).links == (Link(None, 5, LEAF),)


def test_a_size_of_64_bits_is_read_and_one_more_is_not() -> None:
    assert decode(wrapped(HASH + b"\x18" + b"\xff" * 9 + b"\x01")).links[0].size == SIZE_MAX
    for size in (b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01"):
        with pytest.raises(DecodeError):
            decode(wrapped(HASH + b"\x18" + size))


def test_fields_of_a_link_out_of_order_are_refused() -> None:
    for link in (b"\x12\x01a" + HASH, HASH + b"\x18\x01\x12\x01a", HASH + HASH, HASH + b"\x1a\x01\x01", b""):
        with pytest.raises(DecodeError):
            decode(wrapped(link))


@pytest.mark.parametrize("size", [-1, SIZE_MAX + 1])
def test_a_size_outside_of_64_bits_is_not_written(size: int) -> None:
    with pytest.raises(EncodeError):
        encode(Node(None, (Link("", size, LEAF),)))


def test_a_name_that_is_half_a_surrogate_pair_is_not_written() -> None:
    with pytest.raises(EncodeError):
        encode(Node(None, (Link("\ud800", 1, LEAF),)))


@given(nodes())
@settings(deadline=None)
def test_the_logical_format_says_the_same(node: Node) -> None:
    canonical = decode(encode(node))
    assert from_value(to_value(canonical)) == canonical
    assert CODEC.encode(CODEC.decode(encode(node))) == encode(node)


@given(st.lists(cids(), min_size=2, max_size=2))
@settings(deadline=None)
def test_the_logical_format_must_be_in_order(pair: list[Cid]) -> None:
    with pytest.raises(EncodeError):
        from_value({"Links": [{"Hash": pair[0], "Name": "b"}, {"Hash": pair[1], "Name": "a"}]})


@pytest.mark.parametrize("size", [-1, SIZE_MAX + 1])
def test_a_size_in_the_logical_format_is_held_to_64_bits(size: int) -> None:
    with pytest.raises(EncodeError):
        CODEC.encode({"Links": [{"Hash": LEAF, "Tsize": size}]})
