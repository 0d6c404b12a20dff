"""One call that waits for blocks, between the worker thread that hands them over and the session it belongs to."""

from collections.abc import Iterable
from typing import Protocol

import anyio

from stack.bitswap.interfaces import BlockSink
from stack.bitswap.wants import SessionId
from stack.multiformats.cid import Cid


class CallOwner(Protocol):
    """The session."""

    @property
    def id(self) -> SessionId: ...

    def put_later(self, call: "FetchCall | None", cid: Cid, data: bytes) -> None: ...
    def fail(self, error: Exception) -> None: ...


class FetchCall:
    """A `fetch` that waits. Implements `Call`."""

    __slots__ = ("_copies", "_fault", "_owner", "_sink", "_taken", "done", "ended", "missing")

    def __init__(self, owner: CallOwner, cids: Iterable[Cid], sink: BlockSink | None) -> None:
        self.missing = {cid.multihash for cid in cids}
        self.done = anyio.Event()
        self.ended = False
        """It waits no longer. A sink that is at work then may still finish; none is called after that."""
        self._owner = owner
        self._sink = sink
        self._copies: dict[bytes, bytes] = {}
        """Blocks for the store, from the worker thread."""
        self._taken: set[bytes] = set()
        """The worker thread's: a second copy may come to it before the loop has heard of the first one."""
        self._fault: Exception | None = None
        """What the sink raised: the same for each copy, since the loop may hear of the second one first."""

    @property
    def session(self) -> SessionId:
        """See Call."""
        return self._owner.id

    @property
    def keeps(self) -> bool:
        """See Call."""
        return self._sink is None

    def take(self, cid: Cid, data: memoryview) -> None:
        """See Call."""
        if self.ended:
            return
        if self._fault is not None:
            raise self._fault
        if cid.multihash in self._taken:
            return
        self._taken.add(cid.multihash)
        if self._sink is None:
            self._copies[cid.multihash] = bytes(data)
        else:
            try:
                self._sink(cid, data)
            except Exception as error:
                self._fault = error
                raise

    def handed_over(self, cid: Cid) -> None:
        """See Call."""
        if self._sink is None:
            self._owner.put_later(self, cid, self._copies.pop(cid.multihash))
        else:
            self.arrived(cid.multihash)

    def failed(self, error: Exception) -> None:
        """See Call."""
        self._owner.fail(error)

    def arrived(self, multihash: bytes) -> None:
        """A block is where it belongs."""
        self.missing.discard(multihash)
        if not self.missing:
            self.done.set()
