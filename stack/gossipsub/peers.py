"""What is known of one connected peer. Compared and hashed by identity: tables keyed by it cost no call into Python."""

from stack.errors import LimitExceeded
from stack.gossipsub.messages import WITH_IDONTWANT, WITH_MESH, WITH_PX
from stack.gossipsub.scoring import PeerStats
from stack.identity.peer_id import PeerId
from stack.sansio.budget import Resource, Scope

TOPIC_OVERHEAD_BYTES = 400
"""What a subscription takes beside the name: entries in two tables, and a table when the peer is the first in the topic."""


class Peer:
    """A connected peer. Tables keep peers in the order they came, never in that of a set."""

    __slots__ = (
        "asked",
        "connected",
        "direct",
        "held",
        "id",
        "idontwant_count",
        "ihave_count",
        "iwant_count",
        "mesh_count",
        "outbound",
        "pending",
        "protocol",
        "raw_id",
        "record",
        "stats",
        "takes_idontwant",
        "takes_mesh",
        "takes_px",
        "topics",
        "unwanted",
    )

    def __init__(
        self, peer: PeerId, protocol: str, *, outbound: bool, direct: bool, stats: PeerStats, budget: Scope
    ) -> None:
        self.id = peer
        self.raw_id = bytes(peer)
        self.protocol = protocol
        self.takes_mesh = protocol in WITH_MESH
        self.takes_px = protocol in WITH_PX
        self.takes_idontwant = protocol in WITH_IDONTWANT
        self.outbound = outbound
        self.direct = direct
        self.stats = stats
        self.connected = True
        self.topics: dict[str, None] = {}
        self.held = budget.reserve(Resource.BYTES, 0)
        """For its topics."""
        self.mesh_count = 0
        """Meshes it is in."""
        self.pending = 0
        """Messages from it that are being validated."""
        self.record: bytes | None = None
        """Its signed peer record, for telling others of it."""
        self.unwanted: dict[bytes, int] = {}
        """Ids it does not want, and the heartbeat after which that is forgotten; the oldest first."""
        self.ihave_count = 0
        self.iwant_count = 0
        self.idontwant_count = 0
        self.asked = 0
        """Messages asked of it in this heartbeat; as the three above, reset by each."""

    def __repr__(self) -> str:
        return f"<Peer {self.id} {self.protocol}, in {self.mesh_count} meshes>"

    def join(self, topic: str) -> bool:
        """It is in a topic more, if its budget allows that. One wide letter makes four bytes of every letter of a name."""
        try:
            self.held.grow(TOPIC_OVERHEAD_BYTES + topic.__sizeof__())
        except LimitExceeded:
            return False
        self.topics[topic] = None
        return True

    def leave(self, topic: str) -> None:
        """It is in a topic less."""
        del self.topics[topic]
        self.held.shrink(TOPIC_OVERHEAD_BYTES + topic.__sizeof__())

    def reset_counters(self) -> None:
        """A heartbeat has passed."""
        self.ihave_count = self.iwant_count = self.idontwant_count = self.asked = 0
