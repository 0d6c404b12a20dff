"""Messages that are being validated: each copy that differs by itself, identical ones once."""

from collections.abc import Iterable

from stack.gossipsub.messages import Message
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.peers import Peer
from stack.gossipsub.state import Members


class Pending:
    """A message whose verdict is awaited."""

    __slots__ = ("copies", "message", "message_id", "size", "source", "token")

    def __init__(self, token: int, message: Message, message_id: bytes, source: Peer) -> None:
        self.token = token
        self.message = message
        self.message_id = message_id
        self.source = source
        self.copies: Members = {}
        """Who else has sent the same bytes meanwhile; they share praise and blame."""
        self.size = message.size


class PendingMessages:
    """Bounded in number, bytes, and for each peer.

    Getters: `in`, `new`, `has_room`, `find`. Commands: `add`, `take`.
    """

    __slots__ = ("_by_id", "_by_token", "_bytes", "_next", "_params")

    def __init__(self, params: GossipsubParams) -> None:
        self._params = params
        self._by_token: dict[int, Pending] = {}
        self._by_id: dict[bytes, list[Pending]] = {}
        self._bytes = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._by_token)

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._by_id

    def new(self, message_ids: Iterable[bytes]) -> list[bytes]:
        """Those that do not wait: thousands at once."""
        waiting = self._by_id
        return [message_id for message_id in message_ids if message_id not in waiting]

    def find(self, message_id: bytes, message: Message) -> Pending | None:
        """The same message, byte for byte: under one id there may be several until a signature tells which is true."""
        for pending in self._by_id.get(message_id, ()):
            if pending.message == message:
                return pending
        return None

    def has_room(self, peer: Peer, message: Message) -> bool:
        """Whether another message of this peer may wait."""
        params = self._params
        return (
            len(self._by_token) < params.pending_max
            and self._bytes + message.size <= params.pending_bytes
            and peer.pending < params.pending_per_peer
        )

    def add(self, message: Message, message_id: bytes, source: Peer) -> Pending:
        """A message whose verdict will come."""
        self._next += 1
        pending = self._by_token[self._next] = Pending(self._next, message, message_id, source)
        self._by_id.setdefault(message_id, []).append(pending)
        self._bytes += pending.size
        source.pending += 1
        return pending

    def take(self, token: int) -> Pending | None:
        """The verdict has come; None when nothing waits under this token."""
        pending = self._by_token.pop(token, None)
        if pending is not None:
            same_id = self._by_id[pending.message_id]
            same_id.remove(pending)
            if not same_id:
                del self._by_id[pending.message_id]
            self._bytes -= pending.size
            pending.source.pending -= 1
        return pending
