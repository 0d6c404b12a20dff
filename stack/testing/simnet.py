"""Many peers on one simulated clock: latency, bandwidth, loss. Seeded, so that a run can be repeated.

Time jumps to the next thing that happens and stands still when nothing is left to happen. Shape after quinn-proto's test
pair and boxo's testnet.
"""

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

Peer = TypeVar("Peer", bound=Hashable)


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
    """Commands: `add`, `remove`, `link`, `send`, `call_at`, `call_later`, `freeze`, `thaw`. Getters: `now`, `line_free`.
    `run` lets time pass."""

    def __init__(self, seed: int = 0, *, default: Link | None = None) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self._default = default if default is not None else Link()
        self._nodes: dict[Peer, _Node] = {}
        self._links: dict[tuple[Peer, Peer], Link] = {}
        self._link_free: dict[tuple[Peer, Peer], float] = {}
        self._last_arrival: dict[tuple[Peer, Peer], float] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
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

    def send(self, sender: Peer, receiver: Peer, message: object, size: int) -> None:
        """A message of `size` bytes; it takes its time on both ends' lines and on the link between them."""
        here, there = self._nodes.get(sender), self._nodes.get(receiver)
        if here is None or there is None:
            return
        self.bytes_sent[sender] += size
        pair = (sender, receiver)
        link = self._links.get(pair, self._default)
        here.upload_free = max(self.now, here.upload_free) + _seconds(size, here.upload)
        passed = max(here.upload_free, self._link_free.get(pair, 0.0)) + _seconds(size, link.bandwidth)
        self._link_free[pair] = passed
        arrival = passed + link.latency
        while link.loss and self.random.random() < link.loss:
            if not link.reliable:
                return
            arrival += 2 * link.latency
        arrival = max(arrival, there.download_free) + _seconds(size, there.download)
        there.download_free = arrival if there.download is not None else 0.0
        if link.reliable:
            arrival = max(arrival, self._last_arrival.get(pair, 0.0))
            self._last_arrival[pair] = arrival
        self.call_at(arrival, lambda: self._arrive(sender, receiver, message))

    def line_free(self, peer: Peer) -> float:
        """When all that this peer has sent will have left it."""
        node = self._nodes.get(peer)
        return self.now if node is None else max(self.now, node.upload_free)

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back at this time; what is set for the same time happens in the order it was set."""
        self._count += 1
        heapq.heappush(self._agenda, (max(when, self.now), self._count, callback))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after so many seconds."""
        self.call_at(self.now + seconds, callback)

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
            self.now, _, callback = heapq.heappop(self._agenda)
            callback()
        return True

    def _arrive(self, sender: Peer, receiver: Peer, message: object) -> None:
        node = self._nodes.get(receiver)
        if node is None:
            return
        if node.waiting is not None:
            node.waiting.append((sender, message))
        else:
            node.receive(sender, message)


def _seconds(size: int, rate: float | None) -> float:
    return 0.0 if rate is None else size / rate
