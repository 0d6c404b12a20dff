"""The one way in which DAGs are walked. Pure: the owner of a walk reads the blocks.

A block is known by its multihash, and what it refers to by the codec it is named with: the bytes of a node may be a raw leaf of
somebody else's file. So a block is met once, and opened once with each codec that has links.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from stack.blocks.names import NameSet
from stack.dag import CODECS
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY

Links = Callable[[Cid, bytes], Sequence[Cid]]
"""The CIDs that a block refers to. Raises DecodeError."""


_RAW_SHA2_256 = b"\x01\x55\x12\x20"
"""How the CIDs of nearly all leaves begin; to know them by it takes 1 of the 5 us that a link costs."""


class Visit(NamedTuple):
    """A block whose turn it is."""

    cid: Cid
    first: bool
    """It was not met before, under whatever codec."""
    opens: bool
    """Its links are wanted: `Walk.receive`."""


class Walk:
    """Depth first, parents before children, in the order of the links. Blocks that are in their own name are not given out.

    Commands: `add`. Outputs: `next_batch`, `coming`. Facts: `receive`. Getters: `met`, `waiting`.
    """

    def __init__(self, links: Links, *, leaves: bool = True) -> None:
        """Without `leaves`, blocks whose codec has no links are met as soon as they are named, and not given out."""
        self.met = NameSet()
        """The multihashes of all blocks that were given out."""
        self._links = links
        self._leaves = leaves
        self._opened = NameSet()
        self._waiting: list[Cid] = []
        self._broken: DecodeError | None = None
        """Of a block in its own name that was met behind others of its batch."""

    @property
    def waiting(self) -> int:
        """Links that wait for their turn, equal ones counted each time."""
        return len(self._waiting)

    def add(self, *cids: Cid) -> None:
        """Walk from here too, before all that waits."""
        if not self._leaves:
            nodes: list[Cid] = []
            self.met.update(_names_of_leaves(cids, nodes))
            self._waiting += reversed(dict.fromkeys(nodes))
        else:
            self._waiting += reversed(dict.fromkeys(cids))

    def next_batch(self, limit: int) -> list[Visit]:
        """Whose turn it is; none when the walk has ended. Those that open must be received before the next batch.

        Raises DecodeError for a block in its own name that is not what its codec says.
        """
        if self._broken is not None:
            error, self._broken = self._broken, None
            raise error
        batch: list[Visit] = []
        while self._waiting and len(batch) < limit:
            cid = self._waiting.pop()
            opens = cid.codec in CODECS and self._opened.add(_opening(cid))
            if cid.hash_code == IDENTITY:
                if opens:
                    try:
                        self.receive(cid, cid.digest)
                    except DecodeError as error:
                        if not batch:
                            raise
                        self._broken = error  # the visits before it must not get lost
                        break
                continue
            first = self.met.add(cid.multihash)
            if first or opens:
                batch.append(Visit(cid, first, opens))
        return batch

    def coming(self, limit: int) -> list[Cid]:
        """Blocks that will be needed soon, as far as is known by now."""
        coming: list[Cid] = []
        for cid in self._waiting[: -limit - 1 : -1]:
            if cid.hash_code != IDENTITY:
                coming.append(cid)
            elif cid.codec in CODECS:
                with suppress(DecodeError):
                    coming += [below for below in self._links(cid, cid.digest) if below.hash_code != IDENTITY]
        return [
            cid
            for cid in coming
            if cid.multihash not in self.met or (cid.codec in CODECS and _opening(cid) not in self._opened)
        ]

    def receive(self, cid: Cid, data: bytes) -> None:
        """The block of a visit that opens. Raises DecodeError."""
        self.add(*self._links(cid, data))


def _names_of_leaves(cids: Iterable[Cid], nodes: list[Cid]) -> list[bytes]:
    """The multihashes of blocks whose codec has no links; the others go to `nodes`."""
    names: list[bytes] = []
    for cid in cids:
        data = bytes(cid)
        if data.startswith(_RAW_SHA2_256):
            names.append(data[2:])
        elif cid.codec in CODECS:
            nodes.append(cid)
        elif cid.hash_code != IDENTITY:
            names.append(cid.multihash)
    return names


def _opening(cid: Cid) -> bytes:
    return b"%d %b" % (cid.codec, cid.multihash)
