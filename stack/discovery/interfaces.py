"""What discovery tells of itself."""

from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryFact:
    """One thing that was tried, for `stack doctor`."""

    what: str
    """`mdns`, `bootstrap`, `neighbour`, `saved peers` or `clock`."""
    subject: str
    """The interface, the address, the peer; empty for the whole."""
    ok: bool | None
    """None: nothing to say yet, which is no fault."""
    detail: str
