"""The smaller pieces: events, ranges, plain files, blocks for many places at once."""

import errno
import os
import threading
from pathlib import Path

import anyio
import pytest

from stack.blocks.interfaces import BlockNotFound, Leaf
from stack.blocks.memory import MemoryStore
from stack.dag.unixfs.reader import FilePart
from stack.errors import DecodeError, NoSpace, Refused, StoreError
from stack.files import storage
from stack.files.events import WAITING_EVENTS_MAX, EventQueue, FetchProgress, FileFinished
from stack.files.gather import Gatherer, Want
from stack.files.parts import is_in_place, place_leaf
from stack.files.ranges import LeafTracker, leaf_count, whole_ranges
from stack.files.storage import PlainWriter, create_file, direct, hold, in_place, pins
from stack.files.tasks import task_group
from stack.multiformats.cid import Cid
from stack.protocols.providers.interfaces import RangeBook
from tests.files.conftest import FakeExchange, content, open_store


def progress(done: int) -> FetchProgress:
    return FetchProgress(bytes_done=done, total=9, rate=0.0, peers=1)


@pytest.mark.anyio
async def test_events_come_in_order_and_progress_only_once() -> None:
    queue = EventQueue()
    first = FileFinished(path=Path("x"), size=1)
    for event in (progress(1), progress(2), first, progress(3), progress(4)):
        queue.put(event)
    queue.end()
    assert [event async for event in queue] == [progress(2), first, progress(4)]


@pytest.mark.anyio
async def test_a_consumer_that_does_not_come_costs_a_bounded_number_of_events() -> None:
    queue = EventQueue()
    for number in range(2 * WAITING_EVENTS_MAX):
        queue.put(FileFinished(path=Path("x"), size=number))
    queue.end(ValueError("the end"))
    seen = []
    with pytest.raises(ValueError, match="the end"):
        async for event in queue:
            seen.append(event)
    assert len(seen) == WAITING_EVENTS_MAX


@pytest.mark.anyio
async def test_a_waiting_consumer_is_woken() -> None:
    queue = EventQueue()
    seen = []

    async def consume() -> None:
        async for event in queue:
            seen.append(event)

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        queue.put(progress(1))
        await anyio.wait_all_tasks_blocked()
        queue.end()
    assert seen == [progress(1)]


@pytest.mark.anyio
async def test_a_task_group_raises_the_error_of_its_task_and_lets_cancellation_through() -> None:
    async def fail() -> None:
        raise KeyError("x")

    async def fail_in_a_group() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(fail)

    with pytest.raises(KeyError):
        async with task_group() as group:
            group.start_soon(fail_in_a_group)
            group.start_soon(anyio.sleep_forever)
    with anyio.move_on_after(0.01) as scope:
        async with task_group() as group:
            group.start_soon(anyio.sleep_forever)
    assert scope.cancelled_caught

    class Stop(BaseException):
        pass

    with pytest.raises(BaseExceptionGroup):
        async with task_group():
            raise Stop


# ranges


def test_leaves_are_numbered_by_their_offset() -> None:
    book = RangeBook()
    root = Cid.of(b"root")
    tracker = LeafTracker(book, root)
    whole = book.ranges(root)
    assert whole is not None and (whole.count, len(whole)) == (1, 0)
    assert tracker.number(0, 100) is None
    tracker.start(1050, 100)
    tracker.start(1050, 7)  # only the first leaf counts
    assert [tracker.number(*leaf) for leaf in ((0, 100), (300, 100), (1000, 50), (1000, 100), (50, 100))] == [
        0,
        3,
        10,
        None,
        None,
    ]
    for offset in (300, 200, 1000, 7):
        tracker.written(offset, 100 if offset < 1000 else 50)
    tracker.drain()
    ranges = book.ranges(root)
    assert ranges is not None and list(ranges.runs()) == [(2, 4), (10, 11)]
    tracker.complete()
    assert ranges.complete
    tracker.irregular()
    tracker.written(0, 100)
    tracker.drain()
    again = book.ranges(root)
    assert again is not None and (again.count, len(again)) == (1, 0)
    tracker.close()
    assert book.ranges(root) is None


def test_what_has_too_many_leaves_or_none_is_one_piece() -> None:
    assert leaf_count(2**62, 1) is None and leaf_count(0, 100) is None and leaf_count(10, 0) is None
    assert leaf_count(10, 3) == 4
    assert whole_ranges().count == 1 and whole_ranges().complete
    assert whole_ranges(10, 3).count == 4 and whole_ranges(10, 3).complete


# plain files


@pytest.mark.anyio
async def test_a_plain_file_gets_its_name_at_the_end(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    writer = await create_file(MemoryStore(), part, 7)
    assert await writer.present() == [] and writer.segment == 0
    writer.write(Leaf(Cid.of(b"abc"), 4, 3), b"abc")
    assert (await writer.checkpoint(), await writer.checkpoint()) == (3, 0)
    await writer.seal(tmp_path / "x", mode=0o600, mtime_ns=5)
    await writer.aclose()
    assert (tmp_path / "x").read_bytes() == bytes(4) + b"abc"
    assert ((tmp_path / "x").stat().st_mode & 0o777, (tmp_path / "x").stat().st_mtime_ns) == (0o600, 5)
    with pytest.raises(StoreError, match="no longer being written"):
        writer.write(Leaf(Cid.of(b"abc"), 4, 3), b"abc")


@pytest.mark.anyio
async def test_a_plain_file_never_overwrites_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    writer = await create_file(MemoryStore(), tmp_path / "x.part", 7)
    with pytest.raises(Refused, match="exists already"):
        await writer.seal(tmp_path / "x")
    await writer.aclose()
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"mine"
    with pytest.raises(Refused, match="not an unfinished file of ours"):
        PlainWriter(tmp_path / "x", 7)
    with pytest.raises(Refused, match="does not exist"):
        PlainWriter(tmp_path / "absent" / "x", 7)


@pytest.mark.anyio
async def test_B09_a_full_disk_is_told_when_a_plain_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await create_file(MemoryStore(), tmp_path / "x.part", 7)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(NoSpace):
        writer.write(Leaf(Cid.of(b"abc"), 4, 3), b"abc")
    await writer.abandon(remove=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_a_plain_file_is_closed_only_when_nobody_writes_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await create_file(MemoryStore(), tmp_path / "x.part", 7)
    inside, go_on = threading.Event(), threading.Event()
    real = storage.disk.write_at

    def slow(fd: int, parts: list[bytes], offset: int) -> None:
        inside.set()
        go_on.wait(5)
        real(fd, parts, offset)

    monkeypatch.setattr(storage.disk, "write_at", slow)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, writer.write, Leaf(Cid.of(b"abc"), 4, 3), b"abc")
        await anyio.to_thread.run_sync(inside.wait)
        group.start_soon(writer.aclose)
        await anyio.wait_all_tasks_blocked()
        assert (tmp_path / "x.part").stat().st_size == 7
        go_on.set()
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_what_a_store_can_do_is_found_out(tmp_path: Path) -> None:
    memory = MemoryStore()
    assert in_place(memory) is None and direct(memory) is memory and pins(memory) is memory
    with hold(memory, Cid.of(b"x")):
        pass
    async with open_store("disk", tmp_path / "home") as store:
        assert in_place(store) is store and direct(store) is store and pins(store) is store
        with hold(store, Cid.of(b"x")):
            pass


# blocks


class OnlyBlocks:
    """A store that can do no more than it must."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.lost: set[Cid] = set()
        self.has = store.has
        self.sizes = store.sizes
        self.put = store.put

    async def get(self, cid: Cid) -> bytes:
        if cid in self.lost:
            raise BlockNotFound(cid)
        return await self._store.get(cid)


BLOCKS = [content(str(number), 1000) for number in range(20)]
CIDS = [Cid.of(block) for block in BLOCKS]


async def gatherer_of(exchange: FakeExchange, store: object) -> Gatherer:
    async with exchange.session(CIDS[0]) as session:
        return Gatherer(session, store)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_blocks_come_from_the_store_and_what_it_lost_from_peers(exchange: FakeExchange) -> None:
    memory = MemoryStore()
    await memory.put(list(zip(CIDS[:10], BLOCKS[:10], strict=True)))
    exchange.blocks.update((cid.multihash, block) for cid, block in zip(CIDS, BLOCKS, strict=True))
    store = OnlyBlocks(memory)
    store.lost = {CIDS[3]}
    gatherer = await gatherer_of(exchange, store)
    got: dict[Cid, bytes] = {}

    def receive(cid: Cid) -> object:
        return lambda block: got.__setitem__(cid, bytes(block))

    sent = await gatherer.fetch([Want(cid, receive(cid)) for cid in CIDS])  # type: ignore[arg-type]
    assert got == dict(zip(CIDS, BLOCKS, strict=True))
    assert sent == {cid.multihash for cid in [CIDS[3], *CIDS[10:]]} == {cid.multihash for cid in exchange.sent}
    assert await gatherer.node(CIDS[15]) == BLOCKS[15]
    assert await memory.get(CIDS[15]) == BLOCKS[15]


@pytest.mark.anyio
async def test_blocks_that_the_store_gives_up_while_they_are_read_come_from_peers(exchange: FakeExchange) -> None:
    memory = MemoryStore()
    await memory.put([(CIDS[0], BLOCKS[0])])
    exchange.blocks[CIDS[0].multihash] = BLOCKS[0]
    gatherer = await gatherer_of(exchange, memory)

    async def lose(cids: object, out: object) -> list[None]:
        return [None]

    memory.read_into = lose  # type: ignore[method-assign,assignment]
    assert await gatherer.get(CIDS[0]) == BLOCKS[0]
    assert exchange.sent == [CIDS[0]]


@pytest.mark.anyio
async def test_a_block_that_occurs_twice_is_asked_for_once_and_every_receiver_gets_it(exchange: FakeExchange) -> None:
    exchange.blocks.update((cid.multihash, block) for cid, block in zip(CIDS, BLOCKS, strict=True))
    memory = MemoryStore()
    await memory.put([(CIDS[5], BLOCKS[5])])
    gatherer = await gatherer_of(exchange, memory)
    got: list[bytes] = []
    cids = [CIDS[1], CIDS[5], CIDS[1], CIDS[5], CIDS[2]]
    sent = await gatherer.fetch([Want(cid, lambda block: got.append(bytes(block))) for cid in cids])
    assert sorted(got) == sorted([BLOCKS[1], BLOCKS[5], BLOCKS[1], BLOCKS[5], BLOCKS[2]])
    assert exchange.sent == [CIDS[1], CIDS[2]] and sent == {CIDS[1].multihash, CIDS[2].multihash}


@pytest.mark.anyio
async def test_an_inline_block_is_nowhere_asked_for(exchange: FakeExchange) -> None:
    gatherer = await gatherer_of(exchange, MemoryStore())
    assert await gatherer.get(Cid.v1(0x55, b"\x00\x02hi")) == b"hi"
    assert exchange.calls == []


@pytest.mark.anyio
async def test_what_a_receiver_raises_is_raised(exchange: FakeExchange) -> None:
    exchange.blocks[CIDS[0].multihash] = BLOCKS[0]
    gatherer = await gatherer_of(exchange, MemoryStore())

    def refuse(block: object) -> None:
        raise NoSpace("full")

    with pytest.raises(NoSpace, match="full"):
        await gatherer.fetch([Want(CIDS[0], refuse)])


@pytest.mark.anyio
async def test_what_the_session_raises_and_a_large_block_from_the_store(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryStore()
    large = bytes(5 * 1024 * 1024)
    await memory.put([(Cid.of(large), large)])
    gatherer = await gatherer_of(exchange, memory)
    assert await gatherer.get(Cid.of(large)) == large
    with pytest.raises(KeyError):  # the peer does not have it
        await gatherer.get(CIDS[0])


def test_whether_a_part_is_in_place_can_be_told_only_of_leaves(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        assert is_in_place(fd, FilePart(Cid.of(b"hello"), 0, 5)) is True
        assert is_in_place(fd, FilePart(Cid.of(b"hallo"), 0, 5)) is False
        assert is_in_place(fd, FilePart(Cid.of(b"hello"), 1, 5)) is False
        assert is_in_place(fd, FilePart(Cid.of(b"hello"), 0, 2**40)) is None
        assert is_in_place(fd, FilePart(Cid.of(b"hello", codec=0x71), 0, 5)) is None
        assert is_in_place(fd, FilePart(Cid.of(b"hello", codec=0x70), 0, 5)) is None
        assert is_in_place(fd, FilePart(Cid.v1(0x55, b"\x00\x05hello"), 0, 5)) is True
    finally:
        os.close(fd)


def test_a_leaf_of_another_codec_is_no_leaf() -> None:
    with pytest.raises(DecodeError, match="not UnixFS"):
        place_leaf(FilePart(Cid.of(b"hello", codec=0x71), 0, 5), b"hello", lambda leaf, payload: None)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_finding_37_a_plain_file_that_cannot_be_made_whole_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(fd: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "ftruncate", fail)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(StoreError):
        PlainWriter(tmp_path / "x.part", 7)
    assert not list(tmp_path.iterdir())
    assert not before or len(os.listdir("/proc/self/fd")) == before
