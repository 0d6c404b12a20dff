"""The tables that the parts of the machine share."""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from stack.gossipsub.events import Effect, SendRpc
from stack.gossipsub.messages import (
    OVERHEAD_BYTES,
    TOPIC_BYTES_MAX,
    Control,
    IHave,
    Message,
    Prune,
    Rpc,
    id_size,
    ihave_size,
    message_size,
    pack,
    prune_size,
    topic_size,
)
from stack.gossipsub.params import GossipsubParams, MeshSize
from stack.gossipsub.peers import Peer
from stack.gossipsub.scoring import PeerScores
from stack.identity.peer_id import PeerId
from stack.sansio.interfaces import Randomness
from stack.trace import Trace

Members = dict[Peer, None]
"""Peers in the order they came: the order of a set would differ from run to run."""

ENTRY_BYTES_MAX = 4 * TOPIC_BYTES_MAX + 2 * OVERHEAD_BYTES
"""What `ihave_size` adds to the ids of an IHAVE, at most."""


class Draft:
    """Control messages for one peer that are sent together at the end of a heartbeat."""

    __slots__ = ("graft", "ihave", "prune")

    def __init__(self) -> None:
        self.graft: list[str] = []
        self.prune: list[Prune] = []
        self.ihave: list[IHave] = []


Drafts = defaultdict[Peer, Draft]


class State:
    """Who is there, who is in which topic and mesh, and what is to be sent."""

    __slots__ = (
        "effects",
        "mesh",
        "mesh_sizes",
        "params",
        "peer_id",
        "peers",
        "random",
        "scores",
        "ticks",
        "topics",
        "trace",
    )

    def __init__(
        self, peer_id: PeerId, params: GossipsubParams, random: Randomness, scores: PeerScores, trace: Trace | None
    ) -> None:
        self.peer_id = peer_id
        self.params = params
        self.random = random
        self.scores = scores
        self.trace = trace
        self.peers: dict[PeerId, Peer] = {}
        self.topics: dict[str, Members] = {}
        """Peers in each topic that any of them is in."""
        self.mesh: dict[str, Members] = {}
        """The mesh of each topic that we are in."""
        self.mesh_sizes: dict[str, MeshSize] = {}
        """Of topics with a size of their own."""
        self.effects: deque[Effect] = deque()
        self.ticks = 0
        """Heartbeats so far."""

    def mesh_size(self, topic: str) -> MeshSize | GossipsubParams:
        """How many members the mesh of a topic has."""
        return self.mesh_sizes.get(topic, self.params)

    def score(self, peer: Peer) -> float:
        """What we think of a peer."""
        return self.scores.score(peer.id, peer.stats)

    def candidates(self, topic: str, count: int, accept: Callable[[Peer], bool]) -> list[Peer]:
        """At most `count` peers of a topic that take control messages and are accepted, at random."""
        found = [peer for peer in self.topics.get(topic, ()) if peer.takes_mesh and accept(peer)]
        return found if len(found) <= count else self.random.sample(found, max(count, 0))

    def send(self, peer: Peer, rpc: Rpc) -> None:
        """One RPC to one peer."""
        self.effects.append(SendRpc(peer.id, rpc))

    def send_messages(self, peer: Peer, messages: Sequence[Message]) -> None:
        """Messages to one peer, in RPCs of the size that everybody takes."""
        for group in pack(messages, message_size, self.params.rpc_bytes):
            self.send(peer, Rpc(publish=group))

    def send_meshing(self, peer: Peer, graft: Sequence[str] = (), prune: Sequence[Prune] = ()) -> None:
        """GRAFT and PRUNE to one peer."""
        for topics in pack(graft, topic_size, self.params.rpc_bytes):
            self.send(peer, Rpc(control=Control(graft=topics)))
        for prunes in pack(prune, prune_size, self.params.rpc_bytes):
            self.send(peer, Rpc(control=Control(prune=prunes)))

    def send_iwant(self, peer: Peer, message_ids: Sequence[bytes]) -> None:
        """IWANT to one peer."""
        for ids in pack(message_ids, id_size, self.params.rpc_bytes - ENTRY_BYTES_MAX):
            self.send(peer, Rpc(control=Control(iwant=ids)))

    def write_ihave(self, ihave: Sequence[IHave]) -> tuple[Rpc, ...]:
        """IHAVE of several topics together, in RPCs of the size that everybody takes: others count RPCs, not ids."""
        limit = self.params.rpc_bytes
        parts = [
            IHave(entry.topic, ids)
            for entry in ihave
            for ids in pack(entry.message_ids, id_size, limit - ENTRY_BYTES_MAX)
        ]
        return tuple(Rpc(control=Control(ihave=entries)) for entries in pack(parts, ihave_size, limit))
