"""One router among peers that the test plays, on a clock that the test moves."""

import hashlib
from collections.abc import Iterable
from functools import cache
from random import Random
from typing import Any, TypeVar

from stack.gossipsub.events import Deliver, Effect, SendRpc
from stack.gossipsub.messages import PROTOCOL_1_2, Control, IHave, Message, Prune, Rpc
from stack.gossipsub.params import GossipsubParams, PeerScoreParams, PeerScoreThresholds, TopicScoreParams, score_decay
from stack.gossipsub.router import Gossipsub
from stack.gossipsub.signing import Author
from stack.identity.peer_id import PeerId
from stack.sansio.budget import Scope
from stack.trace import TraceEvent

TOPIC = "topic"
E = TypeVar("E")
T = TypeVar("T", bound=TraceEvent)


@cache
def peer_id(number: int) -> PeerId:
    """A peer id without a key."""
    return PeerId.decode(b"\x12\x20" + hashlib.sha256(b"peer %d" % number).digest())


NUMBERS = {peer_id(number): number for number in range(2000)}

US = peer_id(0)


def stub_author(peer: PeerId = US) -> Author:
    """Signs without a key."""
    return Author(bytes(peer), lambda data: b"signature")


def message(number: int, *, author: int = 1000, size: int = 10, topic: str = TOPIC) -> Message:
    """A message with a signature that only stubs take for good."""
    return Message(topic, b"x" * size, bytes(peer_id(author)), number.to_bytes(8, "big"), b"signature")


def id_of(message: Message) -> bytes:
    return (message.author or b"") + (message.seqno or b"")


class Lab:
    """A router, `US`, whose effects are kept by kind; peers are numbers."""

    def __init__(
        self, params: GossipsubParams | None = None, *, seed: int = 1, subscribe: bool = True, **options: Any
    ) -> None:
        self.now = 0.0
        self.events: list[TraceEvent] = []
        options.setdefault("verify", lambda message: True)
        options.setdefault("author", stub_author())
        options.setdefault("trace", self.events.append)
        self.params = params if params is not None else GossipsubParams()
        self.machine = Gossipsub(US, random=Random(seed), now=0.0, params=self.params, **options)
        self.effects: list[Effect] = []
        self.budget = Scope("peers", {})
        if subscribe:
            self.machine.subscribe(TOPIC, self.now)
            self.drain()

    def drain(self) -> list[Effect]:
        """Take what the machine wants done since the last time."""
        fresh = []
        while (effect := self.machine.next_effect()) is not None:
            fresh.append(effect)
        self.effects += fresh
        return fresh

    def connect(
        self,
        *numbers: int,
        protocol: str = PROTOCOL_1_2,
        outbound: bool = False,
        group: str | None = None,
        topics: Iterable[str] = (TOPIC,),
    ) -> None:
        """Peers connect and tell what they are in."""
        for number in numbers:
            self.machine.peer_connected(peer_id(number), protocol, outbound, group, self.now, self.budget)
            self.rpc(number, Rpc(subscriptions=tuple((True, topic) for topic in topics)))
        self.drain()

    def disconnect(self, *numbers: int) -> None:
        for number in numbers:
            self.machine.peer_disconnected(peer_id(number), self.now)
        self.drain()

    def rpc(self, number: int, rpc: Rpc) -> list[Effect]:
        """An RPC comes from a peer; returns what the machine does."""
        self.machine.receive_rpc(peer_id(number), rpc, self.now)
        return self.drain()

    def publish(self, number: int, *messages: Message) -> list[Effect]:
        return self.rpc(number, Rpc(publish=messages))

    def control(self, number: int, **parts: Any) -> list[Effect]:
        return self.rpc(number, Rpc(control=Control(**parts)))

    def graft(self, *numbers: int, topic: str = TOPIC) -> None:
        for number in numbers:
            self.control(number, graft=(topic,))

    def advance(self, seconds: float) -> list[Effect]:
        """Time passes; every deadline in it is kept."""
        until = self.now + seconds
        fresh = []
        while (at := self.machine.next_timeout()) <= until:
            self.now = at
            self.machine.handle_timeout(at)
            fresh += self.drain()
        self.now = until
        return fresh

    def beat(self, count: int = 1) -> list[Effect]:
        """So many heartbeats, no matter when."""
        fresh = []
        seen = self.machine._state.ticks
        while self.machine._state.ticks < seen + count:
            self.now = max(self.machine.next_timeout(), self.now)
            self.machine.handle_timeout(self.now)
            fresh += self.drain()
        return fresh

    def mesh(self, topic: str = TOPIC) -> set[int]:
        """Numbers of the peers in the mesh."""
        return {NUMBERS[peer] for peer in self.machine.mesh(topic)}

    def told(self, kind: type[T]) -> list[T]:
        """Trace events of a kind."""
        return [event for event in self.events if type(event) is kind]


def of_kind(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def to(effects: Iterable[Effect], number: int) -> list[Rpc]:
    """RPCs for one peer."""
    return [effect.rpc for effect in of_kind(effects, SendRpc) if effect.peer == peer_id(number)]


def controls(effects: Iterable[Effect], number: int | None = None) -> list[Control]:
    """Control for one peer, or for all."""
    found = of_kind(effects, SendRpc)
    return [e.rpc.control for e in found if e.rpc.control is not None and number in (None, peer_number(e.peer))]


def peer_number(peer: PeerId) -> int:
    return NUMBERS[peer]


def prunes(effects: Iterable[Effect], number: int | None = None) -> list[Prune]:
    return [prune for control in controls(effects, number) for prune in control.prune]


def grafts(effects: Iterable[Effect], number: int | None = None) -> list[str]:
    return [topic for control in controls(effects, number) for topic in control.graft]


def ihaves(effects: Iterable[Effect], number: int | None = None) -> list[IHave]:
    return [entry for control in controls(effects, number) for entry in control.ihave]


def iwants(effects: Iterable[Effect], number: int | None = None) -> list[bytes]:
    return [message_id for control in controls(effects, number) for message_id in control.iwant]


def idontwants(effects: Iterable[Effect], number: int | None = None) -> list[bytes]:
    return [message_id for control in controls(effects, number) for message_id in control.idontwant]


def sent_messages(effects: Iterable[Effect], number: int) -> list[Message]:
    return [message for rpc in to(effects, number) for message in rpc.publish]


def receivers(effects: Iterable[Effect]) -> set[int]:
    """Who gets a message."""
    return {peer_number(effect.peer) for effect in of_kind(effects, SendRpc) if effect.rpc.publish}


def delivered(effects: Iterable[Effect]) -> list[Message]:
    return [effect.message for effect in of_kind(effects, Deliver)]


STRICT_SCORES = PeerScoreParams(
    topics={},
    other_topics=TopicScoreParams(
        topic_weight=1.0,
        time_in_mesh_weight=0.0,
        first_message_deliveries_weight=1.0,
        invalid_message_deliveries_weight=-10.0,
    ),
    behaviour_penalty_weight=-1.0,
    behaviour_penalty_threshold=0.0,
    behaviour_penalty_decay=score_decay(60),
)
"""Every offence shows at once."""

SCORED = GossipsubParams(score=STRICT_SCORES, thresholds=PeerScoreThresholds(gossip=-100, publish=-500, graylist=-1000))
