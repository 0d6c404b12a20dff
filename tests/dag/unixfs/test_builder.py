"""The tree over a file's leaves. That its bytes are those of Kubo is tested with vectors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag import dag_pb
from stack.dag.unixfs.builder import FileBuilder, leaf_block
from stack.dag.unixfs.data import UnixTime
from stack.dag.unixfs.options import ImportOptions, import_options, profile
from stack.dag.unixfs.reader import decode_node, leaf_frame
from stack.errors import LocalProtocolError
from stack.multiformats.multicodec import RAW
from tests.dag.unixfs.trees import Blocks, build_file, node_of, read

OPTIONS = st.builds(
    lambda cid_version, raw, trickle, width, inline: ImportOptions(
        cid_version=cid_version, raw_leaves=raw, trickle=trickle, max_file_links=width, inline=inline
    ),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
    st.integers(2, 5),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(OPTIONS, st.lists(st.binary(min_size=1, max_size=40), max_size=80))
def test_what_is_built_is_read(options: ImportOptions, pieces: list[bytes]) -> None:
    blocks: Blocks = {}
    root = build_file(options, pieces, blocks)
    node = node_of(root.cid, blocks)
    data, _ = read(node, blocks)
    assert data == b"".join(pieces)
    assert root.size == node.file_size == len(data)


@settings(max_examples=100, deadline=None)
@given(OPTIONS, st.integers(0, 60))
def test_no_node_has_too_many_links_and_sizes_add_up(options: ImportOptions, count: int) -> None:
    blocks: Blocks = {}
    root = build_file(options, [b"leaf %d" % i + b"." * 40 for i in range(count)], blocks)
    waiting = [root.cid]
    total = 0
    while waiting:
        cid = waiting.pop()
        total += len(blocks[cid]) if cid in blocks else len(cid.digest)
        node = node_of(cid, blocks)
        most = options.max_file_links + 4 * 10 * options.trickle
        assert len(node.links) <= most
        waiting += [link.cid for link in node.links]
    assert total == root.dag_size


def test_the_builder_holds_no_more_than_a_branch() -> None:
    for trickle in False, True:
        options = ImportOptions(max_file_links=10, trickle=trickle)
        builder = FileBuilder(options)
        cid = leaf_block(options, b"x")[0]
        most = 0
        for _ in range(20_000):
            builder.add_leaf(cid, 1, 1)
            while builder.next_block():
                pass
            held = sum(map(len, builder._levels)) + sum(len(branch.children) for branch in builder._branches)
            most = max(most, held)
        assert most < 10 * 20


@pytest.mark.parametrize("options", [profile("default"), profile(), ImportOptions(raw_leaves=False, hash="sha2-512")])
def test_a_leaf_is_its_payload_between_two_frames(options: ImportOptions) -> None:
    payload = bytes(range(256)) * 3
    cid, prefix, suffix = leaf_block(options, memoryview(payload))
    block = prefix + payload + suffix
    assert options.cid(cid.codec, block) == cid
    node = decode_node(cid, block)
    assert bytes(node.payload) == payload
    assert leaf_frame(node, block) == (prefix, suffix)
    assert (cid.codec == RAW) == options.raw_leaves == (not prefix + suffix)


def test_frames_of_foreign_leaves_are_found_too() -> None:
    # Fields in another order, an unknown field, no payload.
    for message in ["18021202aabb0802", "080212025555180248ff01", "08021800"]:
        data = bytes.fromhex(message)
        block = dag_pb.encode(dag_pb.Node(data, ()))
        node = decode_node(profile("unixfs-v0-2015").cid(0x70, block), block)
        prefix, suffix = leaf_frame(node, block)
        assert prefix + bytes(node.payload) + suffix == block


@pytest.mark.parametrize("name", ["default", "unixfs-v1-2025"])
def test_an_empty_file_has_one_empty_leaf(name: str) -> None:
    blocks: Blocks = {}
    root = build_file(profile(name), [], blocks)
    assert root.cid == leaf_block(profile(name), b"")[0]
    assert root.size == 0
    assert root.dag_size == len(blocks[root.cid])


def test_blocks_inside_their_cid_are_not_given_out() -> None:
    blocks: Blocks = {}
    root = build_file(import_options("default", {"inline": True}), [], blocks)
    assert not blocks
    assert node_of(root.cid, {}).file_size == 0


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 20])
def test_the_root_records_mode_and_time_and_nothing_below_does(trickle: bool, count: int) -> None:
    options = ImportOptions(raw_leaves=False, trickle=trickle, max_file_links=4)
    blocks: Blocks = {}
    root = build_file(options, [b"%d" % i for i in range(count)], blocks, mode=0o640, mtime=UnixTime(7, 8))
    nodes = {cid: node_of(cid, blocks) for cid in blocks}
    assert {cid for cid, node in nodes.items() if node.mode is not None or node.mtime is not None} == {root.cid}
    assert (nodes[root.cid].mode, nodes[root.cid].mtime) == (0o640, UnixTime(7, 8))


def test_a_lone_leaf_without_the_mode_of_its_file_is_refused() -> None:
    for options in profile("default"), profile():
        builder = FileBuilder(options)
        builder.add_leaf(leaf_block(options, b"x")[0], 1, 9)
        with pytest.raises(LocalProtocolError):
            builder.finish(mode=0o644)


def test_a_leaf_that_is_a_whole_file_stays_alone() -> None:
    options = profile("default")
    cid = leaf_block(options, b"x")[0]
    for first in False, True:
        builder = FileBuilder(options)
        builder.add_leaf(cid, 1, 9, whole_file=first)
        with pytest.raises(LocalProtocolError):
            builder.add_leaf(cid, 1, 9, whole_file=not first)


def test_a_raw_leaf_has_no_place_for_mode_and_time() -> None:
    for mode, mtime in (0o644, None), (None, UnixTime(0)):
        with pytest.raises(LocalProtocolError):
            leaf_block(profile(), b"x", mode=mode, mtime=mtime)
