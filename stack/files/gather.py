"""Blocks for a fetch: from the local store where they are there, else from peers.

Receivers run in worker threads, several at once, so that a payload goes from the wire to the disk without passing the event
loop. Blocks are known by their multihash, as everywhere below the DAG. Who waits for a block that others wait for too is the
session's business: nothing about it is written down here.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import BlockSink, Session
from stack.blocks.interfaces import NOT_HERE, Block, BlockStore, ReadFailed
from stack.errors import StoreError
from stack.files.storage import direct, many
from stack.files.tasks import task_group
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer

LOCAL_BYTES = 4 * 1024 * 1024
"""Blocks read from the store in one worker call: enough that the call costs nothing (a block has at most 2 MiB)."""

LOOK_SECONDS = 0.5
"""What came is taken this often while the rest is waited for."""

LOCAL_READERS = 2
"""Such calls at a time: reading hashes, and two threads are what small machines have."""

WHOLE_READERS = 3
"""The same where blocks are given out as they were read: one is on its way while the event loop hears of another that it is done."""

EARLY_BYTES = 8 * 1024 * 1024
"""Blocks that came before their turn and wait for it in memory."""

Receiver = Callable[[Buffer], None]
"""Takes a verified block; the buffer is valid until it returns. What it raises fails the fetch."""


class Want(NamedTuple):
    """A block, and who takes it. The same block may be wanted several times."""

    cid: Cid
    receiver: Receiver
    leaf: int | None = None
    """Its number among the leaves of the root, where that is known: peers then give the rarest first."""


class Lack:
    """How long all that is left of a group has been what everybody says it has not got."""

    def __init__(self, session: Session, patience: float | None) -> None:
        self._session = session
        self._patience = patience
        self._since: float | None = None

    def lasts(self, left: Collection[bytes]) -> bool:
        """Whether that is so for the `patience` that there is; looked at every now and then."""
        if self._patience is None or not left or not self._session.lacking(left):
            self._since = None
            return False
        now = anyio.current_time()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._patience


class Gathering:
    """A group of blocks that is under way."""

    __slots__ = ("came", "done", "sent")

    def __init__(self) -> None:
        self.came: set[bytes] = set()
        """Multihashes of those whose receivers have returned."""
        self.sent: set[bytes] = set()
        """Of those that come from peers; of each that has come it is known."""
        self.done = anyio.Event()


class Gatherer:
    """Gets blocks for one fetch. Getters: `received`. Commands: `fetch`, `gather`, `get`, `node`, `nodes`, `keep`, `keep_early`."""

    def __init__(self, session: Session, store: BlockStore, *, must_keep: bool = True) -> None:
        """With `must_keep` not to be able to keep a block is an error; who only reads goes on with what came."""
        self._session = session
        self._store = store
        self._must_keep = must_keep
        self._direct = direct(store)
        self._many = many(store)
        self._local = anyio.Semaphore(LOCAL_READERS)
        self._whole = anyio.Semaphore(WHOLE_READERS)
        self._buffers: list[memoryview] = []
        self._early: dict[bytes, bytes] = {}
        self._early_room = EARLY_BYTES

    @property
    def received(self) -> int:
        """Bytes of blocks that peers have sent."""
        return sum(report.bytes for report in self._session.reports())

    async def get(self, cid: Cid) -> bytes:
        """One block as bytes; not kept in the store."""
        found: list[bytes] = []
        await self.fetch([Want(cid, lambda block: found.append(bytes(block)))])
        return found[0]

    async def here(self, cids: Sequence[Cid], most: int) -> dict[bytes, bytes]:
        """Of these blocks what the store can give at once, `most` bytes in all, by their multihashes."""
        if self._many is None:
            return {}
        async with self._whole:
            blocks = await self._many.get_many(cids, most)
        return {cid.multihash: block for cid, block in zip(cids, blocks, strict=True) if block is not None}

    async def node(self, cid: Cid) -> bytes:
        """A block that is no leaf of a file, kept in the store."""
        return (await self.nodes([cid]))[cid.multihash]

    async def nodes(self, cids: Sequence[Cid], patience: float | None = None) -> dict[bytes, bytes]:
        """The same for several, by their multihashes; with `patience` without those that nobody has, see `gather`."""
        found: dict[bytes, bytes] = {}
        kept: set[bytes] = set()

        def receive(multihash: bytes, block: Buffer) -> None:
            found[multihash] = bytes(block)

        different = {cid.multihash: cid for cid in cids}

        async def keep(sent: set[bytes]) -> None:  # what was here too: it may be for others only
            fresh = [key for key in list(found) if key not in kept and different[key].hash_code != IDENTITY]
            kept.update(fresh)
            await self._put([(different[key], found[key]) for key in fresh])

        await self.gather([Want(cid, partial(receive, key)) for key, cid in different.items()], keep, patience)
        return found

    async def keep(self, cid: Cid, block: bytes) -> None:
        """Keep a block that is no leaf in the store; one that is in its own CID is there as it is."""
        await self._put([(cid, block)] if cid.hash_code != IDENTITY else [])

    async def _put(self, blocks: Sequence[Block]) -> None:
        try:
            if blocks:
                await self._store.put(blocks)
        except StoreError:
            if self._must_keep:
                raise

    def keep_early(self, multihash: bytes, block: bytes) -> None:
        """A block that peers sent to be looked at, until it is wanted once more; beyond `EARLY_BYTES` it comes again."""
        if multihash not in self._early and len(block) <= self._early_room:
            self._early[multihash] = block
            self._early_room -= len(block)

    async def gather(
        self, wants: Sequence[Want], take: Callable[[set[bytes]], Awaitable[object]], patience: float | None = None
    ) -> set[bytes]:
        """As `fetch`, but what comes is taken meanwhile, so that one block that nobody has does not take the others with it: `take` is
        called once all have come, and every `LOOK_SECONDS` before, with the multihashes of those that peers sent.

        With `patience` returns also when for so many seconds all that is left is what everybody says it has not got: with the
        multihashes of that. Raises what `take` raises, and as `fetch`.
        """
        wanted = {want.cid.multihash for want in wants if want.cid.hash_code != IDENTITY}
        gathering, lack = Gathering(), Lack(self._session, patience)

        async def ask() -> None:
            await self.fetch(wants, gathering)
            gathering.done.set()

        async with task_group() as group:
            group.start_soon(ask)
            while True:
                with anyio.move_on_after(LOOK_SECONDS):
                    await gathering.done.wait()
                is_whole = gathering.done.is_set()
                await take(gathering.sent)
                if is_whole:
                    return set()
                if lack.lasts(wanted - gathering.came):
                    group.cancel_scope.cancel()
                    break
        left = wanted - gathering.came
        await take(gathering.sent)  # what has come since the last look
        return left

    async def fetch(self, wants: Sequence[Want], gathering: Gathering | None = None) -> set[bytes]:
        """Get all of these; returns when every receiver has returned, with the multihashes of those that peers sent. `gathering`
        shows how far it is.

        Raises what a receiver raised, and what the session raises. May be called many times at once, also for the same blocks.
        """
        gathering = gathering or Gathering()
        receivers: dict[bytes, list[Receiver]] = {}
        first: dict[bytes, Want] = {}
        inline: list[Want] = []
        for want in wants:
            if want.cid.hash_code == IDENTITY:
                inline.append(want)
            else:
                receivers.setdefault(want.cid.multihash, []).append(want.receiver)
                first.setdefault(want.cid.multihash, want)

        def sink(cid: Cid, block: memoryview) -> None:
            for receiver in receivers[cid.multihash]:
                receiver(block)
            gathering.came.add(cid.multihash)

        if inline:
            await anyio.to_thread.run_sync(_receive_inline, inline)
        early = [(want.cid, self._early.pop(key)) for key, want in first.items() if key in self._early]
        gathering.sent.update(cid.multihash for cid, _ in early)
        if early:
            self._early_room += sum(len(block) for _, block in early)
            await anyio.to_thread.run_sync(_hand_over_early, early, sink)
        others = [want.cid for key, want in first.items() if key not in gathering.sent]
        absent = await self._from_store(others, sink) if others else []
        gathering.sent.update(cid.multihash for cid in absent)
        if absent:
            numbers = [leaf for cid in absent if (leaf := first[cid.multihash].leaf) is not None]
            leaves = numbers if len(numbers) == len(absent) else None
            await self._session.fetch(absent, sink, leaves=leaves)
        return gathering.sent

    async def _from_store(self, cids: list[Cid], sink: BlockSink) -> list[Cid]:
        """Hand over what is in the store; returns what is not."""
        sizes = await self._store.sizes(cids)
        absent = [cid for cid, size in zip(cids, sizes, strict=True) if size is None]
        local = [(cid, size) for cid, size in zip(cids, sizes, strict=True) if size is not None]
        if not local:
            return absent
        async with task_group() as group:
            while local:
                total = count = 0
                while count < len(local) and (not count or total + local[count][1] <= LOCAL_BYTES):
                    total += local[count][1]
                    count += 1
                some, local = local[:count], local[count:]
                await self._local.acquire()
                group.start_soon(self._read_local, [cid for cid, _ in some], total, sink, absent)
        return absent

    async def _read_local(self, cids: list[Cid], total: int, sink: BlockSink, absent: list[Cid]) -> None:
        """Read some blocks and hand them over; those that the store cannot give after all are added to `absent`."""
        try:
            if self._direct is not None:
                # Used again and again: fresh memory costs as much as the reading, in page faults.
                buffer = self._buffers.pop() if self._buffers else memoryview(bytearray(LOCAL_BYTES))
                if total > len(buffer):
                    buffer = memoryview(bytearray(total))
                try:
                    sizes = await self._direct.read_into(cids, buffer)
                except ReadFailed:
                    sizes = [None] * len(cids)
                await anyio.to_thread.run_sync(_hand_over, cids, sizes, buffer, sink)
                self._buffers.append(buffer)
                absent += [cid for cid, size in zip(cids, sizes, strict=True) if size is None]
                return
            for cid in cids:
                try:
                    block = await self._store.get(cid)
                except NOT_HERE:
                    absent.append(cid)
                else:
                    await anyio.to_thread.run_sync(sink, cid, memoryview(block))
        finally:
            self._local.release()


def _hand_over(cids: list[Cid], sizes: list[int | None], buffer: memoryview, sink: BlockSink) -> None:
    position = 0
    for cid, size in zip(cids, sizes, strict=True):
        if size is not None:
            sink(cid, buffer[position : position + size])
            position += size


def _hand_over_early(blocks: Sequence[tuple[Cid, bytes]], sink: BlockSink) -> None:
    for cid, block in blocks:
        sink(cid, memoryview(block))


def _receive_inline(wants: list[Want]) -> None:
    for want in wants:
        want.receiver(want.cid.digest)
