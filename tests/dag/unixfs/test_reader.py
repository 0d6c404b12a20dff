"""Foreign blocks: what is read, and what is refused."""

import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack.dag import dag_pb
from stack.dag.unixfs.data import FILE_SIZE_MAX, NodeKind, UnixTime, encode_data
from stack.dag.unixfs.directory import Entry, symlink_block
from stack.dag.unixfs.options import ImportOptions, profile
from stack.dag.unixfs.reader import (
    FILE_DEPTH_MAX,
    FilePart,
    LinkNotFound,
    NotADirectory,
    Shard,
    children,
    decode_node,
    decode_part,
    find_entry,
    list_directory,
    list_node,
    path_names,
    read_file,
    resolve,
)
from stack.errors import DecodeError, LocalProtocolError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_CBOR, DAG_PB, RAW
from tests.dag.unixfs.trees import (
    Blocks,
    build_entries,
    build_file,
    node_of,
    put,
    put_file,
    put_raw,
    put_shard,
    read,
    run,
)

LEAF = Cid.of(b"leaf")


def unixfs(message: str, links: tuple[dag_pb.Link, ...] = ()) -> tuple[Cid, bytes]:
    block = dag_pb.encode(dag_pb.Node(bytes.fromhex(message), links))
    return Cid.of(block, DAG_PB), block


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        ImportOptions,
        raw_leaves=st.booleans(),
        trickle=st.booleans(),
        max_file_links=st.integers(2, 6),
        inline=st.booleans(),
    ),
    st.integers(0, 60),
    st.integers(0, 700),
    st.integers(0, 700),
)
def test_a_range_is_that_of_the_file_and_needs_only_the_blocks_that_hold_it(
    options: ImportOptions, count: int, offset: int, length: int
) -> None:
    pieces = [b"%06d" % i * 2 for i in range(count)]
    blocks: Blocks = {}
    root = build_file(options, pieces, blocks)
    data, asked = read(node_of(root.cid, blocks), blocks, offset, length)
    assert data == b"".join(pieces)[offset : offset + length]
    leaves = {cid for cid in asked if not node_of(cid, blocks).links}
    assert len(leaves) <= (len(data) + 2 * 11) // 12


def test_bytes_in_a_node_come_before_those_of_its_children() -> None:
    blocks: Blocks = {}
    inner = put_file(blocks, [(put_raw(blocks, b"child"), 5)], payload=b"inner")
    root = node_of(put_file(blocks, [(inner, 10), (put_raw(blocks, b"last"), 4)], payload=b"root"), blocks)
    assert read(root, blocks)[0] == b"rootinnerchildlast"
    assert read(root, blocks, 2, 5)[0] == b"otinn"
    assert [(part.offset, part.size) for part in children(root, 100)] == [(104, 10), (114, 4)]


def test_only_parts_that_hold_bytes_of_the_range_are_listed() -> None:
    blocks: Blocks = {}
    root = node_of(put_file(blocks, [(LEAF, 4), (LEAF, 0), (LEAF, 4), (LEAF, 4)]), blocks)
    assert children(root) == [FilePart(LEAF, 0, 4, 1), FilePart(LEAF, 4, 4, 1), FilePart(LEAF, 8, 4, 1)]
    assert children(root, start=3, stop=4) == [FilePart(LEAF, 0, 4, 1)]
    assert children(root, start=4, stop=8) == [FilePart(LEAF, 4, 4, 1)]
    assert children(root, start=12) == []
    assert children(root, stop=0) == []


@pytest.mark.parametrize(
    ("sizes", "links", "file_size"),
    [
        ([4], 2, 4),
        ([4, 4], 1, 8),
        ([], 1, 0),
        ([4], 1, 5),
        ([4], 1, 3),
        ([2**63 - 1, 1], 2, 2**63),
        ([2**64 - 1], 1, 0),
    ],
    ids=["sizes missing", "links missing", "no sizes", "more", "less", "2^63", "wrapped around"],
)
def test_A57_sizes_that_contradict_each_other_are_refused(sizes: list[int], links: int, file_size: int) -> None:
    data = encode_data(NodeKind.FILE, file_size=file_size, block_sizes=sizes)
    block = dag_pb.encode(dag_pb.Node(data, tuple(dag_pb.Link(None, None, LEAF) for _ in range(links))))
    with pytest.raises(DecodeError):
        decode_node(Cid.of(block, DAG_PB), block)


def test_A57_a_file_of_the_largest_size_costs_nothing_before_it_is_read() -> None:
    blocks: Blocks = {}
    root = node_of(put_file(blocks, [(LEAF, FILE_SIZE_MAX)]), blocks)
    tracemalloc.start()
    reading = read_file(root, FILE_SIZE_MAX - 10, 10)
    assert next(reading) == LEAF
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024
    with pytest.raises(DecodeError):
        reading.send(b"leaf")


def test_A57_a_leaf_that_disagrees_with_its_parent_is_refused() -> None:
    for leaf, size in (b"leaf", 3), (b"leaf", 5), (b"", 1):
        blocks: Blocks = {}
        root = node_of(put_file(blocks, [(put_raw(blocks, leaf), size)]), blocks)
        with pytest.raises(DecodeError):
            read(root, blocks)


def test_A57_a_deep_chain_is_refused_without_recursion() -> None:
    blocks: Blocks = {}
    cid, size = put_raw(blocks, b"x"), 1
    for _ in range(FILE_DEPTH_MAX):
        cid = put_file(blocks, [(cid, size)])
    assert read(node_of(cid, blocks), blocks)[0] == b"x"
    for _ in range(100_000):
        cid = put_file(blocks, [(cid, size)])
    asked = []
    reading = read_file(node_of(cid, blocks))
    with pytest.raises(DecodeError):
        wanted = next(reading)
        while True:
            assert isinstance(wanted, Cid)
            asked.append(wanted)
            wanted = reading.send(blocks[wanted])
    assert len(asked) == FILE_DEPTH_MAX


def test_A57_children_that_hold_nothing_are_never_fetched() -> None:
    blocks: Blocks = {}
    root = node_of(put_file(blocks, [(LEAF, 0)] * 1000), blocks)
    assert read(root, {}) == (b"", [])


def test_a_link_with_a_name_is_no_part_of_a_file() -> None:
    data = encode_data(NodeKind.FILE, file_size=4, block_sizes=[4])
    for name, fine in (None, True), ("", True), ("x", False):
        block = dag_pb.encode(dag_pb.Node(data, (dag_pb.Link(name, 4, LEAF),)))
        if fine:
            assert decode_node(LEAF.with_codec(DAG_PB), block).file_size == 4
        else:
            with pytest.raises(DecodeError):
                decode_node(LEAF.with_codec(DAG_PB), block)


def test_what_is_no_file_is_no_part_of_one() -> None:
    cid, block = unixfs("0801")
    with pytest.raises(DecodeError):
        decode_part(FilePart(cid, 0, 0), block)
    with pytest.raises(DecodeError):
        next(read_file(decode_node(cid, block)))


def test_a_reader_that_is_sent_nothing_says_so() -> None:
    blocks: Blocks = {}
    reading = read_file(node_of(put_file(blocks, [(LEAF, 4)]), blocks))
    assert next(reading) == LEAF
    with pytest.raises(LocalProtocolError):
        next(reading)


def test_every_kind_of_node_is_read() -> None:
    raw = decode_node(Cid.of(b"abc"), memoryview(b"abc"))
    assert (raw.kind, raw.file_size, bytes(raw.payload), raw.is_file) == (NodeKind.RAW, 3, b"abc", True)
    old_raw = decode_node(*unixfs("08001203616263 1803"))
    assert (old_raw.kind, old_raw.file_size, bytes(old_raw.payload), old_raw.is_file) == (NodeKind.RAW, 3, b"abc", True)
    file = decode_node(*unixfs("08021203616263 1803 38a403 42020805"))
    assert (file.kind, file.file_size, file.mode, file.mtime) == (NodeKind.FILE, 3, 0o644, UnixTime(5))
    directory = decode_node(*unixfs("0801", (dag_pb.Link("a", 4, LEAF),)))
    assert (directory.kind, directory.is_directory, directory.links[0].name) == (NodeKind.DIRECTORY, True, "a")
    metadata = decode_node(*unixfs("0803"))
    assert (metadata.kind, metadata.is_file, metadata.is_directory) == (NodeKind.METADATA, False, False)


@pytest.mark.parametrize(
    ("codec", "block"),
    [
        (DAG_CBOR, "a0"),
        (DAG_PB, ""),
        (DAG_PB, "0a00"),
        (DAG_PB, "0a050001020304"),
        (DAG_PB, "0a03010203"),
        (DAG_PB, "120b0a09015500050001020304"),
        (DAG_PB, "ff"),
        (DAG_PB, "120b0a090155000500010203040a050804120161"),
        (DAG_PB, "0a020805"),
        (DAG_PB, "0a0708052822308010"),
        (DAG_PB, "0a06080528223018"),
        (DAG_PB, "0a07080528123080" + "02"),
        (DAG_PB, "0a0a08051202ffff28223008"),
    ],
)
def test_what_is_no_unixfs_is_refused(codec: int, block: str) -> None:
    with pytest.raises(DecodeError):
        decode_node(LEAF.with_codec(codec), bytes.fromhex(block))


def test_of_entries_with_one_name_the_first_counts() -> None:
    other = Cid.of(b"other")
    root = decode_node(
        *unixfs("0801", (dag_pb.Link("a", 4, LEAF), dag_pb.Link("a", 5, other), dag_pb.Link(None, None, other)))
    )
    entries, below = list_node(root)
    assert sorted(entries) == [Entry("", other, 0), Entry("a", LEAF, 4)]
    assert not below
    assert run(find_entry(root, "a"), {}) == Entry("a", LEAF, 4)


def test_A53_a_sharded_directory_with_a_missing_shard_asks_for_it() -> None:
    blocks: Blocks = {}
    root = put_shard(blocks, [("00", LEAF.with_codec(DAG_PB))])
    listing = list_directory(node_of(root, blocks))
    assert next(listing) == LEAF.with_codec(DAG_PB)


def hostile_shard(case: str, blocks: Blocks) -> Cid:
    match case:
        case "a file among the shards":
            return put_shard(blocks, [("00", put_raw(blocks, b"x"))])
        case "a plain directory among the shards":
            cid, block = unixfs("0801")
            blocks[cid] = block
            return put_shard(blocks, [("00", cid)])
        case "another fanout below":
            return put_shard(blocks, [("00", put_shard(blocks, [("0x", LEAF)], fanout=8))])
        case "an empty shard":
            return put_shard(blocks, [("00", put_shard(blocks, []))])
        case "a name in the wrong place":
            return put_shard(blocks, [("00hello", LEAF)])
        case "itself endlessly":
            cid = LEAF.with_codec(DAG_PB)
            for _ in range(10):
                cid = put_shard(blocks, [("CB", cid)])
            return cid
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "a file among the shards",
        "a plain directory among the shards",
        "another fanout below",
        "an empty shard",
        "a name in the wrong place",
        "itself endlessly",
    ],
)
def test_A53_shards_that_do_not_fit_are_refused(case: str) -> None:
    blocks: Blocks = {}
    root = node_of(hostile_shard(case, blocks), blocks)
    with pytest.raises(DecodeError):
        run(list_directory(root), blocks)


def test_A53_a_few_blocks_cannot_make_endless_shards() -> None:
    blocks: Blocks = {}
    cid = put_shard(blocks, [], fanout=8)
    for _ in range(20):
        cid = put_shard(blocks, [(str(digit), cid) for digit in range(8)], fanout=8)
    asked = []
    listing = list_directory(node_of(cid, blocks))
    with pytest.raises(DecodeError):
        wanted = next(listing)
        while True:
            asked.append(wanted)
            wanted = listing.send(blocks[wanted])
    assert len(asked) <= 21


def test_shards_may_be_read_in_any_order() -> None:
    blocks: Blocks = {}
    wanted = [Entry(f"entry {i}", LEAF, i) for i in range(500)]
    root = build_entries(ImportOptions(max_directory_links=1, max_hamt_fanout=16), wanted, blocks)
    entries, waiting = list_node(node_of(root.cid, blocks))
    while waiting:
        shard: Shard = waiting.pop(len(waiting) // 2)
        found, below = list_node(node_of(shard.cid, blocks), shard)
        entries += found
        waiting += below
    assert sorted(entries) == sorted(wanted)


def test_a_path_needs_only_the_directories_on_its_way() -> None:
    blocks: Blocks = {}
    inner = build_entries(profile(), [Entry("leaf", LEAF, 4)], blocks)
    outer = build_entries(profile(), [Entry("inner", inner.cid, 9)], blocks)
    reading = resolve(outer.cid, "/inner//./leaf/")
    assert next(reading) == outer.cid
    assert reading.send(blocks[outer.cid]) == inner.cid
    assert run(resolve(outer.cid, "inner/leaf"), blocks) == LEAF
    assert run(resolve(outer.cid, ""), {}) == outer.cid


def test_a_name_that_is_not_there_is_told_with_its_directory() -> None:
    blocks: Blocks = {}
    plain = build_entries(profile(), [Entry("leaf", LEAF, 4)], blocks)
    sharded = build_entries(
        ImportOptions(max_directory_links=1, max_hamt_fanout=8), [Entry(f"{i}", LEAF, 4) for i in range(100)], blocks
    )
    for root in plain, sharded:
        for name in (f"missing {i}" for i in range(20)):
            with pytest.raises(LinkNotFound) as caught:
                run(resolve(root.cid, name), blocks)
            assert (caught.value.name, caught.value.cid) == (name, root.cid)


def test_a_path_does_not_go_on_behind_a_file_or_a_symbolic_link() -> None:
    blocks: Blocks = {}
    file = put_raw(blocks, b"x")
    link, block = symlink_block(profile(), "dir")
    blocks[link] = block
    for cid, kind in (file, NodeKind.RAW), (link, NodeKind.SYMLINK):
        with pytest.raises(NotADirectory) as caught:
            run(resolve(cid, "below"), blocks)
        assert (caught.value.name, caught.value.kind) == ("below", kind)
        with pytest.raises(NotADirectory):
            run(list_directory(node_of(cid, blocks)), blocks)


def test_a_path_is_cleaned_before_it_is_followed() -> None:
    assert path_names("a/../b/./c//d/") == ["b", "c", "d"]
    assert path_names("/") == []


@pytest.mark.parametrize("path", ["..", "../a", "a/../..", "/../a", "a/../../a"])
def test_a_path_out_of_its_root_is_refused(path: str) -> None:
    with pytest.raises(DecodeError):
        path_names(path)


def sample_blocks() -> list[tuple[Cid, bytes]]:
    blocks: Blocks = {}
    for options in profile("default"), ImportOptions(max_file_links=3, trickle=True, raw_leaves=False):
        build_file(options, [b"piece %d" % i for i in range(9)], blocks, mode=0o755, mtime=UnixTime(5, 6))
    entries = [Entry(f"entry {i}", LEAF, i) for i in range(40)]
    build_entries(ImportOptions(max_directory_links=9, max_hamt_fanout=8), entries, blocks)
    build_entries(ImportOptions(), entries[:4], blocks)
    cid, block = symlink_block(profile(), "target")
    return [*blocks.items(), (cid, block)]


SAMPLES = sample_blocks()


@settings(max_examples=500, deadline=None)
@given(
    st.integers(0, len(SAMPLES) - 1),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 2000),
)
@example(0, [(0, 0xFF)], 2000)
def test_any_change_to_a_block_gives_a_value_or_a_decode_error(
    which: int, changes: list[tuple[int, int]], cut: int
) -> None:
    cid, original = SAMPLES[which]
    block = bytearray(original)
    for position, byte in changes:
        block[position % len(block)] = byte
    try:
        node = decode_node(cid, bytes(block[: cut if cut % 3 else len(block)]))
        if node.is_file:
            assert sum(part.size for part in children(node)) + len(node.payload) == node.file_size
        else:
            list_node(node)
    except (DecodeError, NotADirectory):
        pass


@given(st.binary(max_size=80), st.sampled_from([RAW, DAG_PB]))
def test_any_bytes_give_a_value_or_a_decode_error(block: bytes, codec: int) -> None:
    try:
        decode_node(LEAF.with_codec(codec), block)
    except DecodeError:
        pass


def test_every_truncation_of_a_block_gives_a_value_or_a_decode_error() -> None:
    for cid, block in SAMPLES:
        for size in range(len(block)):
            try:
                decode_node(cid, block[:size])
            except DecodeError:
                pass


def test_put_makes_honest_blocks() -> None:
    blocks: Blocks = {}
    assert put(blocks, b"x", RAW) == put_raw(blocks, b"x")
