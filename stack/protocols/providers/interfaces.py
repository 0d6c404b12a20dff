"""What the providers protocol asks of whoever knows what is shared and fetched here, and what it tells to whoever fetches."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.providers.ranges import LeafRanges

KEY_BYTES = 16
KEY_DOMAIN = b"stack/announce/1"


def announce_key(multihash: bytes) -> bytes:
    """What stands for a root on the wire: who does not know the root learns nothing from it."""
    return hashlib.sha256(KEY_DOMAIN + multihash).digest()[:KEY_BYTES]


MayKnow = Callable[[Cid, PeerId], bool]
"""Whether a peer may hear that a root is shared or fetched here."""


class RangeSource(Protocol):
    """Local knowledge, asked on the event loop; must not block."""

    def root_of(self, key: bytes) -> Cid | None:
        """The root with this announce key, if it is shared or being fetched here."""
        ...

    def name(self, root: Cid) -> str:
        """What it is called here; empty when nobody has said."""
        ...

    def ranges(self, root: Cid) -> LeafRanges | None:
        """Which leaves of it are here; None when it is neither shared nor fetched, or has no leaves."""
        ...

    def is_finished(self, root: Cid) -> bool:
        """Whether all is here that was wanted of it, though that is not all of it."""
        ...


class RangeBook:
    """A RangeSource that is told: for each root shared or fetched, its leaves. Change it, and the ranges it gives, only on
    the event loop.

    Commands: `add`, `remove`, `begin`, `finish`. Getters: `root_of`, `ranges`, `is_finished`, `len`.
    """

    def __init__(self) -> None:
        self._roots: dict[bytes, tuple[Cid, LeafRanges]] = {}
        self._names: dict[Cid, str] = {}
        self._finished: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._roots)

    def add(self, root: Cid, ranges: LeafRanges, name: str = "") -> None:
        """Share or fetch a root; `ranges` may grow while it stands here, and replaces what stood here before. A `name` that was
        told stays until it is removed."""
        self._roots[announce_key(root.multihash)] = (root, ranges)
        if name:
            self._names[root] = name

    def remove(self, root: Cid) -> None:
        """It is no longer shared or fetched."""
        self._roots.pop(announce_key(root.multihash), None)
        self._names.pop(root, None)

    def begin(self, root: Cid) -> None:
        """Something of it is wanted."""
        self._finished.discard(announce_key(root.multihash))

    def finish(self, root: Cid) -> None:
        """All that was wanted of it is here, which is not all of it: whoever shares it once waits for that word."""
        self._finished.add(announce_key(root.multihash))

    def is_finished(self, root: Cid) -> bool:
        """See RangeSource."""
        return announce_key(root.multihash) in self._finished

    def name(self, root: Cid) -> str:
        """See RangeSource."""
        return self._names.get(root, "")

    def root_of(self, key: bytes) -> Cid | None:
        """See RangeSource."""
        entry = self._roots.get(key)
        return entry[0] if entry is not None else None

    def ranges(self, root: Cid) -> LeafRanges | None:
        """See RangeSource."""
        entry = self._roots.get(announce_key(root.multihash))
        return entry[1] if entry is not None else None


class SwarmListener(Protocol):
    """Told of the other peers of a root, synchronously, on the event loop."""

    def peer_found(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        """Somebody who shares or fetches the root, by a peer record it has signed."""
        ...

    def peer_ranges(self, peer: PeerId, ranges: LeafRanges | None, *, hearsay: bool) -> None:
        """Which leaves it says it has, after each change; None says only that it has all. By `hearsay` another peer says so of it."""
        ...
