"""What a store must do whose blocks may lie in users' files; see `stores`."""

from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from stack.blocks.interfaces import Leaf, SegmentState, SourceChanged
from stack.errors import Refused
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.testing.conformance.stores import StoreRow, in_place, leaves_of, stamp


class InPlaceSuite:
    """`InPlaceStore`."""

    store: ClassVar[StoreRow]

    async def test_the_leaves_of_a_file_are_read_from_it(self, tmp_path: Path) -> None:
        data = bytes(range(256)) * 100
        path = tmp_path / "film"
        path.write_bytes(data)
        leaves = leaves_of(data, 10_000)
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            number = await store.add_file(path, stamp(path), leaves)
            assert [await store.get(leaf.cid) for leaf in leaves] == [data[:10_000], data[10_000:20_000], data[20_000:]]
            assert await store.sizes([leaf.cid for leaf in leaves]) == [10_000, 10_000, 5600]
            [segment] = [each for each in await store.segments() if each.kind == "file"]
            assert (segment.id, segment.path, segment.state) == (number, path, SegmentState.SEALED)

    async def test_a_leaf_in_a_frame_is_read_with_it(self, tmp_path: Path) -> None:
        path = tmp_path / "film"
        path.write_bytes(b"0123456789")
        whole = b"head" + b"3456" + b"tail"
        leaf = Leaf(Cid.of(whole, DAG_PB, version=0), 3, 4, b"head", b"tail")
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            await store.add_file(path, stamp(path), [leaf])
            assert await store.get(leaf.cid) == whole
            assert await store.sizes([leaf.cid]) == [12]

    async def test_a_file_that_changed_is_withdrawn(self, tmp_path: Path) -> None:
        path = tmp_path / "film"
        path.write_bytes(b"a" * 1000)
        leaves = leaves_of(path.read_bytes(), 1000)
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            await store.add_file(path, stamp(path), leaves)
            path.write_bytes(b"b" * 1001)
            with pytest.raises(SourceChanged) as caught:
                await store.get(leaves[0].cid)
            assert caught.value.path == path
            assert await store.has([leaves[0].cid]) == [False]

    async def test_a_file_that_changed_before_it_was_recorded_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "film"
        path.write_bytes(b"a" * 1000)
        before = stamp(path)
        leaves = leaves_of(path.read_bytes(), 1000)
        path.write_bytes(b"longer" * 1000)
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            with pytest.raises(SourceChanged):
                await store.add_file(path, before, leaves)
            assert await store.segments() == []

    async def test_changed_files_are_found_without_being_read(self, tmp_path: Path) -> None:
        stays, goes = tmp_path / "stays", tmp_path / "goes"
        stays.write_bytes(b"s" * 100)
        goes.write_bytes(b"g" * 100)
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            for path in (stays, goes):
                await store.add_file(path, stamp(path), leaves_of(path.read_bytes(), 100))
            goes.unlink()
            assert [(each.path, each.state) for each in await store.check_files()] == [(goes, SegmentState.MISSING)]
            assert await store.check_files() == []
            assert await store.has([Cid.of(b"s" * 100), Cid.of(b"g" * 100)]) == [True, False]

    async def test_a_forgotten_file_is_not_served(self, tmp_path: Path) -> None:
        path = tmp_path / "film"
        path.write_bytes(b"0123456789")
        leaves = leaves_of(path.read_bytes(), 5)
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            await store.add_file(path, stamp(path), leaves)
            assert await store.forget_file(path) == 2
            assert await store.forget_file(path) == 0
            assert await store.has([leaf.cid for leaf in leaves]) == [False, False]
        assert path.read_bytes() == b"0123456789"

    async def test_a_file_is_fetchedin_place(self, tmp_path: Path) -> None:
        data = bytes(range(256)) * 40
        leaves = leaves_of(data, 1000)
        part, target = tmp_path / "film.part", tmp_path / "film"
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            writer = await store.create_file(part, len(data))
            for leaf in reversed(leaves):
                payload = data[leaf.offset : leaf.offset + leaf.length]
                await anyio.to_thread.run_sync(writer.write, leaf, payload)
                assert await store.get(leaf.cid) == payload
            assert await writer.checkpoint() == len(data)
            assert await writer.checkpoint() == 0
            assert await writer.present() == [(leaf.offset, leaf.length) for leaf in leaves]
            await writer.seal(target, mode=0o640, mtime_ns=1_234_567_890_000_000_000)
            await writer.aclose()
            assert [await store.get(leaf.cid) for leaf in leaves[:2]] == [data[:1000], data[1000:2000]]
            [segment] = [each for each in await store.segments() if each.kind == "file"]
            assert (segment.path, segment.state) == (target, SegmentState.SEALED)
        assert target.read_bytes() == data
        assert target.stat().st_mtime_ns == 1_234_567_890_000_000_000
        assert target.stat().st_mode & 0o777 == 0o640
        assert not part.exists()

    async def test_a_fetch_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        data = bytes(range(256)) * 40
        leaves = leaves_of(data, 1000)
        part = tmp_path / "film.part"
        async with self.store.open(tmp_path / "home") as opened:
            writer = await in_place(opened).create_file(part, len(data))
            await anyio.to_thread.run_sync(writer.write, leaves[3], data[3000:4000])
            await writer.abandon(remove=False)
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            assert await store.get(leaves[3].cid) == data[3000:4000]
            writer = await store.create_file(part, len(data))
            assert await writer.present() == [(3000, 1000)]
            await writer.abandon(remove=True)
            assert not part.exists()
            assert await store.has([leaves[3].cid]) == [False]

    async def test_a_taken_name_is_refused_and_nothing_is_lost(self, tmp_path: Path) -> None:
        part, target = tmp_path / "film.part", tmp_path / "film"
        target.write_bytes(b"mine")
        async with self.store.open(tmp_path / "home") as opened:
            store = in_place(opened)
            with pytest.raises(Refused):
                await store.create_file(target, 4)
            writer = await store.create_file(part, 4)
            with pytest.raises(Refused):
                await store.create_file(part, 4)
            await anyio.to_thread.run_sync(writer.write, Leaf(Cid.of(b"news"), 0, 4), b"news")
            with pytest.raises(Refused):
                await writer.seal(target)
            await writer.seal(tmp_path / "other")
        assert target.read_bytes() == b"mine"
        assert (tmp_path / "other").read_bytes() == b"news"

    async def test_a_file_without_bytes_can_be_fetched(self, tmp_path: Path) -> None:
        async with self.store.open(tmp_path / "home") as opened:
            writer = await in_place(opened).create_file(tmp_path / "empty.part", 0)
            await writer.seal(tmp_path / "empty")
        assert (tmp_path / "empty").read_bytes() == b""
