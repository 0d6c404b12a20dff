"""Taking back what is below some roots: all blocks that nothing else keeps, wherever they lie. Called by the store's owner.

Unlike garbage collection it looks for certain blocks, and takes them out of the user's own files too (their rows, never their bytes):
what is no longer shared is then not here for anybody who asks. A file that is being fetched belongs to that fetch.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from stack.blocks.gc import READ_BATCH, Holds, Markable, Marker, Nodes, Position, mark_all
from stack.blocks.interfaces import ReadFailed
from stack.blocks.names import NameSet
from stack.blocks.walk import Links, Walk
from stack.dag.unixfs.reader import decode_node
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.multiformats.multihash import IDENTITY

STEP_NAMES = 16_384
"""Blocks met in one worker call, and removed in one transaction with one sync: some 300 ms. Fewer would cost more: their names are
strewn over all of the index, and a transaction writes each page that it touches."""


class Below:
    """Walks what is below some roots, as far as it is here: what is damaged or absent has nothing below it. What is below a node that
    cannot be read now is not known.

    Commands: `step`. Getters: `nodes`.
    """

    def __init__(self, links: Links, roots: Sequence[Cid], *, inline: bool = False) -> None:
        """With `inline` what files hold that are in their own names counts too: where it lies in place it is a raw block, to which no
        node refers."""
        self._links = links
        self._inline: list[bytes] = []
        self._walk = Walk(self._links_of if inline else links)
        self._walk.add(*roots)
        if inline:
            self._look_inside(roots)
        self.nodes: list[bytes] = []
        """Blocks that were opened, parents first. They go last and in the opposite order: who is cut off can begin again."""

        self._unread: ReadFailed | None = None

    def step(self, nodes: Nodes) -> list[bytes] | None:
        """Leaves that were met; None at the end, where it raises ReadFailed if a node could not be read. Raises StoreError."""
        leaves: list[bytes] = []
        while len(leaves) < STEP_NAMES:
            leaves += self._inline
            self._inline.clear()
            try:
                batch = self._walk.next_batch(STEP_NAMES)
            except DecodeError:
                continue
            if not batch:
                if not leaves and self._unread is not None:
                    raise self._unread
                return leaves or None
            opens = [visit.cid for visit in batch if visit.opens]
            framed = [leaf and cid.codec == DAG_PB for cid, leaf in zip(opens, nodes.in_frames(opens), strict=True)]
            opened = [cid for cid, leaf in zip(opens, framed, strict=True) if not leaf]
            self.nodes += [cid.multihash for cid in opened]
            leaves += [visit.cid.multihash for visit in batch if not visit.opens]
            leaves += [cid.multihash for cid, leaf in zip(opens, framed, strict=True) if leaf]
            for cid, data in self._read(nodes, opened):
                try:
                    self._walk.receive(cid, data)
                except DecodeError:
                    continue
        return leaves

    def _links_of(self, cid: Cid, data: bytes) -> Sequence[Cid]:
        found = self._links(cid, data)
        self._look_inside(found)
        return found

    def _look_inside(self, cids: Sequence[Cid]) -> None:
        for cid in cids:
            if cid.hash_code == IDENTITY and cid.codec in (RAW, DAG_PB):
                with suppress(DecodeError):
                    node = decode_node(cid, cid.digest)
                    if not node.links:
                        self._inline.append(Cid.of(node.payload).multihash)

    def _read(self, nodes: Nodes, cids: list[Cid]) -> Iterator[tuple[Cid, bytes]]:
        for start in range(0, len(cids), READ_BATCH):
            some = cids[start : start + READ_BATCH]
            try:
                found = nodes.read_nodes(some)
            except ReadFailed:
                found = [self._read_one(nodes, cid) for cid in some]
            yield from ((cid, data) for cid, data in zip(some, found, strict=True) if data is not None)

    def _read_one(self, nodes: Nodes, cid: Cid) -> bytes | None:
        try:
            [data] = nodes.read_nodes([cid])
        except ReadFailed as error:
            self._unread = error
            return None
        return data


class Withdrawable(Markable, Protocol):
    """What a withdrawal asks of a store."""

    async def keep_roots(self, without: Sequence[Cid] = ()) -> list[Cid]:
        """All pins, but for those that shares of `without` have."""
        ...

    async def walk(self, below: Below) -> list[bytes] | None:
        """`Below.step` with the nodes of this store, in a worker thread."""
        ...

    async def remove(self, names: Sequence[bytes], kept: NameSet, generation: int) -> bool:
        """Remove blocks that are not kept; False when the generation of roots is another by now."""
        ...


async def withdraw(store: Withdrawable, holds: Holds, since: Position, links: Links, roots: Sequence[Cid]) -> None:
    """Remove all below `roots` that nothing else keeps. May be cancelled; begun again it removes the rest.

    `since` is where the packs ended before anything was read. Raises CorruptStore when a node that is kept is damaged; ReadFailed
    when one cannot be read now (what lies below it could be what is to go), or one that is to go: then all leaves that were found
    have gone, and the nodes stay, to find the rest by.
    """
    below, marker = Below(links, roots, inline=True), Marker(links)

    async def mark() -> int:
        generation = holds.generation
        for root in [*await store.keep_roots(roots), *holds.roots()]:
            marker.add_root(root)
        await mark_all(store, holds, marker)
        return generation

    with holds.hold(since, ()):
        generation = await mark()

        async def remove(names: Sequence[bytes]) -> None:
            nonlocal generation
            while not await store.remove(names, marker.marked, generation):
                generation = await mark()

        while (leaves := await store.walk(below)) is not None:
            await remove(leaves)
        nodes = below.nodes[::-1]
        for start in range(0, len(nodes), STEP_NAMES):
            await remove(nodes[start : start + STEP_NAMES])
