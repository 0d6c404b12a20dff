"""Files and directories read from blocks: every byte is checked before it comes out, and read a little ahead in order."""

import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import TaskGroup

from stack.bitswap.interfaces import Session
from stack.blocks.interfaces import BLOCK_SIZE_MAX, BlockStore
from stack.dag.unixfs.data import FILE_SIZE_MAX, NodeKind
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import (
    FilePart,
    NotADirectory,
    NotAFile,
    Shard,
    UnixFSNode,
    children,
    decode_node,
    decode_part,
    list_node,
    path_names,
)
from stack.errors import DecodeError, LimitExceeded, LocalProtocolError
from stack.files.gather import Gatherer, Want
from stack.files.leaves import PARTS_MAX
from stack.files.nodes import LINK_BYTES, list_shard, read_node, take_apart
from stack.files.parts import is_certainly_node
from stack.files.paths import resolve_path
from stack.files.tasks import task_group
from stack.files.work import LEAVE_SECONDS
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer
from stack.streams.turns import Turn
from stack.values import dataclass

BATCH_BYTES = 4 * 1024 * 1024
"""Asked for, or read from the disk, at once."""

BATCH_PARTS = 256
BATCHES_AHEAD = 4
"""Such batches at a time, so that one is given out while two are hashed and one is on its way: 16 MiB at the most."""

HELD_BYTES = 2 * BATCHES_AHEAD * BATCH_BYTES
"""Of all blocks of these batches; those of an honest file have little more bytes than it has. Where they are mostly padding (a part of one
byte in a block of 2 MiB) what is beyond this is let go of, and comes by itself when its turn does."""

ASKED_BELOW = 1024
"""Parts below a small node that are asked for at once."""

LIST_ENTRIES = 64
"""Entries of a directory whose first blocks are asked for at a time."""


@asynccontextmanager
async def open_content(
    session: Session, store: BlockStore, root: Cid, path: str = "", *, offset: int = 0, length: int | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a file from `offset`, in pieces, in order. A context, because it reads ahead; leaving it stops that.

    An offset behind the end gives nothing. Raises LocalProtocolError for a negative one, LinkNotFound, NotAFile, DecodeError (also
    while pieces come), and what the session raises. A session for this should ask in the order of the file.
    """
    if offset < 0 or (length is not None and length < 0):
        raise LocalProtocolError("an offset and a length are 0 or more bytes")
    # The GNU allocator gives the system back what is freed beyond twice the largest block that was: blocks that are given out, one after
    # the other, would each be fresh memory.
    bytes(BATCH_BYTES)
    gatherer = Gatherer(session, store, must_keep=False)
    cid = await resolve_path(gatherer.node, root, path_names(path))
    node = await read_node(cid, await gatherer.get(cid))
    if not node.is_file:
        raise NotAFile(cid, node.kind)
    stop = FILE_SIZE_MAX if length is None else min(offset + length, FILE_SIZE_MAX)
    reading = _Reading(gatherer, node, offset, stop)
    async with reading._batches, task_group() as group:
        group.start_soon(reading.run, group)
        yield reading
        group.cancel_scope.cancel()


class _Batch:
    """Parts that are read together: the blocks they want, those that have come, and the `pieces` they are made of, as far as those are
    ready and nobody has taken them."""

    __slots__ = ("blocks", "done", "held", "news", "parts", "pieces", "wanted")

    def __init__(self, parts: list[FilePart]) -> None:
        self.parts = parts
        self.wanted = {part.cid.multihash: part.cid for part in parts}
        self.blocks: dict[bytes, bytes] = {}
        self.held = 0
        """Their bytes."""
        self.pieces: deque[bytes] = deque()
        self.news = anyio.Event()
        """There is something to be taken, or nothing more will be."""
        self.done = anyio.Event()


class _Reading:
    """One walk through a file: `run` goes ahead, the iteration follows."""

    def __init__(self, gatherer: Gatherer, root: UnixFSNode, start: int, stop: int) -> None:
        self._gatherer = gatherer
        self._root = root
        self._start = start
        self._stop = stop
        self._held = 0
        self._holding = threading.Lock()
        self._is_here = True
        """As far as is known: then blocks are taken from the store as they are, else as peers' are."""
        self._sender, self._batches = anyio.create_memory_object_stream[_Batch](BATCHES_AHEAD - 1)
        self._last: deque[_Batch] = deque(maxlen=BATCHES_AHEAD)
        """What these want is not asked for again: a run of zeros is one block, and Helia sends none twice within five seconds."""
        head = self._cut(root.payload, 0)
        self._pieces: deque[bytes] = deque([head] if head else [])
        self._current: _Batch | None = None
        """Whose pieces are given out."""

    async def run(self, group: TaskGroup) -> None:
        """Walk the nodes and ask for the leaves; waits when enough is on its way."""
        async with self._sender:
            whole = FilePart(self._root.cid, 0, self._root.file_size)
            stack = await take_apart(LINK_BYTES * len(self._root.links), self._below, self._root, whole)
            parts: list[FilePart] = []
            while stack or parts:
                if parts and (
                    not stack or len(parts) == BATCH_PARTS or sum(part.size for part in parts) >= BATCH_BYTES
                ):
                    await self._begin(group, parts)
                    parts = []
                    continue
                part = stack.pop()
                if is_certainly_node(part):
                    found = await self._gatherer.nodes([part.cid], LEAVE_SECONDS if parts else None)
                    if not found:  # nobody has it: what comes before it is given out meanwhile
                        await self._begin(group, parts)
                        parts = []
                        found = await self._gatherer.nodes([part.cid])
                    block = found[part.cid.multihash]
                    stack += (await take_apart(len(block), self._open, part, block))[1]
                    if len(stack) > PARTS_MAX:
                        raise LimitExceeded("parts of a file that wait to be read", PARTS_MAX)
                else:
                    parts.append(part)

    async def _begin(self, group: TaskGroup, parts: list[FilePart]) -> None:
        batch = _Batch(parts)
        await self._sender.send(batch)
        if len(self._last) == BATCHES_AHEAD:  # all of that is given out
            with self._holding:
                self._held -= self._last[0].held
        group.start_soon(self._fill, batch, list(self._last))
        self._last.append(batch)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. No generator: those that are left early are closed whenever it suits the interpreter."""
        while not self._pieces:
            if self._current is None:
                try:
                    self._current = await self._batches.receive()
                except anyio.EndOfStream:
                    raise StopAsyncIteration from None
            batch = self._current
            await batch.news.wait()
            batch.news = anyio.Event()
            self._pieces, batch.pieces = batch.pieces, deque()
            if batch.done.is_set():
                self._current = None
        return self._pieces.popleft()

    async def _fill(self, batch: _Batch, before: list[_Batch]) -> None:
        there = {key: other for other in before for key in batch.wanted if key in other.wanted}
        await self._fetch(batch, [cid for key, cid in batch.wanted.items() if key not in there])
        for key, other in there.items():
            await other.done.wait()
            if key in other.blocks:
                self._hold(batch, key, other.blocks[key])
        await self._read(batch, batch.parts)
        batch.done.set()
        batch.news.set()

    async def _fetch(self, batch: _Batch, cids: list[Cid]) -> None:
        """Without those that nobody has, see `Gatherer.gather`, and those for which there is no room."""
        left = await self._from_here(batch, cids) if self._is_here else cids
        sent: set[bytes] = set()

        async def receive(by_peers: set[bytes]) -> None:
            sent.update(by_peers)

        for start in range(0, len(left), ASKED_BELOW):
            if self._held < HELD_BYTES:
                some = left[start : start + ASKED_BELOW]
                wants = [Want(cid, partial(self._hold, batch, cid.multihash)) for cid in some]
                await self._gatherer.gather(wants, receive, LEAVE_SECONDS)
        self._is_here = len(left) < len(cids) or not sent

    async def _from_here(self, batch: _Batch, cids: list[Cid]) -> list[Cid]:
        """Hold those that the store has; returns the others."""
        with self._holding:
            room = min(HELD_BYTES - self._held, HELD_BYTES // BATCHES_AHEAD)
            self._held += room
        found: dict[bytes, bytes] = {}
        try:
            found = await self._gatherer.here(cids, room)
        finally:
            size = sum(map(len, found.values()))
            with self._holding:
                self._held -= room - size
                batch.held += size
        batch.blocks.update(found)
        return [cid for cid in cids if cid.multihash not in found]

    def _hold(self, batch: _Batch, multihash: bytes, block: Buffer) -> None:
        """Keep a block as long as its batch, where there is room. From worker threads too."""
        with self._holding:
            if multihash in batch.blocks or self._held + len(block) > HELD_BYTES:
                return
            self._held += len(block)
            batch.held += len(block)
            batch.blocks[multihash] = bytes(block)

    async def _read(self, batch: _Batch, parts: list[FilePart]) -> None:
        """Make the pieces of these parts, in order; those before one that nobody has are given out while that is waited for. Calls itself
        for small nodes among them, as deep as `children` allows."""
        missing = {part.cid.multihash: part.cid for part in parts if part.cid.multihash not in batch.blocks}
        if missing and parts is not batch.parts:
            await self._fetch(batch, list(missing.values()))
        ready: list[tuple[FilePart, bytes]] = []
        for part in parts:
            if len(ready) == BATCH_PARTS:
                await self._give(batch, ready)
            if (block := batch.blocks.get(part.cid.multihash)) is not None:
                ready.append((part, block))
                continue
            await self._give(batch, ready)
            batch.news.set()
            block = await self._gatherer.get(part.cid)
            self._hold(batch, part.cid.multihash, block)
            ready.append((part, block))
            del block  # there may have been no room for it
            await self._give(batch, ready)
        await self._give(batch, ready)

    async def _give(self, batch: _Batch, ready: list[tuple[FilePart, bytes]]) -> None:
        """Make the pieces of parts whose blocks are here; none is left in the list."""
        while ready:
            size = sum(len(block) for part, block in ready if part.cid.codec != RAW)
            pieces, below = await take_apart(size, self._open_some, ready)
            batch.pieces += pieces
            if below:
                await self._read(batch, below[::-1])

    def _open_some(self, ready: list[tuple[FilePart, bytes]]) -> tuple[list[bytes], list[FilePart]]:
        """Take parts off the list up to the first that has others below: what was asked for of their own payloads, and those. Raises
        DecodeError."""
        pieces: list[bytes] = []
        below: list[FilePart] = []
        done = 0
        while done < len(ready) and not below:
            piece, below = self._open(*ready[done])
            pieces += [piece] if piece else []
            done += 1
        del ready[:done]
        return pieces, below

    def _open(self, part: FilePart, block: bytes) -> tuple[bytes, list[FilePart]]:
        """What of a part's own payload is asked for, and the parts below it. Raises DecodeError."""
        node = decode_part(part, block)
        return self._cut(node.payload, part.offset), self._below(node, part)

    def _below(self, node: UnixFSNode, part: FilePart) -> list[FilePart]:
        """The parts below a node, the last one first."""
        return children(node, part.offset, depth=part.depth, start=self._start, stop=self._stop)[::-1]

    def _cut(self, payload: memoryview, offset: int) -> bytes:
        """What of a payload at `offset` is asked for; without a copy when that is a whole block."""
        piece = payload[max(self._start - offset, 0) : max(self._stop - offset, 0)]
        whole = payload.obj
        return whole if isinstance(whole, bytes) and len(whole) == len(piece) else bytes(piece)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEntry:
    """A name in a directory."""

    name: str
    cid: Cid
    size: int | None
    """Content bytes of a file; None for anything else, and where it was not looked at."""
    type: str
    """`file`, `directory`, `symlink`, or `unknown`."""


_TYPES = {
    NodeKind.RAW: "file",
    NodeKind.FILE: "file",
    NodeKind.DIRECTORY: "directory",
    NodeKind.HAMT_SHARD: "directory",
    NodeKind.SYMLINK: "symlink",
}


async def list_entries(
    session: Session, store: BlockStore, root: Cid, path: str = "", *, look: bool = True
) -> AsyncIterator[ListedEntry]:
    """The entries of a directory as its blocks come, sharded or not. With `look`, each entry's first block is read too.

    Raises LinkNotFound, NotADirectory, DecodeError, and what the session raises.
    """
    gatherer = Gatherer(session, store, must_keep=False)
    cid = await resolve_path(gatherer.node, root, path_names(path))
    block = await gatherer.get(cid)
    node = await read_node(cid, block)
    if not node.is_directory:
        raise NotADirectory("", cid, node.kind)
    await gatherer.keep(cid, block)
    entries, shards = await take_apart(len(block), list_node, node)
    shards.reverse()
    turn = Turn()
    while True:
        for start in range(0, len(entries), LIST_ENTRIES):
            await turn.give_way()
            for listed in await _look(gatherer, entries[start : start + LIST_ENTRIES], look):
                yield listed
        if not shards:
            return
        shard: Shard = shards.pop()
        block = await gatherer.node(shard.cid)
        entries, more = await take_apart(len(block), list_shard, shard, block)
        shards += reversed(more)


async def look_at(session: Session, store: BlockStore, root: Cid, path: str = "") -> ListedEntry:
    """What a path leads to, by its first block. Raises LinkNotFound, DecodeError, and what the session raises."""
    gatherer = Gatherer(session, store, must_keep=False)
    names = path_names(path)
    cid = await resolve_path(gatherer.node, root, names)
    block = await gatherer.get(cid)
    node = await read_node(cid, block)
    await gatherer.keep(cid, block)
    size = node.file_size if node.is_file else None
    return ListedEntry(name=names[-1] if names else "", cid=cid, size=size, type=_TYPES.get(node.kind, "unknown"))


async def _received(sent: set[bytes]) -> None:
    """All is done by who received them."""


async def _look(gatherer: Gatherer, entries: list[Entry], look: bool) -> list[ListedEntry]:
    found: dict[Cid, tuple[str, int | None]] = {}

    def receive(cid: Cid, block: Buffer) -> None:
        try:
            node = decode_node(cid, block)
        except DecodeError:
            return  # it stays unknown: a directory may hold anything
        found[cid] = _TYPES.get(node.kind, "unknown"), node.file_size if node.is_file else None

    for entry in entries:
        # What is claimed to be a raw block of a size that blocks have, is one: no need to fetch it.
        if entry.cid.codec == RAW and entry.dag_size <= BLOCK_SIZE_MAX:
            found[entry.cid] = "file", entry.dag_size
    is_asked = [entry.cid for entry in entries if entry.cid not in found and (look or entry.cid.hash_code == IDENTITY)]
    if cids := dict.fromkeys(is_asked):
        # An entry that nobody has stays unknown too, and the others are told.
        await gatherer.gather([Want(cid, partial(receive, cid)) for cid in cids], _received, LEAVE_SECONDS)
    listed = []
    for entry in entries:
        kind, size = found.get(entry.cid, ("unknown", None))
        listed.append(ListedEntry(name=entry.name, cid=entry.cid, size=size, type=kind))
    return listed
