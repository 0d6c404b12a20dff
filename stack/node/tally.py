"""To which shares a block belongs, and who has been sent all of one. Pure.

A block belongs to a share when it lies in a file that is shared, or in a folder that is: one look for the file and one for each
folder above it, whatever the number of shares.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid

BLOCKS_REMEMBERED_MAX = 1 << 18
"""Blocks remembered of all receivers that do not say what they have: 64 GiB in leaves of 256 KiB, some 30 MiB of memory."""

Block = tuple[Cid, PeerId, bytes]
"""The share, the receiver and the multihash of a block that was sent."""


class Shared:
    """What is shared from where. Never changed, only replaced, so that a worker thread may read it."""

    __slots__ = ("places", "roots")

    def __init__(self, shares: Sequence[tuple[Cid, Sequence[Path]]]) -> None:
        self.roots: Mapping[Cid, Sequence[Path]] = dict(shares)
        places: dict[Path, list[Cid]] = {}
        for root, paths in self.roots.items():
            for path in dict.fromkeys(paths):
                places.setdefault(path, []).append(root)
        self.places: Mapping[Path, Sequence[Cid]] = places

    def changed(self, changes: Mapping[Cid, Sequence[Path] | None]) -> "Shared":
        """The same with other places for some roots; None takes one out. What is not among them is not looked at: a home may have
        thousands of shares, and each new one comes here."""
        new = Shared(())
        roots, places = dict(self.roots), dict(self.places)
        for root, paths in changes.items():
            for path in dict.fromkeys(roots.pop(root, ())):
                places[path] = [other for other in places[path] if other != root]
                if not places[path]:
                    del places[path]
            if paths is not None:
                roots[root] = paths
                for path in dict.fromkeys(paths):
                    places[path] = [*places.get(path, ()), root]
        new.roots, new.places = roots, places
        return new

    def roots_of(self, path: Path) -> list[Cid]:
        """The shares that a file belongs to."""
        return [root for place in (path, *path.parents) for root in self.places.get(place, ())]


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path is that folder, or lies in it."""
    return path == folder or str(path).startswith(f"{str(folder).rstrip('/')}/")


def sum_up(
    sent: Mapping[tuple[PeerId, Cid], int], files: Mapping[Cid, Sequence[Path]], shared: Shared
) -> tuple[Counter[tuple[Cid, PeerId]], list[Block]]:
    """Bytes for each share and receiver, and the blocks they were; `files` tells where each block lies. A root counts for itself,
    wherever it lies, but only among the blocks."""
    folders: dict[Path, list[Cid]] = {}
    counts: Counter[tuple[Cid, PeerId]] = Counter()
    blocks: list[Block] = []
    for (peer, cid), amount in sent.items():
        roots: dict[Cid, None] = {}
        for path in files.get(cid, ()):
            folder = path.parent
            if folder not in folders:  # looked up once for all that lies in it
                folders[folder] = shared.roots_of(folder)
            roots.update(dict.fromkeys(shared.places.get(path, ())))
            roots.update(dict.fromkeys(folders[folder]))
        for root in roots:
            counts[root, peer] += amount
        if cid in shared.roots:
            roots[cid] = None
        blocks += [(root, peer, cid.multihash) for root in roots]
    return counts, blocks


class Received:
    """Different blocks that each receiver has been sent of each share, since the node began. Who was counted longest ago goes first.

    Commands: `add`, `forget`. Getter: `count`.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[Cid, PeerId], set[bytes]] = OrderedDict()
        self._total = 0

    def add(self, blocks: Sequence[Block]) -> list[tuple[Cid, PeerId]]:
        """Blocks were sent; one that was sent before counts no more. Returns the shares and receivers they were for."""
        touched: dict[tuple[Cid, PeerId], None] = {}
        for root, peer, multihash in blocks:
            key = (root, peer)
            touched[key] = None
            known = self._blocks.setdefault(key, set())
            self._total += multihash not in known
            known.add(multihash)
        for key in touched:
            self._blocks.move_to_end(key)
        while self._total > BLOCKS_REMEMBERED_MAX:
            self._total -= len(self._blocks.popitem(last=False)[1])
        return list(touched)

    def forget(self, root: Cid, peer: PeerId) -> None:
        """It has all of it: from here on it counts anew."""
        self._total -= len(self._blocks.pop((root, peer), ()))

    def count(self, root: Cid, peer: PeerId) -> int:
        """How many different ones."""
        return len(self._blocks.get((root, peer), ()))
