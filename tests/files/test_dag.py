"""All below a root: fetched by `pin add`, written by `car export`."""

from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from stack.blocks.memory import MemoryStore
from stack.dag import dag_cbor, dag_pb
from stack.errors import DecodeError, LimitExceeded, Stalled
from stack.files import dag
from stack.files.car_io import export_car, import_car, list_car
from stack.files.dag import fetch_dag
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_CBOR, DAG_PB, RAW
from tests.files.conftest import FakeExchange, open_store
from tests.files.test_car_io import Pieces

pytestmark = pytest.mark.anyio

Block = tuple[Cid, bytes]


def leaf(number: int) -> Block:
    data = bytes([number]) * 50
    return Cid.of(data), data


def node(*cids: Cid, hash: str = "sha2-256") -> Block:
    data = dag_pb.encode(dag_pb.Node(None, tuple(dag_pb.Link(f"{at:03}", 1, cid) for at, cid in enumerate(cids))))
    return Cid.of(data, DAG_PB, hash=hash), data


def dag_of_all_kinds() -> tuple[Cid, list[Block]]:
    """A node that is first met as a raw leaf, one inside its own name, equal leaves, a shared subtree, dag-cbor."""
    leaves = [leaf(number) for number in range(6)]
    inner = node(leaves[0][0], leaves[1][0], leaves[0][0])
    data = dag_cbor.encode({"a": [leaves[2][0], inner[0]], "b": leaves[3][0]})
    cbor = (Cid.of(data, DAG_CBOR), data)
    inline = node(leaves[4][0].with_codec(RAW), hash="identity")
    inline_cbor = Cid.of(dag_cbor.encode([leaves[5][0]]), DAG_CBOR, hash="identity")
    root = node(inner[0].with_codec(RAW), cbor[0].with_codec(RAW), inline_cbor, inner[0], cbor[0], inner[0])
    below = node(inline[0], root[0]) if len(inline[1]) <= 128 else node(leaves[4][0], root[0])
    return below[0], [*leaves, inner, cbor, root, below]


@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_a_node_that_is_also_a_raw_leaf_is_fetched_with_all_below_it(tmp_path: Path, kind: str) -> None:
    """Finding 3: `pin add` said that it was done with two of three blocks."""
    root, blocks = dag_of_all_kinds()
    exchange = FakeExchange({cid.multihash: data for cid, data in blocks})
    async with open_store(kind, tmp_path / "home") as store, exchange.session(root) as session:

        class Keeping:
            """As a session of the network does, it keeps what nobody takes."""

            async def fetch(self, cids: list[Cid]) -> None:
                here = await store.has(cids)
                absent = [cid for cid, present in zip(cids, here, strict=True) if not present]
                found: list[Block] = []
                await session.fetch(absent, lambda cid, block: found.append((cid, bytes(block))))
                await store.put(found)

        for _ in range(2):
            assert await fetch_dag(Keeping(), store, root) == len(blocks)  # type: ignore[arg-type]
        assert all(await store.has([cid for cid, _ in blocks]))
        assert len(exchange.sent) == len(blocks)


async def test_a_node_that_is_also_a_raw_leaf_is_exported_with_all_below_it() -> None:
    """Finding 3: `car export` left the children out. Each block stands in the archive once."""
    root, blocks = dag_of_all_kinds()
    store, other = MemoryStore(), MemoryStore()
    await store.put(blocks)
    async with FakeExchange().session(root) as session:
        archive = b"".join([piece async for piece in export_car(session, store, root)])  # type: ignore[arg-type]
    entries = [cid async for cid, size in list_car(Pieces(archive)) if size is not None]
    assert len(entries) == len({cid.multihash for cid in entries}) == len(blocks)
    await import_car(other, Pieces(archive))
    assert all(await other.has([cid for cid, _ in blocks]))


class Lossy:
    """Has some, and says so of what it has not got; `gives_up` when it is asked for that alone."""

    def __init__(self, store: MemoryStore, blocks: list[Block], lost: set[bytes], *, gives_up: bool = False) -> None:
        self._store = store
        self._blocks = blocks
        self._gives_up = gives_up
        self.lost = lost

    async def fetch(self, cids: list[Cid]) -> None:
        wanted = {cid.multihash for cid in cids}
        if self._gives_up and wanted <= self.lost:
            raise Stalled("nothing came for 30 s")
        while wanted:
            some = wanted - self.lost
            await self._store.put([(cid, data) for cid, data in self._blocks if cid.multihash in some])
            wanted -= some
            await anyio.sleep(0.005)

    def lacking(self, multihashes: Iterable[bytes]) -> bool:
        return set(multihashes) <= self.lost


@pytest.mark.parametrize("gives_up", [True, False])
async def test_what_nobody_has_keeps_nothing_else_of_a_dag_away(
    monkeypatch: pytest.MonkeyPatch, gives_up: bool
) -> None:
    """`pin add` got nothing of what is below the other nodes of a group, of which one was lost."""
    for name in "LOOK_SECONDS", "LEAVE_SECONDS":
        monkeypatch.setattr(dag, name, 0.01)
    root, blocks = dag_of_all_kinds()
    inner, lost = node(leaf(0)[0], leaf(1)[0], leaf(0)[0])[0], leaf(3)[0]
    store = MemoryStore()
    session = Lossy(store, blocks, {inner.multihash, lost.multihash}, gives_up=gives_up)

    async def all_else_is_there() -> None:
        kept = [cid for cid, _ in blocks if cid not in (inner, lost, leaf(0)[0], leaf(1)[0])]
        while not all(await store.has(kept)):
            await anyio.sleep(0.005)
        session.lost = set()

    if gives_up:
        with pytest.raises(Stalled):
            await fetch_dag(session, store, root)  # type: ignore[arg-type]
        session = Lossy(store, blocks, set())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(all_else_is_there)
        assert await fetch_dag(session, store, root) == len(blocks)  # type: ignore[arg-type]
    assert all(await store.has([cid for cid, _ in blocks]))


async def test_an_archive_is_written_as_far_as_what_is_lost_and_what_is_behind_it_is_kept(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.files.gather.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("stack.files.car_io.LEAVE_SECONDS", 0.01)
    leaves = [leaf(number) for number in range(6)]
    root = node(*[cid for cid, _ in leaves])
    exchange.blocks = {cid.multihash: data for cid, data in [*leaves, root]}
    exchange.lost = {leaves[3][0].multihash}
    store = MemoryStore()
    archive = b""
    async with exchange.session(root[0]) as session:
        async for piece in export_car(session, store, root[0]):  # type: ignore[arg-type]
            archive += piece
            if exchange.lost and leaves[2][1] in archive:
                assert await store.has([cid for cid, _ in leaves]) == [True, True, True, False, True, True]
                exchange.lost.clear()
    assert all(data in archive for _, data in leaves)


async def test_a_dag_without_end_and_one_that_is_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    root, blocks = dag_of_all_kinds()
    bad = Cid.of(b"\x07bad", DAG_PB, hash="identity")
    store = MemoryStore()
    wrong = node(bad)
    await store.put([*blocks, wrong])

    class Nothing:
        async def fetch(self, cids: list[Cid]) -> None: ...

    with pytest.raises(DecodeError):
        await fetch_dag(Nothing(), store, wrong[0])  # type: ignore[arg-type]
    monkeypatch.setattr(dag, "BLOCKS_MAX", 5)
    with pytest.raises(LimitExceeded):
        await fetch_dag(Nothing(), store, root)  # type: ignore[arg-type]
