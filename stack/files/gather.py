"""Blocks for a fetch: from the local store where they are there, else from peers; each asked for once, however often it occurs.

Receivers run in worker threads, several at once, so that a payload goes from the wire to the disk without passing the event
loop. Blocks are known by their multihash, as everywhere below the DAG.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import BlockMismatch, BlockNotFound, BlockStore, SourceChanged
from stack.files.storage import direct
from stack.files.tasks import task_group
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer

LOCAL_BYTES = 4 * 1024 * 1024
"""Blocks read from the store in one worker call: enough that the call costs nothing (a block has at most 2 MiB)."""

LOCAL_READERS = 2
"""Such calls at a time: reading hashes, and two threads are what small machines have."""

Receiver = Callable[[Buffer], None]
"""Takes a verified block; the buffer is valid until it returns. What it raises fails the fetch."""


class Want(NamedTuple):
    """A block, and who takes it. The same block may be wanted several times."""

    cid: Cid
    receiver: Receiver
    leaf: int | None = None
    """Its number among the leaves of the root, where that is known: peers then give the rarest first."""


class _Batch:
    """One call of `fetch` that waits. Counted under the gatherer's lock."""

    __slots__ = ("done", "missing")

    def __init__(self) -> None:
        self.missing = 0
        self.done = anyio.Event()


class Gatherer:
    """Gets blocks for one fetch. Getters: `received`. Commands: `fetch`, `get`, `node`."""

    def __init__(self, session: Session, store: BlockStore) -> None:
        self._session = session
        self._store = store
        self._direct = direct(store)
        self._lock = threading.Lock()
        self._waiting: dict[bytes, list[tuple[Receiver, _Batch]]] = {}
        self._batches: set[_Batch] = set()
        self._error: Exception | None = None
        self._local = anyio.Semaphore(LOCAL_READERS)
        self._buffers: list[memoryview] = []
        self.received = 0
        """Bytes of blocks that came from peers."""

    async def get(self, cid: Cid) -> bytes:
        """One block as bytes; not kept in the store."""
        found: list[bytes] = []
        await self.fetch([Want(cid, lambda block: found.append(bytes(block)))])
        return found[0]

    async def node(self, cid: Cid) -> bytes:
        """A block that is no leaf of a file, kept in the store."""
        found: list[bytes] = []
        sent = await self.fetch([Want(cid, lambda block: found.append(bytes(block)))])
        if sent:
            await self._store.put([(cid, found[0])])
        return found[0]

    async def fetch(self, wants: Sequence[Want]) -> set[bytes]:
        """Get all of these; returns when every receiver has returned, with the multihashes of those that peers sent.

        Raises what a receiver raised, and what the session raises. May be called many times at once.
        """
        batch = _Batch()
        fresh: dict[bytes, Want] = {}
        inline: list[Want] = []
        with self._lock:
            for want in wants:
                if want.cid.hash_code == IDENTITY:
                    inline.append(want)
                    continue
                batch.missing += 1
                waiting = self._waiting.get(want.cid.multihash)
                if waiting is None:
                    waiting = self._waiting[want.cid.multihash] = []
                    fresh[want.cid.multihash] = want
                waiting.append((want.receiver, batch))
        if inline:
            await anyio.to_thread.run_sync(_receive_inline, inline)
        absent: list[Cid] = []
        if batch.missing:
            self._batches.add(batch)
            try:
                absent = await self._from_store([want.cid for want in fresh.values()])
                if absent:
                    numbers = [leaf for cid in absent if (leaf := fresh[cid.multihash].leaf) is not None]
                    leaves = numbers if len(numbers) == len(absent) else None
                    await self._session.fetch(absent, self._sink, leaves=leaves)
                self._tell_finished()
                await batch.done.wait()
            except Exception:  # whatever ended it: the first error of a receiver is the cause, and tells more
                if self._error is not None:
                    raise self._error from None
                raise
            finally:
                self._batches.discard(batch)
        if self._error is not None:
            raise self._error
        return {cid.multihash for cid in absent}

    def _tell_finished(self) -> None:
        """Wake the calls whose last block came with another call's."""
        for batch in self._batches:
            if not batch.missing or self._error is not None:
                batch.done.set()

    async def _from_store(self, cids: list[Cid]) -> list[Cid]:
        """Hand over what is in the store; returns what is not."""
        if not cids:
            return []
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
                group.start_soon(self._read_local, [cid for cid, _ in some], total, absent)
        return absent

    async def _read_local(self, cids: list[Cid], total: int, absent: list[Cid]) -> None:
        """Read some blocks and hand them over; those that the store cannot give after all are added to `absent`."""
        try:
            if self._direct is not None:
                # Used again and again: fresh memory costs as much as the reading, in page faults.
                buffer = self._buffers.pop() if self._buffers else memoryview(bytearray(LOCAL_BYTES))
                if total > len(buffer):
                    buffer = memoryview(bytearray(total))
                sizes = await self._direct.read_into(cids, buffer)
                await anyio.to_thread.run_sync(self._hand_over_all, cids, sizes, buffer)
                self._buffers.append(buffer)
                absent += [cid for cid, size in zip(cids, sizes, strict=True) if size is None]
                return
            for cid in cids:
                try:
                    block = await self._store.get(cid)
                except (BlockNotFound, BlockMismatch, SourceChanged):
                    absent.append(cid)
                else:
                    await anyio.to_thread.run_sync(self._hand_over, cid, memoryview(block))
        finally:
            self._local.release()

    def _hand_over_all(self, cids: list[Cid], sizes: list[int | None], buffer: memoryview) -> None:
        position = 0
        for cid, size in zip(cids, sizes, strict=True):
            if size is not None:
                self._hand_over(cid, buffer[position : position + size])
                position += size

    def _sink(self, cid: Cid, block: memoryview) -> None:
        """A block from a peer. Runs in a worker thread."""
        with self._lock:
            self.received += len(block)
        self._hand_over(cid, block)

    def _hand_over(self, cid: Cid, block: memoryview) -> None:
        with self._lock:
            takers = self._waiting.pop(cid.multihash, [])
        try:
            for receiver, _ in takers:
                receiver(block)
        except Exception as error:  # a receiver may raise anything; whoever waits for the batch is told
            if self._error is None:
                self._error = error
            raise
        finally:
            with self._lock:
                for _, batch in takers:
                    batch.missing -= 1


def _receive_inline(wants: list[Want]) -> None:
    for want in wants:
        want.receiver(want.cid.digest)
