"""What waits to be written to one peer: bounded, and in what order and at whose cost. Policy as go-libp2p-pubsub's queue:
what changes meshes and subscriptions is kept, gossip goes first.
"""

from collections import deque
from enum import Enum

from stack.gossipsub.messages import Rpc

KIB = 1024
MIB = 1024 * 1024

WAITING_BYTES_MAX = 4 * MIB
"""Messages and gossip waiting for one peer: a second at 4 MB/s, and four messages of the largest size."""
GOSSIP_BYTES_MAX = MIB
"""Gossip is not added when more than this waits: who is that far behind cannot use it."""
CONTROL_BYTES_MAX = 512 * KIB
"""Control waiting for one peer. What needs an answer is bounded for each heartbeat, so only who reads nothing gets there."""
BATCH_BYTES = 63 * KIB
"""Written at once: nearly one frame of Noise."""


class Kind(Enum):
    """What an RPC carries, by what its loss would cost."""

    CONTROL = "control"
    """Subscriptions, GRAFT, PRUNE: without them both ends disagree for good."""
    URGENT = "urgent"
    """IDONTWANT: soon or never."""
    MESSAGE = "message"
    GOSSIP = "gossip"
    """IHAVE, IWANT: comes again."""


def kind_of(rpc: Rpc) -> Kind:
    """The kind of one of our own RPCs; ours never mix kinds."""
    if rpc.publish:
        return Kind.MESSAGE
    control = rpc.control
    if control is None or control.graft or control.prune:
        return Kind.CONTROL
    return Kind.URGENT if control.idontwant else Kind.GOSSIP


class Outbox:
    """Commands: `push`, `take`. Getters: `size`, `overflown`, truth."""

    __slots__ = ("_control", "_control_bytes", "_waiting", "overflown", "size")

    def __init__(self) -> None:
        self._control: deque[bytes] = deque()
        self._waiting: deque[tuple[Kind, bytes]] = deque()
        self._control_bytes = 0
        self.size = 0
        """Bytes of messages and gossip that wait."""
        self.overflown = False
        """Control had to be dropped: the stream is of no more use."""

    def __bool__(self) -> bool:
        return bool(self._control or self._waiting)

    def push(self, kind: Kind, data: bytes) -> bool:
        """Add an encoded RPC; False when it, or gossip that waited, had to be dropped."""
        if kind is Kind.CONTROL or kind is Kind.URGENT:
            if self._control_bytes + len(data) > CONTROL_BYTES_MAX:
                self.overflown = self.overflown or kind is Kind.CONTROL
                return False
            self._control.append(data)
            self._control_bytes += len(data)
            return True
        whole = True
        if kind is Kind.MESSAGE and self.size + len(data) > WAITING_BYTES_MAX:
            whole = self._drop_gossip()
        if self.size + len(data) > (GOSSIP_BYTES_MAX if kind is Kind.GOSSIP else WAITING_BYTES_MAX):
            return False
        self._waiting.append((kind, data))
        self.size += len(data)
        return whole

    def take(self) -> bytes:
        """What is to be written next: control before everything else, about `BATCH_BYTES` at a time; empty: nothing."""
        batch: list[bytes] = []
        size = 0
        while self._control and size < BATCH_BYTES:
            data = self._control.popleft()
            self._control_bytes -= len(data)
            size += len(data)
            batch.append(data)
        while self._waiting and (not size or size + len(self._waiting[0][1]) <= BATCH_BYTES):
            data = self._waiting.popleft()[1]
            self.size -= len(data)
            size += len(data)
            batch.append(data)
        return batch[0] if len(batch) == 1 else b"".join(batch)

    def _drop_gossip(self) -> bool:
        """True when there was none."""
        kept = deque(item for item in self._waiting if item[0] is not Kind.GOSSIP)
        dropped = len(self._waiting) - len(kept)
        self._waiting = kept
        self.size = sum(len(data) for _, data in kept)
        return dropped == 0
