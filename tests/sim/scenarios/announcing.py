"""The announcement layer: how long look-ups take, and what it costs each node while nodes come and go."""

import gc
from collections import Counter
from dataclasses import dataclass
from statistics import median

from stack.announce.events import LookupId
from stack.announce.keyspace import announce_key, level_of
from stack.announce.params import AnnounceParams
from stack.gossipsub.messages import Rpc
from stack.multiformats.cid import Cid
from tests.announce.aged import make_aged
from tests.announce.network import Network, Node, root_of
from tests.sim.networks.trace import RunTrace
from tests.sim.scenarios.figures import quantile

LATENCY = 0.05
PATIENCE = 10.0
"""Seconds after which a look-up has failed."""
DIAL_TIMEOUT = 5.0
"""A node that is gone does not say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupsResult:
    """Figures of one run. Times in seconds."""

    nodes: int
    files: int
    seed: int
    aged: bool
    """The network was made as it is after a day; else it has grown from its first node on, some minutes ago."""
    left: int
    """Nodes that had left before the run and of which records were still kept (aged networks)."""
    measured: float
    """Seconds of churn in which look-ups were made and bytes counted."""
    changed: int
    """Nodes that left, each followed by one that came, in that time."""
    settled: tuple[float, ...]
    """How long each look-up by a node that had been there took; infinite when it failed."""
    fresh: tuple[float, ...]
    """The same by nodes that had just come, after the announcement; from their first connection on."""
    questions: tuple[int, ...]
    """How many times one after the other each look-up has asked until it had its answer: round trips without those of dials."""
    bytes_per_second: float
    """Sent by a node at the mean: gossip, requests and answers with 60 bytes each for their streams."""
    by_kind: tuple[tuple[str, float], ...]
    levels: tuple[tuple[int, int], ...]
    """How deep shards are, and of how many nodes, at the end."""
    authors: float
    """In a table, the median."""
    load: float
    """Of a table, the median: bytes of records and keys."""
    trace: str

    @property
    def all_times(self) -> list[float]:
        return [*self.settled, *self.fresh]

    @property
    def median_round_trips(self) -> float:
        return quantile(self.questions, 0.5)

    @property
    def p99(self) -> float:
        return quantile(self.all_times, 0.99)


class _Seeking:
    """One look-up. It ends with its answer, or when patience does."""

    def __init__(self, network: Network, seeker: Node, author: Node, root: Cid) -> None:
        self._seeker = seeker
        self._author = author
        self._key = announce_key(root.multihash)
        self._began = network.net.now
        self._lookup: LookupId = seeker.find(root)
        self.over = False
        self.gave_up = False
        """The seeker has left before it had its answer: nobody was waiting for that any more."""
        network.net.call_later(PATIENCE, self._end)

    @property
    def found_at(self) -> float | None:
        found = self._seeker.found.get(self._lookup, [])
        return next((at for at, record in found if record.author == self._author.id), None)

    @property
    def took(self) -> float:
        at = self.found_at
        return at - self._began if at is not None else float("inf")

    @property
    def questions(self) -> int:
        at = self.found_at
        asked = {each for each in self._seeker.asked.get(self._key, ()) if at is None or self._began <= each < at}
        return len(asked)

    def _end(self) -> None:
        self.over = True
        self.gave_up = self.found_at is None and not self._seeker.alive
        if self._seeker.alive:
            self._seeker.machine.stop(self._lookup)
            self._seeker.pump()


def lookups(
    *,
    nodes: int,
    seed: int,
    files: int = 100,
    change: float = 0.01,
    warm: float = 60.0,
    seconds: float = 300.0,
    each_second: float = 0.5,
    heartbeat: float = 5.0,
    aged: bool = False,
    params: AnnounceParams | None = None,
) -> LookupsResult:
    """`nodes` that share `files` each; then for `warm` seconds and for `seconds` more a part of them changes each minute. In the
    second of these spans look-ups are made: by nodes that are there, so many `each_second`, and one by each that comes."""
    network = Network(seed=seed, latency=LATENCY, params=params, heartbeat=heartbeat)
    network.dial_timeout = DIAL_TIMEOUT
    trace = RunTrace()

    def note(now: float, sender: int, receiver: int, message: object) -> None:
        assert isinstance(message, tuple)
        last = message[-1]
        data = network.codec.encode(last) if isinstance(last, Rpc) else last if isinstance(last, bytes) else b""
        trace.note(now, sender, receiver, message[0].encode() + data)

    network.net.tap = note
    left = 0
    if aged:
        # A million records that all stay: nothing is to be found among them.
        gc.disable()
        left = make_aged(network, nodes=nodes, files=files, change=change)
        gc.freeze()
        gc.enable()
    else:
        _grow(network, nodes, files)
    changed = 0
    measuring = False
    settled: list[_Seeking] = []
    fresh: list[_Seeking] = []

    def anybody() -> Node:
        return network.nodes[network.random.choice(list(network.nodes))]

    def sought(*, by: Node | None = None) -> tuple[Node, Cid]:
        while True:
            author = anybody()
            if author is not by and author.machine.items and not author.machine.waiting:
                return author, network.random.choice(author.machine.items).root

    def renew() -> None:
        nonlocal changed
        network.leave(network.random.choice(sorted(network.nodes)[2:]))
        changed += 1
        newcomer = join(network, files)
        if measuring:
            fresh.append(_Seeking(network, newcomer, *sought(by=newcomer)))
        network.net.call_later(network.random.expovariate(nodes * change / 60), renew)

    def seek() -> None:
        if measuring:
            seeker = anybody()
            settled.append(_Seeking(network, seeker, *sought(by=seeker)))
            network.net.call_later(network.random.expovariate(each_second), seek)

    network.net.call_later(network.random.expovariate(nodes * change / 60), renew)
    network.run(warm)
    before, changed_before = dict(network.bytes), changed
    measuring = True
    network.net.call_later(network.random.expovariate(each_second), seek)
    network.run(seconds)
    measuring = False
    spent = {kind: size - before.get(kind, 0) for kind, size in network.bytes.items()}
    changed -= changed_before
    every = [*settled, *fresh]
    network.net.run(lambda: all(each.over or each.found_at is not None for each in every), seconds=2 * PATIENCE)
    settled, fresh = ([each for each in kind if not each.gave_up] for kind in (settled, fresh))
    every = [*settled, *fresh]
    keeping = [node.machine for node in network.nodes.values() if node.machine.shard is not None]
    if aged:
        gc.unfreeze()
    return LookupsResult(
        nodes=nodes,
        files=files,
        seed=seed,
        aged=aged,
        left=left,
        measured=seconds,
        changed=changed,
        settled=tuple(each.took for each in settled),
        fresh=tuple(each.took for each in fresh),
        questions=tuple(each.questions for each in every),
        bytes_per_second=sum(spent.values()) / nodes / seconds,
        by_kind=tuple(sorted((kind, size / nodes / seconds) for kind, size in spent.items())),
        levels=tuple(sorted(Counter(level_of(machine.shard or 1) for machine in keeping).items())),
        authors=median(len(machine.table) for machine in keeping),
        load=median(machine.table.load for machine in keeping),
        trace=trace.digest(),
    )


def _grow(network: Network, nodes: int, files: int) -> None:
    """One after the other, within a minute or two."""
    network.add(2)
    network.connect(0, 1)
    network.run(12)
    for _ in range(nodes - 2):
        join(network, files)
        network.run(max(60.0 / nodes, 0.1))
    network.run(30)


def join(network: Network, files: int) -> Node:
    """A node that knows three others, and announces some files."""
    known = list(network.nodes)
    [node] = network.add()
    for other in network.random.sample(known, min(3, len(known))):
        network.connect(node.number, other)
    for number in range(files):
        node.announce(root_of((node.number, number)))
    return node
