"""The leaves of one file, from its root to the disk: nodes are walked in the file's order, leaves are asked for in batches.

Memory is bounded whatever the DAG says: a group of nodes, the children of the nodes that stand open, and the batches that are
under way. Nodes are asked for one group ahead of the leaves before them, so that peers always have something to send.
"""

from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.dag.unixfs.reader import FilePart, UnixFSNode, children, decode_part
from stack.errors import DecodeError, FetchError, LimitExceeded
from stack.files.gather import Want
from stack.files.nodes import LINK_BYTES, take_apart
from stack.files.parts import LeafSink, is_certainly_node, is_hole, place_leaf
from stack.files.tasks import task_group
from stack.files.work import AGAIN_SECONDS, LEAF_BATCH, Work
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.multiformats.multihash import IDENTITY
from stack.sansio.interfaces import Buffer

NODE_GROUP = 16
"""Nodes asked for at once: 16 of Kubo's hold 2,784 leaves, 700 MiB. At most two groups of 2 MiB blocks are in memory."""

PARTS_MAX = 1_000_000
"""Children waiting in all open nodes. An honest file has some thousands; a node full of links has 40,000, and 128 of them
may stand above each other."""

LACKING_MAX = 100_000
"""Parts that nobody has, left for the end: 25 GiB of Kubo's leaves. Beyond it they are waited for where they are met."""

HELD_BYTES_MAX = 8 * 1024 * 1024
"""Nodes among what was asked for as leaves, kept until the batch has ended. What goes beyond is asked for again."""

Check = Callable[[FilePart], bool | None]
"""Whether a part is on the disk, and right; None where only its block can tell. Runs in a worker thread."""


class Lacking(FetchError):
    """All is there of a file but what nobody has who was asked."""


class _Node:
    """A part that is known to have parts of its own."""

    __slots__ = ("part",)

    def __init__(self, part: FilePart) -> None:
        self.part = part


class _Group:
    """Nodes that have been asked for."""

    __slots__ = ("blocks", "done", "parts")

    def __init__(self, parts: list[FilePart]) -> None:
        self.parts = parts
        self.blocks: dict[bytes, bytes] = {}
        self.done = anyio.Event()


class _Batch:
    """Leaves that are asked for; `nodes` are those that turned out to be none."""

    __slots__ = ("held", "nodes", "parts")

    def __init__(self, parts: list[FilePart]) -> None:
        self.parts = parts
        self.nodes: list[FilePart] = []
        self.held: list[tuple[Cid, bytes]] = []


class LeafWalk:
    """Brings all leaves of a file to a sink. Used once: `run`."""

    def __init__(
        self, work: Work, root: UnixFSNode, sink: LeafSink, check: Check | None = None, *, counted: bool = True
    ) -> None:
        """`root` is a node with links; its block is the caller's to keep. With `check`, what is in place is not asked for.

        `counted` leaves are progress, and are told to others.
        """
        self._work = work
        self._root = root
        self._sink = sink
        self._check = check
        self._counted = counted
        self._tracker = work.tracker if counted else None
        self._stack: list[FilePart | _Node | _Group] = []
        self._lacking: list[FilePart | _Node] = []
        """What nobody has, until all else is there."""
        self._running = 0
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Returns when every leaf has been given to the sink, or was in place.

        Raises DecodeError (WrongSize) as soon as a block contradicts the nodes above it, LimitExceeded, Lacking (see
        `Work.comes_back`), what the sink raises, and what the session raises.
        """
        await self._open(self._root, 0, 0)
        batch: list[FilePart] = []
        async with task_group() as group:
            while self._stack or batch or self._running or self._lacking:
                if not self._stack and not batch and self._running:
                    self._changed = anyio.Event()
                    await self._changed.wait()
                elif not self._stack and not batch:
                    if self._work.comes_back:
                        raise self._incomplete()
                    self._work.patience = AGAIN_SECONDS
                    self._stack += reversed(self._lacking)
                    self._lacking = []
                elif not self._stack or len(batch) == LEAF_BATCH:
                    await self._start_batch(group, batch)
                    batch = []
                else:
                    item = self._stack.pop()
                    if isinstance(item, FilePart):
                        if self._tracker is not None and not item.offset:
                            self._tracker.start(self._root.file_size, item.size)
                        batch.append(item)
                    elif isinstance(item, _Node):
                        self._stack.append(item)
                        self._start_group(group)
                    else:
                        await item.done.wait()
                        self._start_group(group)
                        for part in reversed(item.parts):
                            block = item.blocks.get(part.cid.multihash)
                            if block is None:
                                self._lacking.append(_Node(part))
                                continue
                            node = await take_apart(len(block), decode_part, part, block)
                            await self._open(node, part.offset, part.depth)

    @property
    def _patience(self) -> float | None:
        return self._work.patience if len(self._lacking) < LACKING_MAX else None

    def _incomplete(self) -> Lacking:
        """What is there of the file is not counted once more when it is begun again."""
        size = sum((each.part if isinstance(each, _Node) else each).size for each in self._lacking)
        if self._counted:
            self._work.progress.comes_again(self._root.file_size - size)
        return Lacking(f"nobody has {size:,} bytes of {self._root.cid}")

    async def _open(self, node: UnixFSNode, offset: int, depth: int) -> None:
        """Go on with the children of a node."""
        if node.payload:
            # Nobody writes such files, but the format allows bytes beside the links.
            leaf = FilePart(Cid.of(node.payload), offset, len(node.payload), depth + 1)
            await anyio.to_thread.run_sync(self._receive, _Batch([leaf]), leaf, node.payload)
        below = await take_apart(LINK_BYTES * len(node.links), _below, node, offset, depth)
        if len(self._stack) + len(below) > PARTS_MAX:
            raise LimitExceeded("parts of a file that wait to be fetched", PARTS_MAX)
        self._stack += below

    def _start_group(self, group: TaskGroup) -> None:
        """Ask for the nodes on top of the stack; what is above them by now is asked for later and read earlier."""
        parts: list[FilePart] = []
        while self._stack and len(parts) < NODE_GROUP and isinstance(item := self._stack[-1], _Node):
            self._stack.pop()
            parts.append(item.part)
        if parts:
            nodes = _Group(parts)
            self._stack.append(nodes)
            group.start_soon(self._fetch_group, nodes)

    async def _fetch_group(self, nodes: _Group) -> None:
        nodes.blocks = await self._work.gatherer.nodes([part.cid for part in nodes.parts], self._patience)
        nodes.done.set()

    async def _start_batch(self, group: TaskGroup, parts: list[FilePart]) -> None:
        await self._work.leaf_batches.acquire()
        self._running += 1
        group.start_soon(self._fetch_batch, _Batch(parts))

    async def _fetch_batch(self, batch: _Batch) -> None:
        try:
            parts = batch.parts
            if self._check is not None:
                parts = await anyio.to_thread.run_sync(self._not_in_place, parts, limiter=self._work.checkers)
            await self._refuse_too_large(parts)
            if parts:
                wants = [Want(part.cid, partial(self._receive, batch, part), self._number(part)) for part in parts]
                left = await self._work.gatherer.gather(wants, partial(self._keep, batch), self._patience)
                self._lacking += [part for part in parts if part.cid.multihash in left]
        finally:
            self._work.leaf_batches.release()
        if batch.nodes:
            self._stack += [_Node(part) for part in sorted(batch.nodes, key=lambda part: -part.offset)]
            if self._tracker is not None:
                self._tracker.irregular()
        self._running -= 1
        self._changed.set()

    async def _keep(self, batch: _Batch, _sent: set[bytes]) -> None:
        """Put the nodes among the leaves that have come into the store."""
        held = batch.held[:]
        del batch.held[: len(held)]
        if nodes := [(cid, block) for cid, block in held if cid.hash_code != IDENTITY]:
            await self._work.store.put(nodes)

    def _not_in_place(self, parts: list[FilePart]) -> list[FilePart]:
        """The parts that must be fetched; the others are counted. Runs in a worker thread."""
        assert self._check is not None
        missing = []
        for part in parts:
            if self._check(part):
                if self._counted:
                    self._work.progress.add(part.size, written=False)
                self._tell_ranges(part)
            else:
                missing.append(part)
        return missing

    async def _refuse_too_large(self, parts: list[FilePart]) -> None:
        """A leaf that no peer may send would be waited for in vain."""
        large = [part for part in parts if part.cid.codec == RAW and part.size > BLOCK_SIZE_MAX]
        if large:
            here = await self._work.store.has([part.cid for part in large])
            for part, present in zip(large, here, strict=True):
                if not present and part.cid.hash_code != IDENTITY:
                    raise DecodeError(
                        f"leaf {part.cid} is announced with {part.size} bytes; a block has {BLOCK_SIZE_MAX}"
                    )

    def _receive(self, batch: _Batch, part: FilePart, block: Buffer) -> None:
        """Runs in a worker thread, several at once; appending to a list is atomic."""
        if place_leaf(part, block, self._sink):
            if self._counted:
                self._work.progress.add(part.size, written=not (self._work.leaves_holes and is_hole(part)))
            self._tell_ranges(part)
            return
        batch.nodes.append(part)
        if sum(len(held) for _, held in batch.held) + len(block) <= HELD_BYTES_MAX:
            batch.held.append((part.cid, bytes(block)))

    def _number(self, part: FilePart) -> int | None:
        return self._tracker.number(part.offset, part.size) if self._tracker is not None else None

    def _tell_ranges(self, part: FilePart) -> None:
        if self._tracker is not None:
            self._tracker.written(part.offset, part.size)


def _below(node: UnixFSNode, offset: int, depth: int) -> list[FilePart | _Node | _Group]:
    """The parts below a node, the last one first. Raises DecodeError."""
    parts = children(node, offset, depth=depth)
    return [_Node(part) if is_certainly_node(part) else part for part in reversed(parts)]
