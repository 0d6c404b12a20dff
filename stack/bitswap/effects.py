"""What a session asks of the outside."""

from dataclasses import dataclass

from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid


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


Effect = Ask | Withdraw | Connect | PeerDropped
