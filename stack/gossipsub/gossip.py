"""IHAVE, IWANT and IDONTWANT, and who keeps what it promises. Source: gossipsub v1.0, "IHAVE", "IWANT"; v1.1, "Adaptive Gossip
Dissemination", "Spam Protection Measures"; v1.2, "IDONTWANT Message".
"""

from collections.abc import Sequence
from itertools import chain, islice

from stack.gossipsub.cache import MessageCache, SeenCache
from stack.gossipsub.events import ControlIgnored, IgnoreReason, PromisesBroken
from stack.gossipsub.messages import Control, IHave, Message, Rpc
from stack.gossipsub.peers import Peer
from stack.gossipsub.state import Drafts, Members, State
from stack.gossipsub.validation import PendingMessages
from stack.identity.peer_id import PeerId


class Gossip:
    """Facts: `receive_ihave`, `receive_iwant`, `receive_idontwant`, `arrived`, `peer_gone`, `woken`. Commands: `tell_unwanted`,
    `emit`, `heartbeat`. Getters: `is_unwanted`."""

    __slots__ = ("_cache", "_pending", "_promises", "_seen", "_state", "_unwanted_count")

    def __init__(self, state: State, cache: MessageCache, seen: SeenCache, pending: PendingMessages) -> None:
        self._state = state
        self._cache = cache
        self._seen = seen
        self._pending = pending
        self._promises: dict[bytes, dict[PeerId, float]] = {}
        """Messages that peers have told of and we have asked for, and until when each has time."""
        self._unwanted_count = 0

    def receive_ihave(self, peer: Peer, entries: Sequence[IHave], now: float) -> None:
        """A peer tells what it has: ask for what we have not, in random order, up to a bound."""
        state = self._state
        params = state.params
        peer.ihave_count += 1
        if peer.ihave_count > params.max_ihave_messages or peer.asked >= params.max_ihave_length:
            self._ignored(peer, "ihave", IgnoreReason.TOO_MANY)
            return
        told = chain.from_iterable(entry.message_ids for entry in entries if entry.topic in state.mesh)
        wanted = self._pending.new(self._seen.new(dict.fromkeys(islice(told, params.max_ihave_length))))
        if not wanted:
            return
        # From a place by chance on: as good as a sample of them, and no work for each.
        at = state.random.randrange(0, len(wanted))
        ids = (wanted[at:] + wanted[:at])[: params.max_ihave_length - peer.asked]
        peer.asked += len(ids)
        if params.score is not None:
            # One of them, by chance, is remembered: enough to find out liars, and bounded.
            self._promises.setdefault(ids[0], {}).setdefault(peer.id, now + params.iwant_followup_time)
        state.send_iwant(peer, ids)

    def receive_iwant(self, peer: Peer, message_ids: Sequence[bytes]) -> None:
        """A peer asks for messages: it gets what is in the cache, each a few times at most."""
        params = self._state.params
        left = params.max_ihave_length - peer.iwant_count
        if len(message_ids) > left:
            self._ignored(peer, "iwant", IgnoreReason.TOO_MANY)
            message_ids = message_ids[:left]
        peer.iwant_count += len(message_ids)
        found: dict[bytes, Message] = {}
        for message_id in message_ids:
            if message_id in found or self.is_unwanted(peer, message_id):
                continue
            taken = self._cache.take_for(message_id, peer)
            if taken is not None and taken[1] <= params.gossip_retransmission:
                found[message_id] = taken[0]
        self._state.send_messages(peer, list(found.values()))

    def receive_idontwant(self, peer: Peer, message_ids: Sequence[bytes]) -> None:
        """A peer already has these messages."""
        state = self._state
        params = state.params
        peer.idontwant_count += 1
        if peer.idontwant_count > params.max_idontwant_messages or self._unwanted_count >= params.unwanted_max:
            self._ignored(peer, "idontwant", IgnoreReason.TOO_MANY)
            return
        for message_id in message_ids[: params.max_idontwant_length]:
            if peer.unwanted.pop(message_id, None) is None:
                self._unwanted_count += 1
            peer.unwanted[message_id] = state.ticks + params.idontwant_message_ttl

    def is_unwanted(self, peer: Peer, message_id: bytes) -> bool:
        """Whether the peer has said that it does not want this message."""
        return message_id in peer.unwanted

    def tell_unwanted(self, topic: str, message_ids: Sequence[bytes], sender: Peer) -> None:
        """Large messages have come: tell the mesh at once not to send them, before we have validated them."""
        state = self._state
        peers = [peer for peer in state.mesh[topic] if peer is not sender and peer.takes_idontwant]
        if not peers:
            return
        size = state.params.max_idontwant_length
        for start in range(0, len(message_ids), size):
            rpc = Rpc(control=Control(idontwant=tuple(message_ids[start : start + size])))
            for peer in peers:
                state.send(peer, rpc)

    def emit(self, topic: str, exclude: Members, drafts: Drafts) -> None:
        """At each heartbeat: tell peers outside the mesh what there was of late."""
        ids = self._cache.gossip_ids(topic)
        if not ids:
            return
        state = self._state
        params = state.params
        threshold = params.thresholds.gossip
        peers = [
            peer
            for peer in state.topics.get(topic, ())
            if peer.takes_mesh and not peer.direct and peer not in exclude and state.score(peer) >= threshold
        ]
        if not peers:
            return
        count = max(params.d_lazy, int(params.gossip_factor * len(peers)))
        if count < len(peers):
            peers = state.random.sample(peers, count)
        told = IHave(topic, tuple(state.random.sample(ids, min(len(ids), params.max_ihave_length))))
        for peer in peers:
            drafts[peer].ihave.append(told)
            if len(ids) > params.max_ihave_length:
                # Each peer gets its own selection then, so that together they learn of more.
                told = IHave(topic, tuple(state.random.sample(ids, params.max_ihave_length)))

    def arrived(self, message_id: bytes) -> None:
        """A message has come, from whomever: nobody can deliver it any more, so every promise of it is kept."""
        self._promises.pop(message_id, None)

    def peer_gone(self, peer: Peer) -> None:
        """A peer has disconnected. Its promises stand: leaving does not keep them."""
        self._unwanted_count -= len(peer.unwanted)
        peer.unwanted.clear()

    def woken(self) -> None:
        """The machine has slept: nobody could keep its promises, and to whom the messages of before are told they are new."""
        self._promises.clear()
        self._cache.clear()

    def heartbeat(self, now: float) -> None:
        """Counters start anew, old IDONTWANTs are forgotten, broken promises are punished."""
        state = self._state
        for peer in state.peers.values():
            peer.reset_counters()
            if peer.unwanted:
                self._expire_unwanted(peer)
        broken: dict[PeerId, int] = {}
        for message_id in list(self._promises):
            if message_id in self._pending:
                continue  # it has come, it is only not judged yet
            promises = self._promises[message_id]
            for peer_id in [peer_id for peer_id, until in promises.items() if until < now]:
                del promises[peer_id]
                broken[peer_id] = broken.get(peer_id, 0) + 1
            if not promises:
                del self._promises[message_id]
        for peer_id, count in broken.items():
            state.scores.penalize(peer_id, count)
            if state.trace is not None:
                state.trace(PromisesBroken(peer=peer_id, count=count))

    def _expire_unwanted(self, peer: Peer) -> None:
        old = []
        for key, last in peer.unwanted.items():
            if last > self._state.ticks:
                break
            old.append(key)
        for key in old:
            del peer.unwanted[key]
        self._unwanted_count -= len(old)

    def _ignored(self, peer: Peer, kind: str, reason: IgnoreReason) -> None:
        if self._state.trace is not None:
            self._state.trace(ControlIgnored(peer=peer.id, kind=kind, reason=reason))
