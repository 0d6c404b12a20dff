"""How much of a tree is chosen, before any file of it is fetched: so that a total, and a time left, are those of what comes."""

from collections.abc import Sequence
from functools import partial

from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import Shard, UnixFSNode, decode_node, list_node
from stack.files.chosen import Chosen
from stack.files.gather import Want
from stack.files.nodes import read_node, take_apart
from stack.files.work import Work
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.sansio.interfaces import Buffer

ENTRIES_MAX = 20_000
"""Looked at beforehand: some seconds. A larger tree, or one that lists itself again and again, is measured while it is fetched."""

BATCH_NODES = 64
"""First blocks of files and directories asked for together."""

NODE_KEPT_MAX = 64 * 1024
"""A first block up to this size stays in the store until the fetch comes to it; a larger one comes twice."""


async def chosen_size(work: Work, root: UnixFSNode, chosen: Chosen) -> int | None:
    """Bytes of all files below `root` that are chosen; None for a tree with too many entries.

    Raises what the session raises, and DecodeError.
    """
    total = seen = 0
    unread: list[tuple[Cid, tuple[str, ...], Shard | None]] = [(root.cid, (), None)]
    while unread:
        cid, below, shard = unread.pop()
        block = await work.gatherer.node(cid)
        entries, more = await take_apart(len(block), list_node, await read_node(cid, block), shard)
        seen += 1 + len(entries)
        if seen > ENTRIES_MAX:
            return None
        unread += [(each.cid, below, each) for each in more]
        total += sum(each.dag_size for each in entries if each.cid.codec == RAW and chosen.matches((*below, each.name)))
        others = [each for each in entries if each.cid.codec != RAW and chosen.may_hold((*below, each.name))]
        for start in range(0, len(others), BATCH_NODES):
            batch = others[start : start + BATCH_NODES]
            sizes = await _file_sizes(work, batch)
            for entry in batch:
                place, size = (*below, entry.name), sizes[entry.cid.multihash]
                if size is None and not chosen.excludes(place, is_directory=True):
                    unread.append((entry.cid, place, None))
                elif size and chosen.matches(place):
                    total += size
    return total


async def _file_sizes(work: Work, entries: Sequence[Entry]) -> dict[bytes, int | None]:
    """Of each file how large it is, of a directory None, of anything else 0."""
    sizes: dict[bytes, int | None] = {}
    kept: dict[bytes, tuple[Cid, bytes]] = {}

    def receive(cid: Cid, block: Buffer) -> None:
        data = bytes(block)
        node = decode_node(cid, data)
        sizes[cid.multihash] = None if node.is_directory else node.file_size if node.is_file else 0
        if len(data) <= NODE_KEPT_MAX and (node.links or not node.is_file):
            kept[cid.multihash] = cid, data

    wanted = {entry.cid.multihash: entry.cid for entry in entries}
    sent = await work.gatherer.fetch([Want(cid, partial(receive, cid)) for cid in wanted.values()])
    await work.store.put([kept[multihash] for multihash in sent if multihash in kept])
    return sizes
