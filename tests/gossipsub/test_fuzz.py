"""Random sequences of everything that can happen to a router (A43), with what must hold at all times."""

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stack.gossipsub.events import Connect, Deliver, Protect, SendRpc, Validate, Verdict
from stack.gossipsub.messages import (
    PROTOCOL_1_0,
    PROTOCOL_FLOODSUB,
    PROTOCOLS,
    RPC_BYTES_MAX,
    WITH_IDONTWANT,
    Control,
    IHave,
    Message,
    PeerInfo,
    Prune,
    Rpc,
    encode_rpc,
)
from stack.gossipsub.params import GossipsubParams, PeerScoreParams, TopicScoreParams
from stack.gossipsub.signing import UNSIGNED
from tests.gossipsub.lab import US, Lab, peer_id

STEPS = int(os.environ.get("STACK_GOSSIPSUB_FUZZ_STEPS", "100000"))
"""1,000,000 for a thorough run."""
PEERS = range(1, 40)
TOPICS = ["a", "b", "c", "unsigned", "never"]
DIRECT = {peer_id(1): (), peer_id(2): ()}


class Fuzz:
    """Does one random thing after the other and checks."""

    def __init__(self, seed: int, *, scored: bool = True) -> None:
        self.random = Random(seed)
        lenient = TopicScoreParams(invalid_message_deliveries_weight=-0.1)
        params = GossipsubParams(
            score=PeerScoreParams(retained_max=10, behaviour_penalty_weight=-0.1, other_topics=lenient)
            if scored
            else None,
            do_px=True,
            d_high=8,
            pending_max=50,
            pending_per_peer=10,
            seen_max=500,
            mcache_bytes=200_000,
            unwanted_max=500,
            backoffs_max=60,
            topics_per_peer=4,
            fanout_max=2,
        )
        self.lab = Lab(params, seed=seed, subscribe=False, direct=DIRECT, verify=None, trace=None)
        self.lab.machine.set_rules("unsigned", UNSIGNED)
        self.lab.machine.require_validation("b")
        self.connected: dict[int, str] = {}
        self.kept: set[int] = set()
        self.tokens: list[int] = []
        self.ids = [b"%d" % number for number in range(20)]
        self.known: list[Message] = []
        self.actions: list[tuple[Callable[[], Any], int]] = [
            (self.connect, 6),
            (self.disconnect, 3),
            (self.subscribe, 1),
            (self.unsubscribe, 1),
            (self.publish, 4),
            (self.beat, 3),
            (self.verdict, 15),
            (self.receive, 60),
            (self.silent, 1),
        ]
        self.weights = [weight for _, weight in self.actions]

    def step(self) -> None:
        (action, _) = self.random.choices(self.actions, self.weights)[0]
        action()
        self.lab.now += self.random.choice([0, 0.001, 0.1])
        for effect in self.lab.drain():
            self.check_effect(effect)
        self.lab.effects.clear()

    def anybody(self) -> int:
        return self.random.choice(PEERS)

    def topic(self) -> str:
        return self.random.choice(TOPICS)

    def connect(self) -> None:
        number = self.anybody()
        protocol = self.random.choice(PROTOCOLS)
        group = self.random.choice([None, "192.0.2.1", "192.0.2.2"])
        self.lab.machine.peer_connected(
            peer_id(number), protocol, self.random.random() < 0.3, group, self.lab.now, self.lab.budget
        )
        self.connected.setdefault(number, protocol)
        if self.random.random() < 0.2:
            self.lab.machine.peer_record(peer_id(number), b"record" * 100)

    def disconnect(self) -> None:
        number = self.anybody()
        self.lab.machine.peer_disconnected(peer_id(number), self.lab.now)
        self.connected.pop(number, None)

    def subscribe(self) -> None:
        self.lab.machine.subscribe(self.random.choice(TOPICS[:4]), self.lab.now)

    def unsubscribe(self) -> None:
        self.lab.machine.unsubscribe(self.topic(), self.lab.now)

    def publish(self) -> None:
        self.ids.append(self.lab.machine.publish(self.topic(), b"x" * self.random.choice([1, 2000]), self.lab.now))

    def beat(self) -> None:
        self.lab.now = max(self.lab.now, self.lab.machine.next_timeout())
        self.lab.machine.handle_timeout(self.lab.now)

    def verdict(self) -> None:
        token = self.tokens.pop(self.random.randrange(len(self.tokens))) if self.tokens else 10**9
        verdict = self.random.choices(list(Verdict), [10, 2, 1, 1, 1])[0]
        self.lab.machine.validation_result(token, verdict, self.lab.now)

    def silent(self) -> None:
        self.lab.machine.peer_fell_silent(peer_id(self.anybody()))

    def some(self, make: Callable[[], Any], most: int = 3) -> tuple[Any, ...]:
        return tuple(make() for _ in range(self.random.randrange(0, most + 1))) if self.random.random() < 0.4 else ()

    def any_id(self) -> bytes:
        return self.random.choice(self.ids)

    def any_message(self) -> Message:
        if self.known and self.random.random() < 0.5:
            return self.random.choice(self.known)
        topic = self.topic()
        data = bytes(self.random.choice([0, 10, 1024]))
        author: int | None = self.random.choice([0, 50, 51, 52])
        seqno: bytes | None = self.random.randrange(2**10).to_bytes(8, "big")
        if topic == "unsigned" and self.random.random() < 0.9:
            made = Message(topic, self.random.randbytes(2))
        elif self.random.random() < 0.1:
            made = Message(topic, data, None, seqno, self.random.choice([None, b""]), b"key")
        else:
            made = Message(topic, data, bytes(peer_id(author)), seqno, b"signature")
        self.known = [*self.known[-30:], made]
        self.ids = [*self.ids[-60:], (made.author or b"") + (made.seqno or b"")]
        return made

    def any_prune(self) -> Prune:
        peers = self.some(lambda: PeerInfo(bytes(peer_id(self.anybody())), self.random.choice([None, b"record"])), 20)
        return Prune(self.topic(), peers, self.random.choice([None, 0, 1, 60, 2**63]))

    def receive(self) -> None:
        control = None
        if self.random.random() < 0.7:
            control = Control(
                ihave=self.some(lambda: IHave(self.topic(), self.some(self.any_id))),
                iwant=self.some(self.any_id),
                graft=self.some(self.topic),
                prune=self.some(self.any_prune),
                idontwant=self.some(self.any_id, 15),
            )
        rpc = Rpc(
            subscriptions=self.some(lambda: (self.random.random() < 0.7, self.topic())),
            publish=self.some(self.any_message),
            control=control,
        )
        self.lab.machine.receive_rpc(peer_id(self.anybody()), rpc, self.lab.now)

    def check_effect(self, effect: object) -> None:
        if isinstance(effect, SendRpc):
            number = next(number for number in self.connected if peer_id(number) == effect.peer)
            protocol, control = self.connected[number], effect.rpc.control
            assert effect.rpc != Rpc()
            assert control != Control()
            if protocol == PROTOCOL_FLOODSUB:
                assert control is None
            elif control is not None:
                assert not control.idontwant or protocol in WITH_IDONTWANT
                assert len(control.idontwant) <= 10
                for prune in control.prune:
                    assert protocol != PROTOCOL_1_0 or prune == Prune(prune.topic)
            for message in effect.rpc.publish:
                assert message.author != bytes(effect.peer)
        elif isinstance(effect, Validate):
            self.tokens.append(effect.token)
        elif isinstance(effect, Protect):
            number = next(number for number in PEERS if peer_id(number) == effect.peer)
            assert (number in self.kept) is not effect.keep
            (self.kept.add if effect.keep else self.kept.discard)(number)
        elif isinstance(effect, Deliver):
            assert effect.message.topic in self.lab.machine.topics
        else:
            assert isinstance(effect, Connect)
            assert effect.peer != US

    def check_state(self) -> None:
        machine = self.lab.machine
        state = machine._state
        assert set(state.peers) == {peer_id(number) for number in self.connected}
        for topic, members in state.mesh.items():
            for peer in members:
                assert peer.connected
                assert peer.takes_mesh
                assert not peer.direct
                assert topic in machine.topics
        for topic, members in state.topics.items():
            assert members
            assert all(topic in peer.topics and peer.connected for peer in members)
        for peer in state.peers.values():
            assert peer.mesh_count == sum(peer in mesh for mesh in state.mesh.values())
            assert len(peer.topics) <= 4
            assert all(peer in state.topics[topic] for topic in peer.topics)
            assert 0 <= peer.pending <= 10
        assert self.kept == {number for number in self.connected if state.peers[peer_id(number)].mesh_count}
        for _, members in machine._fanout:
            assert all(peer.connected for peer in members)
        assert len(machine._seen) <= 500
        assert machine._cache.size <= 200_000
        assert machine._cache.size == sum(cached.size for cached in machine._cache._messages.values())
        assert machine._gossip._unwanted_count == sum(len(peer.unwanted) for peer in state.peers.values()) <= 510
        assert len(machine._mesh._backoffs) <= 60
        assert len(machine._intake._pending) == len(self.tokens) <= 50
        assert len(state.scores) <= len(state.peers) + 10
        assert len(machine._gossip._promises) <= 40 * len(PEERS)


@pytest.mark.parametrize("scored", [True, False])
def test_A43_any_sequence_of_events_keeps_the_router_sound(scored: bool) -> None:
    fuzz = Fuzz(seed=1, scored=scored)
    for step in range(STEPS // 2):
        fuzz.step()
        if step % 500 == 0:
            fuzz.check_state()


def test_A43_what_is_sent_can_be_read_and_fits() -> None:
    fuzz = Fuzz(seed=2)
    sizes = []
    check = fuzz.check_effect

    def measure(effect: object) -> None:
        check(effect)
        if isinstance(effect, SendRpc):
            sizes.append(len(encode_rpc(effect.rpc)))

    fuzz.check_effect = measure  # type: ignore[method-assign]
    for _ in range(5000):
        fuzz.step()
    assert 0 < max(sizes) <= 64 * 1024 < RPC_BYTES_MAX
