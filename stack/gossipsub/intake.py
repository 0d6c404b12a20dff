"""Messages that arrive: which are new, which are good, and who is praised or blamed for them."""

from collections.abc import Callable, Collection, Iterable, Sequence

from stack.gossipsub.cache import Fate, Seen, SeenCache
from stack.gossipsub.events import (
    MessageDelivered,
    MessageDuplicate,
    MessageRejected,
    RejectReason,
    Validate,
    Verdict,
)
from stack.gossipsub.gossip import Gossip
from stack.gossipsub.messages import Message
from stack.gossipsub.peers import Peer
from stack.gossipsub.signing import SIGNED, SignaturePolicy, TopicRules
from stack.gossipsub.state import State
from stack.gossipsub.validation import PendingMessages

Verify = Callable[[Message], bool]
"""Tells whether a signature is good, at once."""

Accept = Callable[[Message, bytes, Peer, Collection[Peer]], None]
"""Takes a message that is new and good: the message, its id, who sent it first, who sent it as well."""


class Intake:
    """Facts: `receive`, `validation_result`. Commands: `set_rules`, `require_validation`. Getters: `rules`."""

    __slots__ = ("_accept", "_default", "_gossip", "_pending", "_rules", "_seen", "_state", "_validated", "_verify")

    def __init__(
        self,
        state: State,
        seen: SeenCache,
        pending: PendingMessages,
        gossip: Gossip,
        verify: Verify | None,
        accept: Accept,
    ) -> None:
        self._state = state
        self._seen = seen
        self._pending = pending
        self._gossip = gossip
        self._verify = verify
        self._accept = accept
        self._default = SIGNED
        self._rules: dict[str, TopicRules] = {}
        self._validated: dict[str, None] = {}

    def set_rules(self, topic: str | None, rules: TopicRules) -> None:
        """How messages of a topic, or of all others, are signed and named."""
        if topic is None:
            self._default = rules
        else:
            self._rules[topic] = rules

    def rules(self, topic: str) -> TopicRules:
        """How messages of the topic are signed and named."""
        return self._rules.get(topic, self._default)

    def require_validation(self, topic: str, required: bool) -> None:
        """Whether messages of a topic are good only when somebody says so."""
        if required:
            self._validated[topic] = None
        else:
            self._validated.pop(topic, None)

    def receive(self, peer: Peer, messages: Sequence[Message], now: float) -> None:
        """What a peer has sent in one RPC."""
        fresh: list[tuple[Message, bytes]] = []
        large: dict[str, list[bytes]] = {}
        for message in messages:
            if message.topic not in self._state.mesh:
                continue
            message_id = self._look_at(peer, message, now)
            if message_id is None:
                continue
            fresh.append((message, message_id))
            if message.data is not None and len(message.data) >= self._state.params.idontwant_message_threshold:
                large.setdefault(message.topic, []).append(message_id)
        for topic, message_ids in large.items():
            self._gossip.tell_unwanted(topic, message_ids, peer)
        for message, message_id in fresh:
            self._take(peer, message, message_id, now)

    def validation_result(self, token: int, verdict: Verdict, now: float) -> None:
        """What validation found for the message of a `Validate`. Unknown tokens are ignored."""
        pending = self._pending.take(token)
        if pending is None:
            return
        source, message = pending.source, pending.message
        seen = self._seen.get(pending.message_id)
        if verdict is Verdict.ACCEPT and seen is not None:
            # Another message of the same id was accepted in the meantime.
            self._duplicate(source, message, pending.message_id, seen, now)
        elif verdict is Verdict.ACCEPT:
            self._good(source, message, pending.message_id, pending.copies, now)
        elif verdict is Verdict.REJECT:
            self._settle(pending.message_id, Fate.INVALID, source, now)
            self._blame((source, *pending.copies), message, RejectReason.VALIDATION_FAILED)
        elif verdict is Verdict.IGNORE:
            self._settle(pending.message_id, Fate.IGNORED, source, now)
            self._refuse(source, message, RejectReason.VALIDATION_IGNORED)
        elif verdict is Verdict.BAD_SIGNATURE:
            # Not marked as seen: the true message of this id may still come. Its promise is not kept either.
            self._blame((source, *pending.copies), message, RejectReason.INVALID_SIGNATURE)
        else:
            self._refuse(source, message, RejectReason.VALIDATION_THROTTLED)

    def _look_at(self, peer: Peer, message: Message, now: float) -> bytes | None:
        """The id of a message that may be new and good, else None."""
        rules = self.rules(message.topic)
        violation = rules.violation(message)
        if violation is not None:
            self._blame((peer,), message, violation)
            return None
        message_id = rules.message_id(message)
        seen = self._seen.get(message_id)
        if seen is not None:
            self._duplicate(peer, message, message_id, seen, now)
            return None
        if message.author is not None and message.author == bytes(self._state.peer_id):
            # What we have written is in the cache, and nobody sends us back what is older than that.
            self._blame((peer,), message, RejectReason.SELF_ORIGIN)
            return None
        pending = self._pending.find(message_id, message)
        if pending is not None:
            if peer is not pending.source:
                pending.copies[peer] = None
            self._tell_duplicate(peer, message, message_id)
            return None
        return message_id

    def _take(self, peer: Peer, message: Message, message_id: bytes, now: float) -> None:
        signed = self.rules(message.topic).policy is SignaturePolicy.STRICT_SIGN
        verify = signed and self._verify is None
        if signed and self._verify is not None and not self._verify(message):
            self._blame((peer,), message, RejectReason.INVALID_SIGNATURE)
        elif verify or message.topic in self._validated:
            if not self._pending.has_room(peer, message):
                self._refuse(peer, message, RejectReason.VALIDATION_THROTTLED)
                return
            pending = self._pending.add(message, message_id, peer)
            self._state.effects.append(Validate(pending.token, peer.id, message, verify))
        elif message_id not in self._seen:  # the same message twice in one RPC
            self._good(peer, message, message_id, (), now)

    def _good(self, source: Peer, message: Message, message_id: bytes, copies: Collection[Peer], now: float) -> None:
        seen = self._settle(message_id, Fate.VALID, source, now)
        state = self._state
        state.scores.delivered_first(source.stats, message.topic)
        for peer in copies:
            self._credit(peer, message.topic, seen, now)
        if state.trace is not None:
            state.trace(MessageDelivered(peer=source.id, topic=message.topic, message_id=message_id))
        self._accept(message, message_id, source, copies)

    def _settle(self, message_id: bytes, fate: Fate, source: Peer, now: float) -> Seen:
        self._gossip.arrived(message_id)
        return self._seen.get(message_id) or self._seen.add(message_id, fate, source, now)

    def _duplicate(self, peer: Peer, message: Message, message_id: bytes, seen: Seen, now: float) -> None:
        if seen.fate is Fate.VALID:
            self._credit(peer, message.topic, seen, now)
        elif seen.fate is Fate.INVALID:
            self._state.scores.delivered_invalid(peer.stats, message.topic)
        self._tell_duplicate(peer, message, message_id)

    def _credit(self, peer: Peer, topic: str, seen: Seen, now: float) -> None:
        """P3: a mesh member has delivered what another was faster with; once for each message."""
        if peer is seen.source or peer not in self._state.mesh.get(topic, ()):
            return
        if seen.peers is None:
            seen.peers = {}
        elif peer in seen.peers:
            return
        seen.peers[peer] = None
        self._state.scores.delivered_again(peer.stats, topic, now - seen.at)

    def _blame(self, peers: Iterable[Peer], message: Message, reason: RejectReason) -> None:
        for peer in peers:
            self._state.scores.delivered_invalid(peer.stats, message.topic)
            self._refuse(peer, message, reason)

    def _refuse(self, peer: Peer, message: Message, reason: RejectReason) -> None:
        if self._state.trace is not None:
            self._state.trace(MessageRejected(peer=peer.id, topic=message.topic, reason=reason))

    def _tell_duplicate(self, peer: Peer, message: Message, message_id: bytes) -> None:
        if self._state.trace is not None:
            self._state.trace(MessageDuplicate(peer=peer.id, topic=message.topic, message_id=message_id))
