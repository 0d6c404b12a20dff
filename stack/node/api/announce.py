"""The announcement layer: who has what, what has which name, and what this node tells of itself."""

from stack.announce.interfaces import FoundName, KnownProvider
from stack.multiformats.cid import Cid
from stack.node.api.interfaces import Ask, Done, Watch
from stack.values import dataclass

LOOK_SECONDS = 10.0
"""How long is looked for something by default: for finding neighbours, and two questions to peers far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindNames(Watch[FoundName]):
    """`stack find WORDS...`: public names that have all these words."""

    words: str
    timeout: float = LOOK_SECONDS
    """Seconds; it is over earlier when those have answered who keep the words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindProviders(Watch[KnownProvider]):
    """`stack providers CID`: who announces that it has it."""

    cid: Cid
    timeout: float = LOOK_SECONDS
    """As above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A root that this node announces."""

    cid: Cid
    public_name: str | None
    """Anybody may find it by this; None: only who knows the CID finds this node."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcements:
    """All that this node announces."""

    items: tuple[Announced, ...]
    directory: Cid | None
    """All public names as a directory, for `stack ls`."""
    waiting: int
    """Records that nobody has taken yet: 0 means that others can find what is announced."""
    clock: str | None = None
    """What is wrong with our clock, by those of others: they ignore what is announced then. None: nothing that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAnnouncements(Ask[Announcements]):
    """`stack announce ls`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce(Ask[Done]):
    """Let whoever knows the CID find this node; with a public name, let everybody find the CID by its words."""

    cid: Cid
    public_name: str | None = None
    size: int = 0
    """Bytes, told with the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(Ask[Done]):
    """`stack announce withdraw CID`: it stays shared, who has its ticket still gets it."""

    cid: Cid
