"""Directories. That their bytes are those of Kubo is tested with vectors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag.unixfs import directory
from stack.dag.unixfs.data import UnixTime
from stack.dag.unixfs.directory import Entry, build_directory, symlink_block
from stack.dag.unixfs.options import ImportOptions, SizeEstimation, import_options
from stack.dag.unixfs.reader import list_directory, resolve
from stack.errors import LimitExceeded, Refused
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from tests.dag.unixfs.trees import Blocks, build_entries, node_of, run

CID = Cid.of(b"file")
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)


def entries(count: int) -> list[Entry]:
    return [Entry(f"entry {i}", Cid.of(b"%d" % i), i) for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.sets(NAMES, max_size=60), st.sampled_from([8, 16, 64, 1024]), st.integers(0, 40), st.booleans())
def test_what_is_built_is_listed_and_found(names: set[str], fanout: int, links: int, inline: bool) -> None:
    options = ImportOptions(max_hamt_fanout=fanout, max_directory_links=links, inline=inline, inline_limit=100)
    blocks: Blocks = {}
    wanted = [Entry(name, Cid.of(name.encode()), len(name)) for name in sorted(names)]
    root = build_entries(options, reversed(wanted), blocks)
    assert root.sharded == (0 < links < len(wanted))
    found = run(list_directory(node_of(root.cid, blocks)), blocks)
    assert sorted(found) == wanted
    for entry in wanted[:5]:
        assert run(resolve(root.cid, entry.name), blocks) == entry.cid


@pytest.mark.parametrize("estimation", [SizeEstimation.LINKS, SizeEstimation.BLOCK])
def test_a_directory_is_sharded_above_its_threshold_and_not_at_it(estimation: SizeEstimation) -> None:
    listed = entries(5)
    blocks: Blocks = {}
    root = build_entries(ImportOptions(), listed, blocks)
    size = len(blocks[root.cid])
    if estimation is SizeEstimation.LINKS:
        size = sum(len(entry.name) + 36 for entry in listed)
    for threshold, sharded in (size, False), (size - 1, True), (0, False):
        options = ImportOptions(hamt_threshold=threshold, hamt_estimation=estimation)
        assert build_entries(options, listed, {}).sharded == sharded


def test_without_estimation_only_the_number_of_entries_counts() -> None:
    for links, sharded in (0, False), (5, False), (4, True):
        options = ImportOptions(
            hamt_threshold=1, hamt_estimation=SizeEstimation.DISABLED, max_directory_links=links, max_hamt_fanout=8
        )
        assert build_entries(options, entries(5), {}).sharded == sharded


def test_without_a_threshold_nothing_is_sharded() -> None:
    assert not build_entries(ImportOptions(hamt_threshold=0, max_directory_links=1), entries(5), {}).sharded


def test_the_size_of_a_directory_is_that_of_its_blocks_and_entries() -> None:
    for links in 0, 3:
        blocks: Blocks = {}
        root = build_entries(ImportOptions(max_directory_links=links, max_hamt_fanout=8), entries(50), blocks)
        assert root.dag_size == sum(map(len, blocks.values())) + sum(range(50))


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(Refused):
        next(build_directory(ImportOptions(), [Entry("a", CID, 1), Entry("a", CID, 1)]))


def test_names_whose_hashes_are_equal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "hash_name", lambda name: 5)
    with pytest.raises(LimitExceeded):
        next(build_directory(ImportOptions(max_directory_links=1), entries(2)))


def test_names_that_are_not_utf8_are_kept() -> None:
    for links in 0, 1:
        blocks: Blocks = {}
        root = build_entries(
            ImportOptions(max_directory_links=links), [Entry("\udcff", CID, 1), Entry("b", CID, 1)], blocks
        )
        assert run(resolve(root.cid, "\udcff"), blocks) == CID


def test_a_small_directory_goes_into_its_cid_when_that_is_wanted() -> None:
    blocks: Blocks = {}
    root = build_entries(import_options("default", {"inline": True}), [], blocks)
    assert not blocks
    assert run(list_directory(node_of(root.cid, {})), {}) == []


def test_small_shards_go_into_their_cids_when_that_is_wanted() -> None:
    options = ImportOptions(inline=True, inline_limit=128, max_directory_links=1, max_hamt_fanout=8)
    wanted = [Entry(f"{i}", Cid.v1(RAW, b"\0\0"), 0) for i in range(30)]
    blocks: Blocks = {}
    root = build_entries(options, wanted, blocks)
    assert all(len(block) > 128 for block in blocks.values())
    listing = run(list_directory(node_of(root.cid, blocks)), blocks)
    assert sorted(listing) == sorted(wanted)


def test_a_symbolic_link_keeps_its_target_and_its_time() -> None:
    cid, block = symlink_block(ImportOptions(), "../é\udcff", mtime=UnixTime(3))
    node = node_of(cid, {cid: block})
    assert (node.target, node.mtime, node.mode, node.file_size) == ("../é\udcff", UnixTime(3), None, 0)
    assert not node.is_file
    assert not node.is_directory
