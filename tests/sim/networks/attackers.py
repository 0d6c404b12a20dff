"""Who attacks a network of gossipsub: peers without a router, that do only what harms (limits: A35, A38, A40)."""

from collections.abc import Callable

from stack.gossipsub.messages import Control, IHave, Message, Rpc
from tests.sim.networks.gossip import BAD_SIGNATURE, TOPIC, GossipWorld, Party, peer_of

GRAFT_AGAIN_SECONDS = 61.0
"""A patient sybil comes back as soon as the back-off of its PRUNE is over."""


class Sybil:
    """Gets into meshes, and passes nothing on. `flood`, when given, makes an RPC for a neighbour, `rate` times a second."""

    honest = False

    def __init__(
        self,
        world: GossipWorld,
        number: int,
        group: str,
        *,
        flood: "Flood | None" = None,
        rate: float = 0.0,
    ) -> None:
        self.world = world
        self.number = number
        self.group = group
        self.sent = 0
        self._flood = flood
        self._rate = rate
        self._heard: tuple[bytes, ...] = ()
        self._alive = True
        if flood is not None:
            world.net.call_later(world.random.random() / rate, self._act)

    @property
    def heard(self) -> tuple[bytes, ...]:
        """Ids of messages that were told it last."""
        return self._heard

    def receive(self, sender: int, data: bytes) -> None:
        """An RPC has come: a PRUNE is answered, the rest is only listened to."""
        rpc = self.world.codec.decode(data)
        control = rpc.control
        if control is None:
            return
        if control.ihave:
            self._heard = control.ihave[0].message_ids
        if control.prune:
            self.world.net.call_later(GRAFT_AGAIN_SECONDS, self.send, sender, Rpc(control=Control(graft=(TOPIC,))))

    def connected(self, other: Party, outbound: bool) -> None:
        """It joins at once."""
        self.send(other.number, Rpc(subscriptions=((True, TOPIC),), control=Control(graft=(TOPIC,))))

    def disconnected(self, other: int) -> None:
        """It does not mind."""

    def stop(self) -> None:
        """It has left."""
        self._alive = False

    def send(self, other: int, rpc: Rpc) -> None:
        """Anything to a neighbour."""
        data = self.world.codec.encode(rpc)
        self.world.net.send(self.number, other, data, len(data) + 2)

    def _act(self) -> None:
        if self._alive and self._flood is not None:
            for other in self.world.neighbours(self.number):
                self.sent += 1
                self.send(other, self._flood(self, other))
            self.world.net.call_later(1 / self._rate, self._act)


Flood = Callable[[Sybil, int], Rpc]
"""What to send to a neighbour next."""


def invalid_messages(sybil: Sybil, other: int) -> Rpc:
    """Messages nobody has signed, each another one."""
    seqno = sybil.sent.to_bytes(8, "big")
    return Rpc(publish=(Message(TOPIC, b"spam", bytes(peer_of(sybil.number)), seqno, BAD_SIGNATURE),))


def broken_promises(sybil: Sybil, other: int) -> Rpc:
    """IHAVE of messages that do not exist."""
    ids = tuple(b"none %d %d %d" % (sybil.number, sybil.sent, index) for index in range(20))
    return Rpc(control=Control(ihave=(IHave(TOPIC, ids),)))


def requests(sybil: Sybil, other: int) -> Rpc:
    """IWANT of the same messages over and over."""
    return Rpc(control=Control(iwant=sybil.heard * 10))


def grafts(sybil: Sybil, other: int) -> Rpc:
    """GRAFT without regard to back-offs."""
    return Rpc(control=Control(graft=(TOPIC,)))


FLOODS: dict[str, Flood] = {
    "invalid messages": invalid_messages,
    "broken promises": broken_promises,
    "requests": requests,
    "grafts": grafts,
}
