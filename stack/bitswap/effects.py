"""What a session and the server ask of the outside."""

from stack.blocks.interfaces import RealmId
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Tell `peer` that we want these blocks, or (`have`) want to know whether it has them."""

    peer: PeerId
    cids: tuple[Cid, ...]
    have: bool = False
    any_order: bool = False
    """It may send them in the order that serves all best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Tell `peer` that these are no longer wanted from it."""

    peer: PeerId
    cids: tuple[Cid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Be connected to `peer`; answered by `peer_connected` or `peer_unreachable`."""

    peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDropped:
    """The session will not ask `peer` again; all its wants there are to be withdrawn."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerForgotten:
    """`peer` had to make way for another: the session knows nothing of it any more."""

    peer: PeerId


Effect = Ask | Withdraw | Connect | PeerDropped | PeerForgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """Ask the store for the sizes of these blocks, as far as they are for this peer; answered by `looked_up`."""

    id: int
    peer: PeerId
    cids: tuple[Cid, ...]
    admitted: frozenset[RealmId] = frozenset()
    """The realms that the peer may enter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBlocks:
    """Read these blocks and send them; answered by `message_sent` or `message_failed`."""

    id: int
    peer: PeerId
    cids: tuple[Cid, ...]
    size: int
    """Of the blocks together, as the index said."""
    pending_bytes: int
    """What is still queued for the peer."""
    in_pieces: bool = False
    """No more than a piece is to be held while the peer takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresencesReady:
    """There are presences to be taken with `take_presences`."""

    peer: PeerId


EngineEffect = LookUp | SendBlocks | PresencesReady
