"""gossipsub 1.3, 1.2, 1.1, 1.0 and floodsub as one pure machine. Sources: libp2p/specs, pubsub/README.md and
pubsub/gossipsub/gossipsub-v1.0.md to -v1.3.md; what they leave open is as in go-libp2p-pubsub v0.19.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from stack.errors import LocalProtocolError
from stack.gossipsub.backoff import Backoffs
from stack.gossipsub.cache import Fate, MessageCache, SeenCache
from stack.gossipsub.events import (
    Connect,
    ControlIgnored,
    Deliver,
    Effect,
    IgnoreReason,
    MessagePublished,
    PeerAdded,
    PeerRemoved,
    PeerSubscribed,
    PeerUnsubscribed,
    RpcGraylisted,
    TopicJoined,
    TopicLeft,
    Verdict,
)
from stack.gossipsub.exchange import RECORD_BYTES_MAX, Exchange, OpenRecord
from stack.gossipsub.fanout import Fanout
from stack.gossipsub.forwarding import Forwarding
from stack.gossipsub.gossip import Gossip
from stack.gossipsub.intake import Intake, Verify
from stack.gossipsub.mesh import Mesh
from stack.gossipsub.messages import (
    PROTOCOLS,
    RPC_BYTES_MAX,
    Control,
    Message,
    Rpc,
    check_topic,
    pack,
    topic_size,
)
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.peers import Peer
from stack.gossipsub.scoring import ApplicationScore, PeerScores
from stack.gossipsub.signing import Author, SignaturePolicy, TopicRules
from stack.gossipsub.state import Draft, Drafts, State
from stack.gossipsub.validation import PendingMessages
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import open_peer_record
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Scope
from stack.sansio.interfaces import Randomness
from stack.trace import Trace

HEARTBEAT_SLACK = 2
"""Heartbeats that a back-off lasts longer for us than for the peer, as its clock is not ours (v1.1, "plus some slack")."""


class Gossipsub:
    """The router of one node.

    Getters: `topics`, `known_topics`, `peers`, `topics_of`, `mesh`, `score`. Facts: `peer_connected`, `peer_record`, `peer_fell_silent`,
    `peer_disconnected`, `receive_rpc`, `validation_result`, `woken`. Commands: `set_rules`, `require_validation`, `subscribe`,
    `unsubscribe`, `publish`. Outputs: `next_effect`, `next_timeout`, `handle_timeout`.
    """

    def __init__(
        self,
        peer_id: PeerId,
        *,
        random: Randomness,
        now: float,
        author: Author | None = None,
        first_seqno: int = 0,
        params: GossipsubParams | None = None,
        direct: Mapping[PeerId, tuple[Multiaddr, ...]] | None = None,
        application_score: ApplicationScore | None = None,
        verify: Verify | None = None,
        open_record: OpenRecord = open_peer_record,
        trace: Trace | None = None,
    ) -> None:
        """`author` signs what we publish; without one only unsigned topics can be published to. `first_seqno` must be
        higher than any before it: nanoseconds of the wall clock. With `verify` signatures are checked at once by this
        function, without it each signed message is a `Validate` effect. `direct` are peers of explicit agreements.
        """
        params = params if params is not None else GossipsubParams()
        self._params = params
        scores = PeerScores(params.score, application_score)
        self._state = state = State(peer_id, params, random, scores, trace)
        self._seen = SeenCache(params.seen_ttl, params.seen_max)
        self._cache = MessageCache(params.mcache_len, params.mcache_gossip, params.mcache_bytes)
        backoffs = Backoffs(params.backoffs_max, HEARTBEAT_SLACK * params.heartbeat_interval)
        pending = PendingMessages(params)
        self._mesh = Mesh(state, backoffs, Exchange(state, open_record))
        self._fanout = Fanout(state)
        self._gossip = Gossip(state, self._cache, self._seen, pending)
        self._forwarding = Forwarding(state, self._cache, self._fanout, self._gossip)
        self._intake = Intake(state, self._seen, pending, self._gossip, verify, self._accept)
        self._author = author
        self._seqno = first_seqno
        self._direct = dict(direct or {})
        self._next_heartbeat = now + params.heartbeat_initial_delay
        self._decay_interval = params.score.decay_interval if params.score is not None else math.inf
        self._next_decay = now + self._decay_interval
        self._direct_at = now + params.direct_connect_initial_delay if self._direct else math.inf

    def __repr__(self) -> str:
        return f"<Gossipsub of {self._state.peer_id}: {len(self._state.mesh)} topics, {len(self._state.peers)} peers>"

    # Getters

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics we have subscribed to."""
        return tuple(self._state.mesh)

    def known_topics(self) -> tuple[str, ...]:
        """Topics that connected peers are in."""
        return tuple(self._state.topics)

    def peers(self, topic: str | None = None) -> tuple[PeerId, ...]:
        """Connected peers, or those of them that are in a topic."""
        if topic is None:
            return tuple(self._state.peers)
        return tuple(peer.id for peer in self._state.topics.get(topic, ()))

    def topics_of(self, peer: PeerId) -> tuple[str, ...]:
        """Topics that a connected peer is in."""
        known = self._state.peers.get(peer)
        return tuple(known.topics) if known is not None else ()

    def mesh(self, topic: str) -> tuple[PeerId, ...]:
        """Peers in our mesh of a topic."""
        return tuple(peer.id for peer in self._state.mesh.get(topic, ()))

    def score(self, peer: PeerId) -> float:
        """What we think of a peer, connected or not; 0 when we do not know it."""
        stats = self._state.scores.stats(peer)
        return self._state.scores.score(peer, stats) if stats is not None else 0.0

    # Facts

    def peer_connected(
        self, peer: PeerId, protocol: str, outbound: bool, address_group: str | None, now: float, budget: Scope
    ) -> None:
        """A peer can be sent to, by one of `PROTOCOLS`. `outbound`: we dialled it. `address_group`: what counts as one
        place for P6 (its IPv4 address or IPv6 /64); None is no place (loopback). A peer that is known is ignored.
        Its subscriptions are drawn from `budget`."""
        if protocol not in PROTOCOLS:
            raise LocalProtocolError(f"{protocol} is no protocol of gossipsub")
        state = self._state
        if peer in state.peers:
            return
        stats = state.scores.connected(peer, address_group)
        direct = peer in self._direct
        added = Peer(peer, protocol, outbound=outbound, direct=direct, stats=stats, budget=budget)
        state.peers[peer] = added
        if state.trace is not None:
            state.trace(PeerAdded(peer=peer, protocol=protocol))
        for topics in pack(self.topics, topic_size, self._params.rpc_bytes):
            state.send(added, Rpc(subscriptions=tuple((True, topic) for topic in topics)))

    def peer_fell_silent(self, peer: PeerId) -> None:
        """The stream on which a peer sends has ended: it is in no topic until it says so again."""
        known = self._state.peers.get(peer)
        if known is not None:
            self._receive_subscriptions(known, [(False, topic) for topic in known.topics], 0.0)

    def peer_record(self, peer: PeerId, record: bytes) -> None:
        """The signed record of a connected peer, verified, for telling others where it is. Long ones are not kept."""
        known = self._state.peers.get(peer)
        if known is not None and len(record) <= RECORD_BYTES_MAX:
            known.record = record

    def peer_disconnected(self, peer: PeerId, now: float) -> None:
        """A peer cannot be sent to any more. What it was in is forgotten with it, empty topics too (CVE-2026-46679)."""
        state = self._state
        gone = state.peers.pop(peer, None)
        if gone is None:
            return
        gone.connected = False
        gone.record = None  # ids that are remembered name who sent them first, for two minutes
        for topic in gone.topics:
            self._take_out(gone, topic)
        gone.topics.clear()
        gone.held.release()
        self._mesh.peer_gone(gone)
        self._fanout.peer_gone(gone)
        self._gossip.peer_gone(gone)
        state.scores.disconnected(peer, now)
        if state.trace is not None:
            state.trace(PeerRemoved(peer=peer))

    def receive_rpc(self, peer: PeerId, rpc: Rpc, now: float) -> None:
        """An RPC has come from a connected peer; one of any other is ignored."""
        state = self._state
        sender = state.peers.get(peer)
        if sender is None:
            return
        if rpc.subscriptions:
            self._receive_subscriptions(sender, rpc.subscriptions, now)
        if not sender.direct and state.score(sender) < self._params.thresholds.graylist:
            if state.trace is not None:
                state.trace(RpcGraylisted(peer=peer))
            return
        if rpc.publish:
            self._intake.receive(sender, rpc.publish, now)
        if rpc.control is not None:
            self._receive_control(sender, rpc.control, now)
        if rpc.skipped_bytes:
            self._ignored(sender, "control", IgnoreReason.TOO_LARGE)

    def woken(self, first_seqno: int) -> None:
        """The machine has slept, or its clock was set: it may have stood in the past when we began, and others take nothing of an
        author with lower numbers than what they know of it. What came before is old."""
        self._seqno = max(self._seqno, first_seqno)
        self._gossip.woken()

    def validation_result(self, token: int, verdict: Verdict, now: float) -> None:
        """What was found for the message of a `Validate`. Unknown tokens are ignored."""
        self._intake.validation_result(token, verdict, now)

    # Commands

    def set_rules(self, topic: str | None, rules: TopicRules) -> None:
        """How messages of a topic are signed and named; None: of all topics that have no rules of their own."""
        self._intake.set_rules(topic, rules)
        if topic is not None and rules.mesh is not None:
            self._state.mesh_sizes[topic] = rules.mesh

    def require_validation(self, topic: str, required: bool = True) -> None:
        """Messages of the topic are taken only when a `Validate` effect has been answered with ACCEPT."""
        self._intake.require_validation(topic, required)

    def subscribe(self, topic: str, now: float) -> None:
        """Join a topic; again is harmless. Raises LocalProtocolError when its name is empty or over 1,024 bytes."""
        check_topic(topic)
        state = self._state
        if topic in state.mesh:
            return
        announcement = Rpc(subscriptions=((True, topic),))
        for peer in state.peers.values():
            state.send(peer, announcement)
        if state.trace is not None:
            state.trace(TopicJoined(topic=topic))
        self._mesh.join(topic, self._fanout.take(topic), now)

    def unsubscribe(self, topic: str, now: float) -> None:
        """Leave a topic; harmless when we are not in it."""
        state = self._state
        if topic not in state.mesh:
            return
        announcement = Rpc(subscriptions=((False, topic),))
        for peer in state.peers.values():
            state.send(peer, announcement)
        self._mesh.leave(topic, now)
        if state.trace is not None:
            state.trace(TopicLeft(topic=topic))

    def publish(self, topic: str, data: bytes, now: float) -> bytes:
        """Send a message to a topic, which we need not be in. Returns its id; what was seen already is not sent again.

        Raises LocalProtocolError when it is over 1 MiB, or must be signed and nobody is there to sign.
        """
        check_topic(topic)
        rules = self._intake.rules(topic)
        if rules.policy is SignaturePolicy.STRICT_NO_SIGN:
            message = Message(topic, data)
        elif self._author is None:
            raise LocalProtocolError(f"messages of {topic} are signed, and there is no author")
        else:
            message = self._author.write(topic, data, self._seqno)
        if message.size > RPC_BYTES_MAX:
            raise LocalProtocolError(f"a message has at most {RPC_BYTES_MAX} bytes, this one would have {message.size}")
        self._seqno += 1
        message_id = rules.message_id(message)
        if message_id in self._seen:
            return message_id
        state = self._state
        self._seen.add(message_id, Fate.VALID, None, now)
        if state.trace is not None:
            state.trace(MessagePublished(topic=topic, message_id=message_id))
        if self._params.emit_self and topic in state.mesh:
            state.effects.append(Deliver(None, message, message_id))
        self._forwarding.publish(message, message_id, now)
        return message_id

    # Outputs

    def next_effect(self) -> Effect | None:
        """The next thing to be done, or None."""
        effects = self._state.effects
        return effects.popleft() if effects else None

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called."""
        return min(self._next_heartbeat, self._next_decay, self._direct_at)

    def handle_timeout(self, now: float) -> None:
        """A deadline has passed: scores decay, a heartbeat, dials to direct peers, whichever is due."""
        if now >= self._next_decay:
            self._state.scores.decay(now)
            self._next_decay = now + self._decay_interval
        if now >= self._direct_at:
            self._direct_at = math.inf
            self._connect_direct()
        if now >= self._next_heartbeat:
            self._heartbeat(now)
            # Beats that were missed (a closed lid) are not made up for.
            self._next_heartbeat = max(self._next_heartbeat, now - self._params.heartbeat_interval / 2)
            self._next_heartbeat += self._params.heartbeat_interval

    # Inside

    def _heartbeat(self, now: float) -> None:
        state = self._state
        state.ticks += 1
        self._gossip.heartbeat(now)
        if state.ticks % self._params.direct_connect_ticks == 0:
            self._connect_direct()
        drafts: Drafts = defaultdict(Draft)
        self._mesh.maintain(drafts, now)
        self._fanout.maintain(now)
        for topic, members in state.mesh.items():
            self._gossip.emit(topic, members, drafts)
        for topic, members in self._fanout:
            self._gossip.emit(topic, members, drafts)
        written: dict[tuple[int, ...], tuple[Rpc, ...]] = {}
        for peer, draft in drafts.items():
            state.send_meshing(peer, draft.graft, draft.prune)
            # Most peers are told the same, and one RPC for several peers is one object: it is encoded once.
            entries = tuple(map(id, draft.ihave))
            if entries not in written:
                written[entries] = state.write_ihave(draft.ihave)
            for rpc in written[entries]:
                state.send(peer, rpc)
        self._cache.shift()
        self._seen.expire(now)

    def _connect_direct(self) -> None:
        for peer, addresses in self._direct.items():
            if peer not in self._state.peers:
                self._state.effects.append(Connect(peer, addresses, True))

    def _receive_subscriptions(self, peer: Peer, subscriptions: Sequence[tuple[bool, str]], now: float) -> None:
        state = self._state
        for joined, topic in subscriptions:
            if not joined:
                if topic in peer.topics:
                    peer.leave(topic)
                    self._take_out(peer, topic)
                    self._mesh.peer_left(peer, topic)
                    self._fanout.peer_left(peer, topic)
                    if state.trace is not None:
                        state.trace(PeerUnsubscribed(peer=peer.id, topic=topic))
            elif topic not in peer.topics and len(peer.topics) < self._params.topics_per_peer and peer.join(topic):
                state.topics.setdefault(topic, {})[peer] = None
                if state.trace is not None:
                    state.trace(PeerSubscribed(peer=peer.id, topic=topic))
                self._mesh.peer_joined(peer, topic, now)

    def _take_out(self, peer: Peer, topic: str) -> None:
        members = self._state.topics[topic]
        del members[peer]
        if not members:
            del self._state.topics[topic]

    def _receive_control(self, peer: Peer, control: Control, now: float) -> None:
        if not peer.takes_mesh:
            self._ignored(peer, "control", IgnoreReason.FLOODSUB)
            return
        if control.ihave or control.iwant:
            if self._state.score(peer) < self._params.thresholds.gossip:
                self._ignored(peer, "gossip", IgnoreReason.LOW_SCORE)
            else:
                if control.ihave:
                    self._gossip.receive_ihave(peer, control.ihave, now)
                if control.iwant:
                    self._gossip.receive_iwant(peer, control.iwant)
        if control.graft:
            self._mesh.receive_graft(peer, control.graft, now)
        if control.prune:
            self._mesh.receive_prune(peer, control.prune, now)
        if control.idontwant:
            self._gossip.receive_idontwant(peer, control.idontwant)

    def _ignored(self, peer: Peer, kind: str, reason: IgnoreReason) -> None:
        if self._state.trace is not None:
            self._state.trace(ControlIgnored(peer=peer.id, kind=kind, reason=reason))

    def _accept(self, message: Message, message_id: bytes, source: Peer, copies: Collection[Peer]) -> None:
        """A message that is new and good; `copies` have sent it as well."""
        if message.topic in self._state.mesh:  # we may have left while it was validated
            self._state.effects.append(Deliver(source.id, message, message_id))
            self._forwarding.forward(message, message_id, source, copies)
