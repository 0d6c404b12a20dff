"""Who of those that come to us is let in, and who has to go for that."""

from collections.abc import Callable

import anyio

from stack.errors import LimitExceeded
from stack.multiformats.multiaddr import Multiaddr
from stack.net.arrivals import Arrivals
from stack.net.connection import Connection
from stack.net.events import CloseReason, InboundRefused
from stack.net.limits import (
    CUT_CONNECTIONS,
    SILENT_CONNECTIONS,
    InboundGate,
    NetLimits,
    Refusal,
    gate_of,
)
from stack.net.upkeep import Standing, gives_way
from stack.sansio.budget import Resource, Scope
from stack.trace import Trace


class Visitor:
    """One that was let in. It has `room` until it has an identity; `scope` is around what is done for it until it is a connection."""

    def __init__(self, address: Multiaddr, transient: Scope, arrivals: Arrivals) -> None:
        """Raises LimitExceeded."""
        self.address = address
        self.room = room = transient.reserve(Resource.CONNECTIONS_IN)
        self.scope = scope = anyio.CancelScope()
        self.connection: Connection | None = None

        def drop() -> None:  # does not refer to what refers to it: a connection that has ended waits for no collector
            room.release()
            scope.cancel()

        self.arrival = arrivals.add(address, drop)


class Entrance:
    """Requests: `admit`. Facts: `through`, then `left`. Who comes is refused by the rate of its address alone, where others that do
    nothing can go in its place: all of an address may be one who wants to keep out who else is there."""

    def __init__(
        self,
        limits: NetLimits,
        transient: Scope,
        *,
        standing: Callable[[Connection], Standing],
        close: Callable[[Connection, CloseReason], object],
        clock: Callable[[], float],
        trace: Trace | None,
    ) -> None:
        self._limits = limits
        self._gate = InboundGate(limits)
        self._arrivals = Arrivals()
        self._transient = transient
        self._inside: dict[str, dict[Visitor, None]] = {}
        """Who takes the places of an address, in order of coming."""
        self._standing = standing
        self._close = close
        self._clock = clock
        self._trace = trace

    @property
    def groups(self) -> int:
        """How many addresses have a place taken."""
        return self._gate.groups

    def admit(self, address: Multiaddr) -> Visitor | None:
        """Somebody comes from there; None: not let in. Whom this returns must be said to have `left`."""
        refusal = self._gate.admit(address, self._clock(), lambda: self._displace(address))
        if refusal is None:
            visitor = self._visitor(address)
            if visitor is not None:
                if (gate := gate_of(address)) is not None:
                    self._inside.setdefault(gate, {})[visitor] = None
                return visitor
            self._gate.leave(address)
            refusal = Refusal.BUDGET
        self._refused(address, refusal)
        return None

    def through(self, visitor: Visitor, connection: Connection | None) -> None:
        """It is a connection now, or has come to nothing."""
        self._arrivals.remove(visitor.arrival)
        visitor.connection = connection
        if connection is None:
            visitor.room.release()
            self.left(visitor)

    def left(self, visitor: Visitor) -> None:
        """It is over."""
        if visitor.connection is not None and visitor.connection.cut_off:
            self._gate.charge(visitor.address, CUT_CONNECTIONS)
        visitor.connection = None  # whoever accepts the next one remembers the last
        self._give_back(visitor)

    def _give_back(self, visitor: Visitor) -> None:
        """Its place, unless another has it already."""
        gate = gate_of(visitor.address)
        inside = self._inside.get(gate, {}) if gate is not None else {}
        if gate is None or visitor not in inside:
            return
        del inside[visitor]
        if not inside:
            del self._inside[gate]
        self._gate.leave(visitor.address)

    def _displace(self, address: Multiaddr) -> bool:
        """All places of the address are taken: whether one of those who have them goes. It does not owe for it, as it would elsewhere:
        the debt is the address's, so it would be the newcomer's too."""
        places: dict[Visitor, int | Standing] = {}
        inside = self._inside.get(gate_of(address) or "", {})
        for visitor in inside:
            if visitor.connection is None:
                places[visitor] = visitor.arrival.progress
            elif not visitor.connection.closed:
                places[visitor] = self._standing(visitor.connection)
        going = gives_way(places, grace=self._limits.grace, now=self._clock())
        if going is None:
            return False
        self._give_back(going)
        if going.connection is not None:
            self._close(going.connection, CloseReason.CROWDED)
        else:
            self._arrivals.remove(going.arrival)
            going.arrival.drop()
            self._refused(going.address, Refusal.GROUP)
        return True

    def _visitor(self, address: Multiaddr) -> Visitor | None:
        """With room for a connection without identity; others that have none yet make room for it (attack 6)."""
        while True:
            try:
                return Visitor(address, self._transient, self._arrivals)
            except LimitExceeded:
                dropped = self._arrivals.drop_one()
                if dropped is None:
                    return None
                if not dropped.progress:
                    self._gate.charge(dropped.address, SILENT_CONNECTIONS)
                self._refused(dropped.address, Refusal.BUDGET)

    def _refused(self, address: Multiaddr, reason: Refusal) -> None:
        if self._trace is not None:
            self._trace(InboundRefused(address=address, reason=reason))
