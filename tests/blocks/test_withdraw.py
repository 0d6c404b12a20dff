"""What is no longer shared is not here for anybody; what something else keeps stays."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import pytest

from stack.blocks.disk import stamp_of
from stack.blocks.interfaces import Block, Leaf, PinKind, ReadFailed
from stack.blocks.store import DiskStore
from stack.dag import dag_pb
from stack.errors import StoreError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB

pytestmark = pytest.mark.anyio

SIZE = 1000


def node(*children: Block) -> Block:
    links = tuple(dag_pb.Link(name=str(n), size=len(block), cid=cid) for n, (cid, block) in enumerate(children))
    data = dag_pb.encode(dag_pb.Node(None, links))
    return Cid.of(data, codec=DAG_PB), data


def leaf(number: int) -> Block:
    data = bytes([number]) * SIZE
    return Cid.of(data), data


async def add_file(store: DiskStore, path: Path, leaves: list[Block]) -> None:
    path.write_bytes(b"".join(data for _, data in leaves))
    places = [Leaf(cid, SIZE * number, SIZE) for number, (cid, _) in enumerate(leaves)]
    await store.add_file(path, stamp_of(path.stat()), places)


async def share(store: DiskStore, *nodes: Block) -> Cid:
    await store.put(nodes)
    await store.add_pin(nodes[-1][0], kind=PinKind.SHARE)
    return nodes[-1][0]


async def test_what_is_withdrawn_is_gone_from_packs_and_files_and_what_others_keep_stays(tmp_path: Path) -> None:
    """A leaf in both shares, a node in both, a leaf that is also somebody's file of its own, zeros twice."""
    mine, both, zero, pinned = leaf(1), leaf(2), leaf(0), leaf(3)
    common = node(both, zero)
    one, other = node(mine, zero, zero, pinned, common), node(common)
    async with DiskStore.open(tmp_path / "home") as store:
        await add_file(store, tmp_path / "one", [mine, zero, zero, pinned])
        await add_file(store, tmp_path / "other", [both, zero])
        first, second = await share(store, common, one), await share(store, other)
        await store.add_pin(pinned[0])
        await store.withdraw([first])
        gone = [cid for cid, _ in (mine, one)]
        stays = [cid for cid, _ in (both, zero, pinned, common, other)]
        assert await store.has(gone) == [False] * 2 and await store.has(stays) == [True] * 5
        assert await store.pins(kind=PinKind.SHARE) == [(second, "")]
        await store.remove_pin(pinned[0])
        await store.withdraw([second, pinned[0]])
        assert [cid async for cid in store.cids()] == []
        assert [segment for segment in await store.segments() if segment.kind == "file"] == []
    assert (tmp_path / "one").stat().st_size == 4 * SIZE


async def test_what_is_being_added_again_and_what_lies_below_a_node_that_is_gone_do_no_harm(tmp_path: Path) -> None:
    leaves = [leaf(number) for number in range(3)]
    below = node(leaves[0])
    root = node(below, leaves[1], leaves[2])
    async with DiskStore.open(tmp_path / "home") as store:
        await add_file(store, tmp_path / "f", leaves)
        await share(store, below, root)
        with store.hold():
            await add_file(store, tmp_path / "f", leaves)  # by whoever shares it anew
            await store.put([below, root])
            await store.withdraw([root[0]])
            assert await store.has([root[0], *(cid for cid, _ in leaves)]) == [True] * 4
        await store.delete([below[0]])
        await store.withdraw([root[0]])
        assert await store.has([root[0], *(cid for cid, _ in leaves)]) == [False, True, False, False]


async def test_the_user_has_pinned_what_he_no_longer_shares(tmp_path: Path) -> None:
    root = node(leaf(1))
    async with DiskStore.open(tmp_path / "home") as store:
        await store.put([leaf(1)])
        await share(store, root)
        await store.add_pin(root[0])
        await store.withdraw([root[0]])
        assert await store.has([root[0], leaf(1)[0]]) == [True, True]
        assert await store.pins(kind=PinKind.SHARE) == []


async def test_what_an_interrupted_fetch_has_left_is_not_here_until_it_goes_on(tmp_path: Path) -> None:
    cid, data = leaf(1)
    part = tmp_path / "f.part"
    async with DiskStore.open(tmp_path / "home") as store:
        writer = await store.create_file(part, SIZE)
        await anyio.to_thread.run_sync(writer.write, Leaf(cid, 0, SIZE), data)
        await writer.checkpoint()
        await store.leave_parts()
        assert await store.has([cid]) == [True]
        await writer.abandon(remove=False)
        await store.leave_parts()
        assert await store.has([cid]) == [False]
        await store.withdraw([cid])  # not its business
        writer = await store.create_file(part, SIZE)
        assert await store.has([cid]) == [True] and await writer.present() == [(0, SIZE)]
        await writer.abandon(remove=True)


async def two_deep(store: DiskStore, path: Path) -> tuple[Cid, Cid, list[Cid]]:
    """A share of two directories: the root, the second directory, and all blocks."""
    leaves = [leaf(number) for number in range(4)]
    one, other = node(*leaves[:2]), node(*leaves[2:])
    await add_file(store, path, leaves)
    root = await share(store, one, other, node(one, other))
    return root, other[0], [root, one[0], other[0], *(cid for cid, _ in leaves)]


@contextmanager
def unread(store: DiskStore, cid: Cid, monkeypatch: pytest.MonkeyPatch, error: StoreError) -> Iterator[None]:
    """For a while the disk does not give one block."""
    nodes = store._core.nodes
    read = nodes.read_nodes

    def read_nodes(cids: Sequence[Cid]) -> list[bytes | None]:
        if cid in cids:
            raise error
        return read(cids)

    with monkeypatch.context() as patched:
        patched.setattr(nodes, "read_nodes", read_nodes)
        yield


async def test_a_node_that_cannot_be_read_now_keeps_the_way_to_what_is_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is below it stayed for good, and was given to everybody, when the node itself and the pin were taken away."""
    failed = ReadFailed(tmp_path, OSError(errno.EIO, "Input/output error"))
    async with DiskStore.open(tmp_path / "home") as store:
        root, directory, blocks = await two_deep(store, tmp_path / "f")
        with unread(store, directory, monkeypatch, failed), pytest.raises(ReadFailed):
            await store.withdraw([root])
        assert await store.pins(kind=PinKind.SHARE) == [(root, "")]
        assert await store.has(blocks) == [True, True, True, False, False, True, True], "what could be reached is gone"
        await store.withdraw([root])
        assert await store.has(blocks) == [False] * 7 and await store.pins(kind=PinKind.SHARE) == []


async def test_when_we_are_short_of_handles_all_stays_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DiskStore.open(tmp_path / "home") as store:
        root, directory, blocks = await two_deep(store, tmp_path / "f")
        with unread(store, directory, monkeypatch, StoreError("too many open files")), pytest.raises(StoreError):
            await store.withdraw([root])
        assert await store.pins(kind=PinKind.SHARE) == [(root, "")]
        await store.withdraw([root])
        assert await store.has(blocks) == [False] * 7


async def test_whether_all_is_here_is_not_known_while_a_node_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = ReadFailed(tmp_path, OSError(errno.EIO, "Input/output error"))
    async with DiskStore.open(tmp_path / "home") as store:
        root, directory, blocks = await two_deep(store, tmp_path / "f")
        assert not await store.lacks_some(root)
        with unread(store, directory, monkeypatch, failed):
            with pytest.raises(ReadFailed):
                await store.lacks_some(root)
            await store.delete([blocks[3]])
            assert await store.lacks_some(root)
