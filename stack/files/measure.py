"""How much of a tree is chosen, before any file of it is fetched: so that a total, and a time left, are those of what comes.

An entry whose root is in its own CID tells what it is. Any other does so by its first block alone, which of a small file is all of it:
what was looked at does not come again.
"""

from collections.abc import Sequence
from functools import partial

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.dag.unixfs.directory import Entry
from stack.dag.unixfs.reader import Shard, UnixFSNode, decode_node, list_node
from stack.files.chosen import Chosen
from stack.files.gather import EARLY_BYTES, Want
from stack.files.inline import inline_node
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
    """Bytes of all files below `root` that are chosen; None for a tree with too many entries, or with some that nobody has.

    Raises what the session raises, and DecodeError.
    """
    total = seen = 0
    room = EARLY_BYTES
    unread: list[tuple[Cid, tuple[str, ...], Shard | None]] = [(root.cid, (), None)]
    while unread:
        cid, below, shard = unread.pop()
        block = (await work.gatherer.nodes([cid], work.patience)).get(cid.multihash)
        if block is None:
            return None
        entries, more = await take_apart(len(block), list_node, await read_node(cid, block), shard)
        seen += 1 + len(entries)
        if seen > ENTRIES_MAX:
            return None
        unread += [(each.cid, below, each) for each in more]
        others: list[Entry] = []
        for entry in entries:
            place = (*below, entry.name)
            matches = chosen.matches(place)
            if entry.cid.codec == RAW:
                total += entry.dag_size if matches else 0
            elif (inline := inline_node(entry.cid)) is not None:
                if not inline.is_directory:
                    total += inline.file_size if matches else 0
                elif not chosen.excludes(place, is_directory=True):
                    unread.append((entry.cid, place, None))
            elif matches and room < entry.dag_size <= BLOCK_SIZE_MAX:
                total += entry.dag_size  # some bytes more than its files have, and it comes once
            elif chosen.may_hold(place):
                others.append(entry)
                room -= entry.dag_size if matches and entry.dag_size <= BLOCK_SIZE_MAX else 0
        for start in range(0, len(others), BATCH_NODES):
            batch = others[start : start + BATCH_NODES]
            looked = await _look_at(work, batch)
            if looked is None:
                return None
            sizes, leaves = looked
            for entry in batch:
                place, multihash = (*below, entry.name), entry.cid.multihash
                size = sizes[multihash]
                if size is None:
                    if not chosen.excludes(place, is_directory=True):
                        unread.append((entry.cid, place, None))
                elif chosen.matches(place):
                    total += size
                    if multihash in leaves:
                        work.gatherer.keep_early(multihash, leaves[multihash])
                else:
                    work.no_directories.add(multihash)
    return total


async def _look_at(work: Work, entries: Sequence[Entry]) -> tuple[dict[bytes, int | None], dict[bytes, bytes]] | None:
    """Of each file how large it is, of a directory None, of anything else 0; and the blocks of small files that peers sent. None when
    nobody has one of them."""
    sizes: dict[bytes, int | None] = {}
    kept: dict[bytes, tuple[Cid, bytes]] = {}
    leaves: dict[bytes, bytes] = {}

    def receive(cid: Cid, block: Buffer) -> None:
        data = bytes(block)
        node = decode_node(cid, data)
        sizes[cid.multihash] = None if node.is_directory else node.file_size if node.is_file else 0
        if node.is_file and not node.links:
            leaves[cid.multihash] = data
        elif len(data) <= NODE_KEPT_MAX:
            kept[cid.multihash] = cid, data

    brought: set[bytes] = set()

    async def keep(sent: set[bytes]) -> None:
        brought.update(sent)
        await work.store.put([kept.pop(multihash) for multihash in list(kept) if multihash in sent])

    wanted = {entry.cid.multihash: entry.cid for entry in entries}
    if await work.gatherer.gather([Want(cid, partial(receive, cid)) for cid in wanted.values()], keep, work.patience):
        return None
    return sizes, {multihash: leaves[multihash] for multihash in brought if multihash in leaves}
