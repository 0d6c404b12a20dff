"""Short codes in place of tickets."""

from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api.interfaces import Ask, Watch
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOffered:
    """What another person types, and for how long."""

    code: str
    seconds: float
    points: int
    """Peers at which both can meet, besides this node itself; it grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFailed:
    """Somebody has tried it wrongly, or broken off."""

    left: int
    """Tries that there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeEnded:
    """It is good no longer. The last event."""

    why: str
    """`used`, `time` or `tries`."""
    peer_id: str
    """Who has the ticket; empty unless it was used."""


CodeEvent = CodeOffered | CodeFailed | CodeEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferCode(Watch[CodeEvent]):
    """`stack share --code`: a code for the ticket of something that is shared here. Leaving the context ends it."""

    cid: Cid
    name: str
    size: int
    via: tuple[Multiaddr, ...] = ()
    """Meeting points that are dialled for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTaken:
    """What a code stood for."""

    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeCode(Ask[CodeTaken]):
    """`stack get CODE`. Raises NoProvider where nobody gives it, Refused when it is not right."""

    code: str
    via: tuple[Multiaddr, ...] = ()
