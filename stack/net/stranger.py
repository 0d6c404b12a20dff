"""A host that nobody knows: it dials for a moment, over the transports of another, and is forgotten."""

from stack.identity.keys import generate
from stack.net.host import Host
from stack.net.limits import NetLimits
from stack.sansio.budget import Resource, Scope

LIMITS = NetLimits(
    transient={Resource.BYTES: 1 << 20, Resource.CONNECTIONS_IN: 0, Resource.CONNECTIONS_OUT: 4},
    connection_bytes=1 << 20,
    dial_attempts=4,
    low_water=4,
    high_water=8,
)
"""It has one peer, and says some hundred bytes to it."""


def stranger_beside(host: Host, budget: Scope) -> Host:
    """A host with a new identity, to be entered; it listens nowhere and serves nothing. It dials from ports of its own, so that no
    router takes what it sends for an answer to `host`, and no peer for a connection that stands. What it holds is drawn from `budget`."""
    key = generate()
    upgrader = host._upgrader.for_key(key)
    return Host(key, transports=host._transports, upgrader=upgrader, limits=LIMITS, budget=budget, interfaces=list)
