"""What a content takes of the disk: leaves of zeros stay holes, and a disk image may be little else.

A root says how large a file is. How much of it is zeros is told by the nodes above the leaves: what has only zeros has a
hash that is known. They are read before the fetch where the whole would not fit, those that stand for most of it first.
"""

import heapq
from collections import Counter
from pathlib import Path

import anyio.to_thread

from stack.dag.unixfs.reader import FilePart, UnixFSNode, children, decode_node, decode_part
from stack.files.gather import Gatherer
from stack.files.parts import is_certainly_node, is_hole
from stack.files.target import check_space, free_beside
from stack.files.work import Work
from stack.multiformats.multicodec import RAW
from stack.values import dataclass

NODES_MAX = 1_000
"""Read at the most; they stand for 1 TiB in the usual layout, for 40 GiB in Kubo's. What lies below others counts in full."""

NODES_TOGETHER = 16
"""Asked for at once."""


@dataclass(frozen=True, slots=True)
class _Branch:
    """A node that has not been read, and how often it occurs."""

    part: FilePart
    times: int
    of_file: bool


class Estimate:
    """How much is to be written of a content. Pure: `open` and `replace` take nodes, `next` says which to read.

    Getters: `most`, which only gets smaller, and `least`, which only gets larger.
    """

    def __init__(self, root: UnixFSNode, claimed: int) -> None:
        """`claimed` is how large the root says that it is, all told."""
        self.most = claimed
        self.least = 0
        self._waiting: list[tuple[int, int, _Branch]] = []
        self._serial = 0
        self._open(root, 1, 0)

    def next(self, count: int) -> list[_Branch]:
        """The largest that are not read yet; each is to be given to `replace`."""
        return [heapq.heappop(self._waiting)[2] for _ in range(min(count, len(self._waiting)))]

    def replace(self, branch: _Branch, block: bytes) -> None:
        """What a node is. Raises DecodeError."""
        part, times = branch.part, branch.times
        node = decode_part(part, block) if branch.of_file else decode_node(part.cid, block)
        size = node.file_size if node.is_file else sum(link.size or 0 for link in node.links)
        self.most -= max(part.size - size, 0) * times
        self._open(node, times, part.depth)

    def _open(self, node: UnixFSNode, times: int, depth: int) -> None:
        if node.is_file:
            self.least += len(node.payload) * times
            parts = children(node, depth=depth)
        else:
            parts = [FilePart(link.cid, 0, link.size, depth + 1) for link in node.links if link.size]
        usual = max(Counter(part.size for part in parts).items(), key=lambda item: item[1], default=(0, 0))[0]
        for (cid, size), count in Counter((part.cid, part.size) for part in parts).items():
            part = FilePart(cid, 0, size, depth + 1)
            # All leaves but the last have one size: zeros of that are hashed, not of each size that somebody thinks of.
            if node.is_file and size == usual and is_hole(part):
                self.most -= size * count * times
            elif cid.codec == RAW or (node.is_file and not is_certainly_node(part)):
                self.least += size * count * times
            else:
                self._serial += 1
                branch = _Branch(part, count * times, node.is_file)
                heapq.heappush(self._waiting, (-size * count * times, self._serial, branch))


async def check_room(work: Work, root: UnixFSNode, claimed: int, target: Path, there: int, *, is_part: bool) -> None:
    """Raises NoSpace when what is below `root`, `claimed` bytes, does not fit beside `target`, where `there` are already. Of what
    is wanted in part that is not known yet. Raises StoreError, DecodeError, and what the session raises."""
    free = there + await anyio.to_thread.run_sync(free_beside, target)
    work.leaves_holes = claimed > free
    if work.leaves_holes and not is_part:
        needed = await bytes_to_write(work.gatherer, root, claimed, free, work.patience)
        await anyio.to_thread.run_sync(check_space, target, max(needed - there, 0))


async def to_write(work: Work, node: UnixFSNode) -> int:
    """What a file takes of the disk; its holes are looked for only where there is little room."""
    if node.links and work.leaves_holes:
        return await bytes_to_write(work.gatherer, node, node.file_size, patience=work.patience)
    return node.file_size


async def bytes_to_write(
    gatherer: Gatherer, root: UnixFSNode, claimed: int, free: int | None = None, patience: float | None = None
) -> int:
    """At the most so many of the `claimed` bytes below `root` are to be written.

    Nodes are read for as long as it is not known whether that is more than `free`, or, without it, for as long as the figure
    gets smaller; with `patience` without those that nobody has. Raises DecodeError, and what the session raises.
    """
    estimate = await anyio.to_thread.run_sync(Estimate, root, claimed)
    for _ in range(0, NODES_MAX, NODES_TOGETHER):
        if free is not None and (estimate.most <= free or estimate.least > free):
            break
        branches = estimate.next(NODES_TOGETHER)
        if not branches:
            break
        blocks = await gatherer.nodes([branch.part.cid for branch in branches], patience)
        await anyio.to_thread.run_sync(_replace, estimate, branches, blocks)
    return estimate.most


def _replace(estimate: Estimate, branches: list[_Branch], blocks: dict[bytes, bytes]) -> None:
    for branch in branches:
        if branch.part.cid.multihash in blocks:
            estimate.replace(branch, blocks[branch.part.cid.multihash])
