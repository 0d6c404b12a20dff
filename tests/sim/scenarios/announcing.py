"""The announcement layer: how long look-ups take, and what it costs each node while nodes come and go."""

from dataclasses import dataclass

from stack.announce.params import AnnounceParams
from stack.gossipsub.messages import Rpc
from stack.multiformats.cid import Cid
from stack.testing.sim.codec import RpcCodec
from stack.testing.sim.trace import RunTrace
from tests.announce.network import Network, Node, root_of
from tests.sim.scenarios.figures import quantile

LATENCY = 0.05
ROUND_TRIP = 2 * LATENCY
PATIENCE = 10.0
"""Seconds after which a look-up has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupsResult:
    """Figures of one run. Times in seconds."""

    nodes: int
    files: int
    seed: int
    measured: float
    """Seconds of churn in which look-ups were made and bytes counted."""
    changed: int
    """Nodes that left, each followed by one that came, in that time."""
    settled: tuple[float, ...]
    """How long each look-up by a node that had been there took; infinite when it failed."""
    fresh: tuple[float, ...]
    """The same by nodes that had just come, after the announcement; from their first connection on."""
    bytes_per_second: float
    """Sent by a node at the mean: gossip, requests and answers with 60 bytes each for their streams."""
    by_kind: tuple[tuple[str, float], ...]
    levels: tuple[int, ...]
    """How deep the shards are, of each node."""
    trace: str

    @property
    def all_times(self) -> list[float]:
        return [*self.settled, *self.fresh]

    @property
    def median_round_trips(self) -> float:
        return quantile(self.all_times, 0.5) / ROUND_TRIP

    @property
    def p99(self) -> float:
        return quantile(self.all_times, 0.99)


def lookups(
    *,
    nodes: int,
    seed: int,
    files: int = 100,
    change: float = 0.01,
    warm: float = 60.0,
    seconds: float = 300.0,
    every: float = 2.0,
    heartbeat: float = 5.0,
    params: AnnounceParams | None = None,
) -> LookupsResult:
    """`nodes` that share `files` each; then for `warm` seconds and for `seconds` more a part of them changes each minute, and
    look-ups are made in the second of these spans, by turns from a node that is there and from one that has just come."""
    network = Network(seed=seed, latency=LATENCY, params=params, heartbeat=heartbeat)
    trace = RunTrace()
    codec = RpcCodec()

    def note(now: float, sender: int, receiver: int, message: object) -> None:
        assert isinstance(message, tuple)
        last = message[-1]
        data = codec.encode(last) if isinstance(last, Rpc) else last if isinstance(last, bytes) else b""
        trace.note(now, sender, receiver, message[0].encode() + data)

    network.net.tap = note
    network.add(2)
    network.connect(0, 1)
    network.run(12)
    for _ in range(nodes - 2):
        _join(network, files)
        network.run(max(60.0 / nodes, 0.1))
    network.run(30)
    changed = 0

    def renew() -> None:
        nonlocal changed
        network.leave(network.random.choice(sorted(network.nodes)[2:]))
        _join(network, files)
        changed += 1
        network.net.call_later(network.random.expovariate(nodes * change / 60), renew)

    network.net.call_later(network.random.expovariate(nodes * change / 60), renew)
    network.run(warm)
    before, changed_before = dict(network.bytes), changed
    settled: list[float] = []
    fresh: list[float] = []
    began = network.net.now
    while network.net.now - began < seconds:
        authors = [node for node in network.nodes.values() if node.machine.waiting == 0 and node.machine.items]
        author = network.random.choice(authors)
        root = network.random.choice(author.machine.items).root
        if len(settled) > len(fresh):
            seeker = _join(network, 0)
            fresh.append(_seek(network, seeker, author, root))
            network.leave(seeker.number)
        else:
            seeker = network.random.choice([node for node in network.nodes.values() if node is not author])
            settled.append(_seek(network, seeker, author, root))
        network.run(every)
    span = network.net.now - began
    spent = {kind: size - before.get(kind, 0) for kind, size in network.bytes.items()}
    return LookupsResult(
        nodes=nodes,
        files=files,
        seed=seed,
        measured=span,
        changed=changed - changed_before,
        settled=tuple(settled),
        fresh=tuple(fresh),
        bytes_per_second=sum(spent.values()) / nodes / span,
        by_kind=tuple(sorted((kind, size / nodes / span) for kind, size in spent.items())),
        levels=tuple(
            (node.machine.shard or 1).bit_length() - 1 for node in network.nodes.values() if node.machine.shard
        ),
        trace=trace.digest(),
    )


def _join(network: Network, files: int) -> Node:
    known = list(network.nodes)
    [node] = network.add()
    for other in network.random.sample(known, min(3, len(known))):
        network.connect(node.number, other)
    for number in range(files):
        node.announce(root_of((node.number, number)))
    return node


def _seek(network: Network, seeker: Node, author: Node, root: Cid) -> float:
    """Seconds until a node has found an author; infinite when it has not in time."""
    began = network.net.now
    lookup = seeker.find(root)

    def times() -> list[float]:
        return [at for at, record in seeker.found.get(lookup, []) if record.author == author.id]

    network.net.run(lambda: bool(times()), seconds=PATIENCE)
    found = times()
    seeker.machine.stop(lookup)
    seeker.pump()
    return found[0] - began if found else float("inf")
