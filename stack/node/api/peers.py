"""The node itself and its peers."""

from stack.discovery.interfaces import DiscoveryFact
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api.interfaces import Ask, Done, Watch
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """Who this node is."""

    peer_id: str
    addresses: tuple[Multiaddr, ...]
    """Dialable, with `/p2p/`."""
    agent: str
    protocols: tuple[str, ...]
    """What it serves; nothing when no node runs."""
    home: str | None
    role: str
    """What the process that holds the home was started as: `daemon`, `share`, `get`, `command`, `library`."""
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetIdentity(Ask[NodeInfo]):
    """`stack id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings(Ask[tuple[str, ...]]):
    """What a command was told of a node that runs already: the names of the settings that it does not have so."""

    listen: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    relay_via: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool | None = None
    upload_limit: int | None = None
    download_limit: int | None = None
    serve: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay(Watch[None]):
    """Nothing is told: while it lasts a process that would end now waits, as it does while other requests are running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """A connection."""

    peer_id: str
    address: Multiaddr
    """Ends in `/p2p-circuit` when the connection goes through a relay."""
    direction: str
    relayed: bool
    """Its bytes go through a third peer, which cannot read them."""
    limited: bool
    """And that one carries some KiB: only enough to find out how to do without it."""
    seconds: float
    streams: int
    latency: float | None
    agent: str | None
    bytes_sent: int
    """Block bytes since the node started."""
    bytes_received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPeers(Ask[tuple[PeerInfo, ...]]):
    """`stack peers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswer:
    """The peer that was reached."""

    peer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect(Ask[PeerAnswer]):
    """`stack connect MULTIADDR`."""

    address: Multiaddr


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect(Ask[Done]):
    """`stack disconnect PEER|MULTIADDR`; count 0 when there was no connection."""

    peer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReply:
    """One round trip, in seconds."""

    peer_id: str
    sequence: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Watch[PingReply]):
    """`stack ping PEER|MULTIADDR`; `target` is either."""

    target: str
    count: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfResult:
    """Seconds for each direction, on one stream of `/perf/1.0.0`."""

    upload_secs: float
    download_secs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Perf(Ask[PerfResult]):
    """`stack bench perf MULTIADDR`."""

    address: Multiaddr
    upload: int
    download: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDiscovery(Ask[tuple[DiscoveryFact, ...]]):
    """How this node looks for peers, and what came of it; `seconds` is how long to wait for first results."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Who can reach this node: `computer`, `network`, `internet` or `nobody`, with what that is known from."""

    scope: str
    addresses: tuple[Multiaddr, ...]
    advice: str
    checked: bool
    """Peers outside have tried it, and `scope` is what came of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReach(Ask[Reach]):
    """What `share` says of who can reach it; `seconds` is how long to wait for what is being tried."""

    seconds: float = 0.0
