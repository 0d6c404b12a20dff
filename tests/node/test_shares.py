"""Counting what goes out for a share, and when a copy has gone."""

import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.bitswap.events import BlockSent
from stack.blocks.store import DiskStore
from stack.errors import NoSpace, StoreError
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node import counting
from stack.node.api import ListShares, SendProgress, WatchShare
from stack.node.config import Config
from stack.node.node import Node
from stack.node.shares import Shares
from stack.node.tally import Received, Shared, is_below, sum_up
from stack.protocols.providers.service import ReceiverTold

pytestmark = pytest.mark.anyio

ONE, OTHER = (PeerId.of(generate().public) for _ in range(2))
MIB = 1 << 20


def settings(home: Path | None, *, serve: bool = True) -> Config:
    return Config(home=home, listen=("/ip4/127.0.0.1/tcp/0",), announce=False, pubsub=False, mdns=False, serve=serve)


class Busy:
    """Calls that fail once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.left: list[str] = []

    def once(self, owner: object, name: str, error: Exception | None = None) -> None:
        works = getattr(owner, name)
        self.left.append(name)

        async def call(*arguments: object, **options: object) -> object:
            if name in self.left and (name != "run_sync" or arguments[0] is sum_up):
                self.left.remove(name)
                raise error or StoreError("database is locked")
            return await works(*arguments, **options)

        self._monkeypatch.setattr(owner, name, call)


def cid(number: int) -> Cid:
    return Cid.of(str(number).encode())


async def test_finding_14_counting_takes_no_time_of_the_loop_however_many_shares_there_are(tmp_path: Path) -> None:
    """Finding 14: shares x blocks x `Path.parents`, four times a second: 3.5 s of the loop with 1,000 shares."""
    folder = tmp_path / "0" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "film").write_bytes(bytes(i % 251 for i in range(250)) * 4096)
    async with Node.open(settings(tmp_path / "home")) as node:
        await node.share(tmp_path / "0")
        cids = [Cid.of(b"")] + [found async for found in node.store.cids()]
        roots = {**node.sharing._shared.roots, **{cid(n): (tmp_path / str(n),) for n in range(1, 1000)}}
        node.sharing._shared = Shared(list(roots.items()))
        await node.sharing.flush()
        peers = [PeerId.of(generate().public) for _ in range(250 // len(cids) + 1)]
        taken = []
        gc.disable()  # a collection looks at all that other tests have left
        for _ in range(3):
            for peer in peers:
                for block in cids:
                    node.trace(BlockSent(peer=peer, cid=block, size=1000))
            before = time.thread_time()
            await node.sharing.flush()
            taken.append(time.thread_time() - before)
        gc.enable()
        row = (await node.sharing.rows())[0]
        assert row.bytes_sent > 0 and {peer for peer, _ in row.sent} == set(peers)
        assert min(taken) < 0.02, f"{taken} s of the loop's thread"


async def test_finding_6_a_count_that_cannot_be_written_is_written_later_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 6: a full disk of the home took the sharer down, though serving in place needs no space."""
    (tmp_path / "film").write_bytes(bytes(MIB))
    async with Node.open(settings(tmp_path / "home")) as node, Node.open(settings(None)) as other:
        ticket = await node.share(tmp_path / "film")

        async def full(counts: object) -> None:
            raise NoSpace("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(node.jobs, "record_sent", full)
            await other.get(ticket, tmp_path / "out")
            await node.sharing.flush()
            assert (await node.sharing.rows())[0].sent == ()
        assert (await node.sharing.rows())[0].sent[0][0] == other.peer_id


def write_zeros(path: Path) -> None:
    path.write_bytes(bytes(20 * MIB))


def write_nothing(path: Path) -> None:
    path.touch()


def write_tree(path: Path) -> None:
    for name in ("equal", "equal too", "below/equal"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"equal" * 200_000)
    (path / "empty").touch()


@pytest.mark.parametrize("write", [write_zeros, write_nothing, write_tree])
async def test_finding_16_a_copy_has_gone_when_the_receiver_says_so(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    """Finding 16: bytes handed to the muxer were compared with the size of the content: repeated blocks never made a copy, and a
    slow line made one too early."""
    source = tmp_path / "source"
    write(source)
    async with Node.open(settings(tmp_path / "a")) as node:
        ticket = await node.share(source)
        root = (await node.sharing.rows())[0].root
        complete: list[tuple[str, bool]] = []
        heard = anyio.Event()

        async def watch() -> None:
            async with node.watch(WatchShare(cid=root)) as steps:
                async for step in steps:
                    if isinstance(step, SendProgress) and step.complete:
                        complete.append((step.peer_id, (tmp_path / f"out {len(complete)}").exists()))
                        heard.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                await anyio.wait_all_tasks_blocked()
                peers = []
                for number in range(
                    2
                ):  # the second time everything is there before, in another process of the same home
                    async with Node.open(settings(tmp_path / "b")) as other:
                        await other.get(ticket, tmp_path / f"out {number}")
                        peers.append((str(other.peer_id), True))
                    await heard.wait()
                    heard = anyio.Event()
                tasks.cancel_scope.cancel()
        assert complete == peers
        (row,) = await node.ask(ListShares())
        assert row.copies == 1 and row.state == "serving"


@pytest.mark.parametrize("write", [write_zeros, write_tree])
async def test_finding_16_a_receiver_that_does_not_say_what_it_has_is_waited_for(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubo speaks no providers protocol: all different blocks of the share were sent, and it has read them to the end."""
    source = tmp_path / "source"
    write(source)
    async with Node.open(settings(tmp_path / "a")) as node, Node.open(settings(None, serve=False)) as other:
        ticket = await node.share(source)
        root = (await node.sharing.rows())[0].root
        async with node.watch(WatchShare(cid=root)) as steps, anyio.create_task_group() as tasks:
            tasks.start_soon(other.get, ticket, tmp_path / "out")
            with anyio.fail_after(30):
                async for step in steps:
                    if isinstance(step, SendProgress) and step.complete:
                        break
        assert step.peer_id == str(other.peer_id)


async def test_finding_16_what_nobody_has_read_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film").write_bytes(bytes(MIB))
    async with Node.open(settings(tmp_path / "a")) as node:
        await node.share(tmp_path / "film")
        root = (await node.sharing.rows())[0].root
        for block in [found async for found in node.store.cids()]:
            node.trace(BlockSent(peer=ONE, cid=block, size=MIB))
        await node.sharing.flush()
        assert list(node.sharing._sent_all) == [(root, ONE)]
        await node.sharing._acknowledge(root, ONE)  # it is not connected any more
        assert (await node.sharing.rows())[0].copies == 0


def test_a_block_counts_for_every_share_it_lies_in_and_for_nothing_beside() -> None:
    shared = Shared([(cid(1), [Path("/d")]), (cid(2), [Path("/d/film"), Path("/d/film")]), (cid(3), [Path("/d/fil")])])
    files = {cid(7): [Path("/d/film"), Path("/d/other")], cid(8): [Path("/elsewhere")]}
    counts, blocks = sum_up({(ONE, cid(7)): 5, (OTHER, cid(8)): 9, (ONE, cid(3)): 2}, files, shared)
    assert counts == {(cid(1), ONE): 5, (cid(2), ONE): 5}
    assert set(blocks) == {(cid(n), ONE, cid(block).multihash) for n, block in ((1, 7), (2, 7), (3, 3))}
    assert shared.changed({cid(2): None}).roots_of(Path("/d/film")) == [cid(1)]
    assert is_below(Path("/d/film"), Path("/")) and not is_below(Path("/d/films"), Path("/d/film"))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.none() | st.lists(st.sampled_from("abc"), max_size=3)), max_size=8),
)
def test_shares_that_change_are_as_if_made_anew(changes: list[tuple[int, list[str] | None]]) -> None:
    shared, rows = Shared([]), dict[Cid, list[Path]]()
    for number, names in changes:
        paths = None if names is None else [Path(name) for name in names]
        shared = shared.changed({cid(number): paths})
        if paths is None:
            rows.pop(cid(number), None)
        else:
            rows[cid(number)] = paths
    anew = Shared(list(rows.items()))
    assert shared.roots == anew.roots
    assert {path: set(roots) for path, roots in shared.places.items()} == {
        path: set(roots) for path, roots in anew.places.items()
    }


def test_a_new_share_looks_at_no_other() -> None:
    """In a home with ten thousand shares each new one took 9 ms on the event loop to put all of them together anew."""
    shared = Shared([(cid(1), [Path("/a")]), (cid(2), [Path("/b")])])
    more = shared.changed({cid(3): [Path("/c")]})
    assert more.places[Path("/a")] is shared.places[Path("/a")]
    assert Path("/c") not in shared.places


def test_blocks_of_receivers_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.node.tally.BLOCKS_REMEMBERED_MAX", 3)
    received = Received()
    assert received.add([(cid(1), ONE, b"a"), (cid(1), ONE, b"a"), (cid(1), ONE, b"b")]) == [(cid(1), ONE)]
    assert received.count(cid(1), ONE) == 2
    received.add([(cid(1), OTHER, b"a"), (cid(1), OTHER, b"b")])
    assert (received.count(cid(1), ONE), received.count(cid(1), OTHER)) == (0, 2)
    received.forget(cid(1), OTHER)
    assert received.count(cid(1), OTHER) == 0


@asynccontextmanager
async def sent_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Shares, Cid, DiskStore, Callable[[], None]]]:
    """A node that counts when it is told to, and what sends all blocks of a share to ONE."""
    monkeypatch.setattr(counting, "FLUSH_SECONDS", 3600.0)
    (tmp_path / "film").write_bytes(bytes(MIB) + b"end")
    async with Node.open(settings(tmp_path / "a")) as node:
        await node.share(tmp_path / "film")
        root = (await node.sharing.rows())[0].root
        blocks = [root, *[found async for found in node.store.cids()]]

        def send() -> None:
            for block in blocks:
                node.trace(BlockSent(peer=ONE, cid=block, size=10))

        assert isinstance(node.sharing._store, DiskStore)
        yield node.sharing, root, node.sharing._store, send


async def test_what_was_sent_while_the_index_was_busy_is_counted_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was forgotten: the count of who says nothing never came to all, and `share --once` to Kubo did not end."""
    async with sent_all(tmp_path, monkeypatch) as (sharing, root, store, send):
        busy = Busy(monkeypatch)
        busy.once(store, "files_of")
        busy.once(anyio.to_thread, "run_sync", RuntimeError("can't start new thread"))
        busy.once(store, "count_blocks")
        send()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await sharing.flush()
        for _ in range(4):
            with suppress(RuntimeError):  # the duty is begun again
                await sharing.flush()
        assert not busy.left and list(sharing._sent_all) == [(root, ONE)]
        assert (await sharing.rows())[0].sent == ((ONE, 20),)


async def test_who_has_all_that_it_wanted_while_the_index_was_busy_has_a_copy_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sent_all(tmp_path, monkeypatch) as (sharing, root, store, send):
        send()
        await sharing.flush()
        sharing._needed.clear()
        busy = Busy(monkeypatch)
        busy.once(store, "count_blocks")
        sharing._done[root, ONE] = None
        await sharing.flush()
        assert not busy.left and (await sharing.rows())[0].copies == 1


async def test_a_copy_that_was_read_while_the_index_was_busy_has_gone_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_by(peer: PeerId) -> bool:
        return True

    async with sent_all(tmp_path, monkeypatch) as (sharing, root, store, send):
        send()
        await sharing.flush()
        sharing.read_by = read_by
        sharing._sent_all.clear()
        sharing._needed.clear()
        busy = Busy(monkeypatch)
        busy.once(store, "count_blocks")
        await sharing._acknowledge(root, ONE)
        await sharing.flush()
        assert not busy.left and list(sharing._sent_all) == [(root, ONE)]
        await sharing._acknowledge(root, ONE)
        await sharing.flush()
        assert (await sharing.rows())[0].copies == 1


async def test_what_cannot_be_counted_for_long_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PENDING_MAX", 100)
    monkeypatch.setattr(counting, "PENDING_AT_ONCE", 10)
    async with sent_all(tmp_path, monkeypatch) as (sharing, _, store, send):

        async def busy(cids: object) -> list[list[Path]]:
            raise StoreError("database is locked")

        with monkeypatch.context() as patch:
            patch.setattr(store, "files_of", busy)
            for number in range(300):
                sharing._trace(BlockSent(peer=ONE, cid=cid(number), size=10))
                await sharing.flush()
            assert len(sharing._pending) == 100
        await sharing.flush()
        send()
        await sharing.flush()
        assert not sharing._pending and (await sharing.rows())[0].sent == ((ONE, 20),)


async def test_receivers_who_tell_are_known_however_many_have_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 4,096 nobody new was: our own receivers counted as such that say nothing."""
    monkeypatch.setattr(counting, "TOLD_MAX", 10)
    (tmp_path / "film").write_bytes(bytes(MIB) + b"end")
    async with Node.open(settings(tmp_path / "a")) as node:
        await node.share(tmp_path / "film")
        sharing, root = node.sharing, (await node.sharing.rows())[0].root
        blocks = [found async for found in node.store.cids()]
        node.trace(ReceiverTold(peer=ONE, root=root, complete=False))
        for _ in range(20):
            node.trace(ReceiverTold(peer=PeerId.of(generate().public), root=root, complete=False))
            node.trace(BlockSent(peer=ONE, cid=Cid.of(b"end"), size=10))
            await sharing.flush()
        node.trace(ReceiverTold(peer=OTHER, root=root, complete=False))
        for peer in (ONE, OTHER):
            for block in blocks:
                node.trace(BlockSent(peer=peer, cid=block, size=10))
        await sharing.flush()
        assert sharing._received.count(root, ONE) == sharing._received.count(root, OTHER) == 0
        assert len(sharing._telling) == 10 and {ONE, OTHER} <= sharing._receiving[root].keys()
        assert len(sharing._receiving[root]) == 10
        await sharing.remove(root)
        assert not sharing._telling and not sharing._receiving
