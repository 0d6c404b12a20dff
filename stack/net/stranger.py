"""A host that nobody knows: it dials for a moment, over the transports of another, and is forgotten."""

from typing import cast

from stack.identity.keys import generate
from stack.net.host import Host
from stack.net.limits import NetLimits
from stack.sansio.budget import Resource, Scope
from stack.transports.interfaces import Transport

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
    transports = [_apart(transport) for transport in host._transports]
    return Host(key, transports=transports, upgrader=upgrader, limits=LIMITS, budget=budget, interfaces=list)


def _apart(transport: Transport) -> Transport:
    apart = getattr(transport, "apart", None)
    return cast(Transport, apart()) if apart is not None else transport
