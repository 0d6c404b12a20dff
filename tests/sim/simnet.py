"""Many peers on one simulated clock: latency, bandwidth, loss. Seeded, so that a run can be repeated.

Time jumps to the next thing that happens and stands still when nothing is left to happen. Shape after quinn-proto's test
pair and boxo's testnet.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Generic, TypeVar, TypeVarTuple

Peer = TypeVar("Peer", bound=Hashable)
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction between two peers."""

    latency: float = 0.01
    """Seconds from the last byte sent to the first byte received."""
    bandwidth: float | None = None
    """Bytes a second of this link alone; None is no bound beside those of the two ends."""
    loss: float = 0.0
    """The part of messages that are lost. On a reliable link each loss costs a round trip, on another the message."""
    reliable: bool = True
    """Everything arrives, in order, as on a stream."""


@dataclass(slots=True)
class _Node:
    receive: Callable[[object, object], None]
    upload: float | None
    download: float | None
    upload_free: float = 0.0
    download_free: float = 0.0
    waiting: list[tuple[object, object]] | None = None


class SimNet(Generic[Peer]):
    """Commands: `add`, `remove`, `link`, `partition`, `send`, `call_at`, `call_later`, `freeze`, `thaw`. Getters: `now`,
    `line_free`. `run` lets time pass. `tap`, when set, is told of every message as it is sent, lost ones too."""

    def __init__(self, seed: int = 0, *, default: Link | None = None) -> None:
        self.now = 0.0
        self.tap: Callable[[float, Peer, Peer, object], None] | None = None
        self.random = Random(seed)
        self._default = default if default is not None else Link()
        self._nodes: dict[Peer, _Node] = {}
        self._links: dict[tuple[Peer, Peer], Link] = {}
        self._link_free: dict[tuple[Peer, Peer], float] = {}
        self._last_arrival: dict[tuple[Peer, Peer], float] = {}
        self._sides: dict[Peer, int] | None = None
        # A message is one tuple here, not a closure: that is a third of what a message costs.
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self.bytes_sent: dict[Peer, int] = {}
        """What each peer has put on the wire."""

    def __repr__(self) -> str:
        return f"<SimNet at {self.now:.3f} s, {len(self._nodes)} peers>"

    def add(
        self,
        peer: Peer,
        receive: Callable[[object, object], None],
        *,
        upload: float | None = None,
        download: float | None = None,
    ) -> None:
        """A peer; `receive(sender, message)` is called for what arrives. Its lines carry so many bytes a second."""
        self._nodes[peer] = _Node(receive, upload, download)
        self.bytes_sent[peer] = 0

    def remove(self, peer: Peer) -> None:
        """It is gone: what is under way to it is lost."""
        del self._nodes[peer]

    def link(self, sender: Peer, receiver: Peer, link: Link, *, both: bool = True) -> None:
        """How bytes travel between these two; pairs that are not named have the default link."""
        self._links[sender, receiver] = link
        if both:
            self._links[receiver, sender] = link

    def partition(self, sides: dict[Peer, int] | None) -> None:
        """Peers of different sides do not reach each other, and what they send is lost; None: all do again. Who is not
        named is on a side with all others that are not."""
        self._sides = sides

    def send(self, sender: Peer, receiver: Peer, message: object, size: int) -> None:
        """A message of `size` bytes; it takes its time on both ends' lines and on the link between them."""
        here, there = self._nodes.get(sender), self._nodes.get(receiver)
        if here is None or there is None:
            return
        self.bytes_sent[sender] += size
        if self.tap is not None:
            self.tap(self.now, sender, receiver, message)
        sides = self._sides
        if sides is not None and sides.get(sender) != sides.get(receiver):
            return
        pair = (sender, receiver)
        link = self._links.get(pair, self._default)
        arrival = self.now
        if here.upload is not None:
            arrival = here.upload_free = max(arrival, here.upload_free) + size / here.upload
        if link.bandwidth is not None:
            arrival = self._link_free[pair] = max(arrival, self._link_free.get(pair, 0.0)) + size / link.bandwidth
        arrival += link.latency
        while link.loss and self.random.random() < link.loss:
            if not link.reliable:
                return
            arrival += 2 * link.latency
        if there.download is not None:
            arrival = there.download_free = max(arrival, there.download_free) + size / there.download
        if link.reliable:
            last = self._last_arrival.get(pair, 0.0)
            if last > arrival:
                arrival = last
            self._last_arrival[pair] = arrival
        self._count += 1
        heappush(self._agenda, (arrival, self._count, self._arrive, (sender, receiver, message)))

    def line_free(self, peer: Peer) -> float:
        """When all that this peer has sent will have left it."""
        node = self._nodes.get(peer)
        return self.now if node is None else max(self.now, node.upload_free)

    def call_at(self, when: float, callback: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Call back at this time; what is set for the same time happens in the order it was set."""
        self._count += 1
        heappush(self._agenda, (max(when, self.now), self._count, callback, arguments))

    def call_later(self, seconds: float, callback: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        """Call back after so many seconds."""
        self.call_at(self.now + seconds, callback, *arguments)

    def freeze(self, peer: Peer) -> None:
        """The peer stops taking anything in (SIGSTOP); what arrives waits."""
        self._nodes[peer].waiting = []

    def thaw(self, peer: Peer) -> None:
        """It goes on, with all that has come meanwhile."""
        node = self._nodes[peer]
        waiting, node.waiting = node.waiting or [], None
        for sender, message in waiting:
            node.receive(sender, message)

    def run(self, until: Callable[[], bool] | None = None, *, seconds: float = 3600.0) -> bool:
        """Let time pass until the condition holds, nothing is left to happen, or so many seconds are over.

        Returns whether the condition holds (True without one).
        """
        deadline = self.now + seconds
        while until is None or not until():
            if not self._agenda or self._agenda[0][0] > deadline:
                self.now = deadline if self._agenda else self.now
                return until is None
            self.now, _, callback, arguments = heappop(self._agenda)
            callback(*arguments)
        return True

    def _arrive(self, sender: Peer, receiver: Peer, message: object) -> None:
        node = self._nodes.get(receiver)
        if node is None:
            return
        if node.waiting is not None:
            node.waiting.append((sender, message))
        else:
            node.receive(sender, message)
