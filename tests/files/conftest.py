"""What the tests of files share: peers that are dictionaries, and content that is reproducible."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from stack.bitswap.interfaces import BlockSink, Order, PeerReport, Provider
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid

ME = PeerId.of(generate().public)


def content(seed: str, size: int) -> bytes:
    """Reproducible bytes."""
    return hashlib.shake_256(seed.encode()).digest(size)


class FakeSession:
    """A session whose only peer is a dictionary of blocks. What it lacks never comes."""

    def __init__(self, peer: "FakeExchange") -> None:
        self._peer = peer
        self.providers: list[Provider] = []

    def add_provider(self, provider: Provider) -> None:
        self.providers.append(provider)

    async def get(self, cid: Cid) -> bytes:
        found: list[bytes] = []
        await self.fetch([cid], lambda _, block: found.append(bytes(block)))
        return found[0]

    async def fetch(
        self, cids: Sequence[Cid], sink: BlockSink | None = None, *, leaves: Sequence[int] | None = None
    ) -> None:
        assert sink is not None
        peer = self._peer
        peer.calls.append(list(cids))
        peer.leaves.append(None if leaves is None else list(leaves))
        late: list[Cid] = []
        for start in range(0, len(cids), 16):
            some = [cid for cid in cids[start : start + 16] if cid.multihash not in peer.lost]
            for cid in some:
                while peer.gate is not None and not peer.gate(cid):
                    await anyio.sleep(0.005)

            def deliver(some: Sequence[Cid] = some) -> None:
                for cid in some:
                    block = peer.blocks[cid.multihash]
                    peer.sent.append(cid)
                    sink(cid, memoryview(block))

            await anyio.to_thread.run_sync(deliver)
            late += [cid for cid in cids[start : start + 16] if cid not in some]
        while late:
            await anyio.sleep(0.005)
            found = [cid for cid in late if cid.multihash not in peer.lost]
            await anyio.to_thread.run_sync(deliver, found)
            late = [cid for cid in late if cid not in found]

    def lacking(self, multihashes: Iterable[bytes]) -> bool:
        return set(multihashes) <= self._peer.lost

    def reports(self) -> list[PeerReport]:
        return self._peer.reports


class FakeExchange:
    """An Exchange with one peer. `gate` says whether a block may come yet."""

    def __init__(self, blocks: dict[bytes, bytes] | None = None) -> None:
        self.blocks = blocks if blocks is not None else {}
        self.gate: Callable[[Cid], bool] | None = None
        self.sent: list[Cid] = []
        self.calls: list[list[Cid]] = []
        self.leaves: list[list[int] | None] = []
        self.reports: list[PeerReport] = []
        self.sessions: list[FakeSession] = []
        self.lost: set[bytes] = set()
        """What it says it has not got."""

    @asynccontextmanager
    async def session(
        self,
        root: Cid,
        *,
        providers: Sequence[Provider] = (),
        order: Order = Order.SPREAD,
        broadcast: bool = False,
        head_start: float = 0.0,
        seek: float | None = None,
    ) -> AsyncIterator[FakeSession]:
        session = FakeSession(self)
        session.providers += providers
        self.sessions.append(session)
        yield session


def blocks_of(store: MemoryStore) -> dict[bytes, bytes]:
    """All blocks of a memory store, by multihash."""
    return store._blocks


@pytest.fixture
def exchange() -> FakeExchange:
    """A peer without blocks."""
    return FakeExchange()


@pytest.fixture(params=["memory", "disk"])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store a node may have."""
    return str(request.param)


@asynccontextmanager
async def open_store(kind: str, home: Path) -> AsyncIterator[MemoryStore | DiskStore]:
    """A store of this kind; the disk store lies in `home`."""
    if kind == "memory":
        yield MemoryStore()
        return
    home.mkdir(exist_ok=True)
    async with DiskStore.open(home) as store:
        yield store
