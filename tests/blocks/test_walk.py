"""Walks of DAGs: each block once, each way of opening it once (finding 3, attack 1)."""

import pytest

from stack.blocks.walk import Visit, Walk
from stack.dag import dag_cbor, dag_json, dag_pb
from stack.dag import links as dag_links
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_CBOR, DAG_JSON, DAG_PB, RAW
from tests.blocks.test_marking import LEAF, OTHER, SEP, links, node


def walked(walk: Walk, *blocks: tuple[Cid, bytes], limit: int = 1) -> list[Visit]:
    """All visits, with the blocks at hand."""
    data = {cid.multihash: block for cid, block in blocks}
    visits: list[Visit] = []
    while batch := walk.next_batch(limit):
        visits += batch
        for visit in batch:
            if visit.opens and visit.cid.multihash in data:
                walk.receive(visit.cid, data[visit.cid.multihash])
    return visits


def cids(visits: list[Visit]) -> list[Cid]:
    return [visit.cid for visit in visits]


def test_the_order_is_depth_first_and_parents_come_before_children() -> None:
    lower = node(LEAF, OTHER)
    left = node(lower[0], LEAF)
    root = node(left[0], OTHER, lower[0])
    walk = Walk(links)
    walk.add(root[0])
    visits = walked(walk, root, left, lower)
    assert cids(visits) == [root[0], left[0], lower[0], LEAF, OTHER]
    assert all(visit.first for visit in visits)
    assert [visit.opens for visit in visits] == [True, True, True, False, False]


def test_a_node_that_was_met_as_a_raw_leaf_is_opened_when_it_is_met_as_a_node() -> None:
    inner = node(LEAF)
    as_leaf = inner[0].with_codec(RAW)
    for first, second in ((as_leaf, inner[0]), (inner[0], as_leaf)):
        root = node(first, second)
        walk = Walk(links)
        walk.add(root[0])
        visits = walked(walk, root, inner)
        assert LEAF in cids(visits)
        assert len(walk.met) == 3
        assert [visit.first for visit in visits].count(True) == 3


def test_a_node_is_opened_once_with_each_codec_that_has_links() -> None:
    inner = node(LEAF)
    names = [inner[0].with_codec(codec) for codec in (RAW, DAG_PB, DAG_CBOR, DAG_JSON, 0x85)] * 2
    walk = Walk(links)
    walk.add(*names)
    visits = walked(walk, inner, limit=3)
    assert [visit.cid.codec for visit in visits if visit.opens] == [DAG_PB, DAG_CBOR, DAG_JSON]
    assert [visit.cid for visit in visits if visit.first] == [names[0], LEAF]


def test_version_0_and_version_1_of_a_node_are_one() -> None:
    inner = node(LEAF)
    walk = Walk(links)
    walk.add(Cid.v0(inner[0].multihash), inner[0])
    assert cids(walked(walk, inner)) == [Cid.v0(inner[0].multihash), LEAF]


def test_a_node_in_its_own_name_is_followed_and_not_given_out() -> None:
    raw_inside = Cid.of(b"raw", hash="identity")
    inline = Cid.of(b"x" + SEP + str(LEAF).encode(), DAG_PB, hash="identity")
    root = node(inline, raw_inside, inline)
    for leaves in (True, False):
        walk = Walk(links, leaves=leaves)
        walk.add(root[0], inline)
        visits = walked(walk, root)
        assert cids(visits) == ([root[0], LEAF] if leaves else [root[0]])
        assert LEAF.multihash in walk.met
        assert len(walk.met) == 2


def test_a_circle_is_walked_once() -> None:
    """Hashes allow none, but a store whose bytes are not checked may hold one, and so may names in themselves."""
    one, two = Cid.of(b"one", DAG_PB), Cid.of(b"two", DAG_PB)
    inline = Cid.of(b"self", DAG_PB, hash="identity")
    leads = {one: [two, one, inline], two: [one, two], inline: [inline, one, LEAF]}
    walk = Walk(lambda cid, data: leads[cid])
    walk.add(one)
    assert cids(walked(walk, (one, b""), (two, b""))) == [one, two, LEAF]


def test_a_block_that_many_name_is_given_out_once() -> None:
    shared = node(LEAF)
    parents = [node(shared[0], LEAF, shared[0], salt=bytes([65 + number])) for number in range(5)]
    walk = Walk(links)
    walk.add(*(cid for cid, _ in parents))
    for visits in (walked(walk, shared, *parents, limit=3),):
        assert len(visits) == 7
    walk.add(parents[0][0])
    assert walked(walk, *parents) == []


def test_a_dag_that_doubles_at_each_level_is_walked_in_its_size() -> None:
    blocks = dict([node(LEAF, OTHER)])
    for level in range(60):
        below = next(reversed(blocks))
        left, right = node(below, salt=b"left"), node(below, salt=b"right")
        top = node(left[0], right[0], salt=b"%d" % level)
        blocks.update([left, right, top])
    walk = Walk(links)
    walk.add(next(reversed(blocks)))
    assert len(walked(walk, *blocks.items(), limit=16)) == len(blocks) + 2


def test_a_very_deep_chain_is_walked_without_recursion() -> None:
    blocks = dict([node(LEAF)])
    for _ in range(5000):
        cid, data = node(next(reversed(blocks)))
        blocks[cid] = data
    walk = Walk(links)
    walk.add(next(reversed(blocks)))
    assert len(walked(walk, *blocks.items())) == 5002


def test_without_leaves_they_are_met_and_not_given_out() -> None:
    unknown = Cid.of(b"no row", 0x85)
    short = Cid.of(b"blake", RAW, hash="blake2b-256")
    root = node(LEAF, unknown, short, Cid.of(b"raw", hash="identity"))
    walk = Walk(links, leaves=False)
    walk.add(root[0])
    assert cids(walked(walk, root)) == [root[0]]
    assert len(walk.met) == 4
    assert walk.waiting == 0


def test_equal_leaves_of_a_node_wait_once() -> None:
    """A file of zeros."""
    root = node(*([LEAF] * 1000))
    walk = Walk(links)
    walk.add(root[0])
    walk.next_batch(1)
    walk.receive(*root)
    assert walk.waiting == 1


def test_what_is_coming_is_told_without_what_was_met() -> None:
    inner = node(LEAF)
    root = node(inner[0], OTHER, Cid.of(b"raw", hash="identity"), inner[0].with_codec(RAW), LEAF)
    walk = Walk(links)
    walk.add(root[0])
    walk.next_batch(1)
    walk.receive(*root)
    assert walk.coming(2) == [inner[0], OTHER]
    walk.next_batch(1)
    assert walk.coming(9) == [OTHER, LEAF]
    walk.add(inner[0].with_codec(DAG_CBOR))
    assert walk.coming(1) == [inner[0].with_codec(DAG_CBOR)]


def test_every_codec_with_links_is_followed() -> None:
    leaves = [Cid.of(bytes([number])) for number in range(3)]
    nodes = []
    for codec, data in (
        (DAG_PB, dag_pb.encode(dag_pb.Node(None, (dag_pb.Link("", 1, leaves[0]),)))),
        (DAG_CBOR, dag_cbor.encode({"to": [leaves[1]]})),
        (DAG_JSON, dag_json.encode([{"to": leaves[2]}])),
    ):
        nodes.append((Cid.of(data, codec), data))
    root = dag_cbor.encode([cid for cid, _ in nodes])
    walk = Walk(dag_links)
    walk.add(Cid.of(root, DAG_CBOR))
    visits = walked(walk, *nodes, (Cid.of(root, DAG_CBOR), root))
    assert set(leaves) < set(cids(visits))
    assert len(visits) == 7


def test_a_block_in_its_own_name_that_is_no_node_loses_no_visit() -> None:
    bad = Cid.of(b"bad", DAG_PB, hash="identity")
    walk = Walk(links)
    walk.add(LEAF, bad, OTHER)
    assert cids(walk.next_batch(9)) == [LEAF]
    with pytest.raises(DecodeError):
        walk.next_batch(9)
    assert cids(walk.next_batch(9)) == [OTHER]
