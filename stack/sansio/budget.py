"""The node-wide budget: what a peer can make us hold is drawn from here before it exists.

A `Scope` counts several resources and has parents; a reservation must fit into the scope and into each ancestor, or none
is charged. Shape after go-libp2p's resource manager (p2p/host/resource-manager), without its service table.

What is nice to have is lent: whoever holds it is a `Holder` of the scope, and lets go of it when somebody needs the bytes.
"""

from collections.abc import Mapping
from enum import Enum
from types import TracebackType
from typing import Protocol

from stack.errors import LimitExceeded


class Resource(Enum):
    """What is counted. Bytes are bytes; everything else is a number of things."""

    __hash__ = (
        object.__hash__
    )  # members are looked up hundreds of times for a stream, and Enum's own hash is written in Python

    BYTES = "bytes"
    UNREAD = "bytes that nobody has read"
    """Of the bytes, those that wait in windows which every stream has by right: nobody has granted them."""
    STREAMS_IN = "inbound streams"
    STREAMS_OUT = "outbound streams"
    CONNECTIONS_IN = "inbound connections"
    CONNECTIONS_OUT = "outbound connections"
    TASKS = "tasks"
    ROWS = "rows"


Limits = Mapping[Resource, int]
"""A figure per resource; a resource that is not named is not limited by this scope. Scopes share them: they must not change."""


class Holder(Protocol):
    """Holds bytes that it can do without."""

    @property
    def spare(self) -> int:
        """How many they are."""
        ...

    def call_back(self) -> None:
        """Give some of them back; `spare` falls, in the end to 0."""
        ...


class Scope:
    """A place where resources are counted, below one or more parents.

    Getters: `used`, `limit`, `name`, `holders`, `counted_in`, `without_room`, `is_within`. Commands: `reserve`, `child`. What is reserved
    returns through `Reservation.release`.
    """

    __slots__ = ("_above", "_limits", "_used", "holders", "name")

    def __init__(self, name: str, limits: Limits, parents: tuple["Scope", ...] = ()) -> None:
        self.name = name
        self._limits = limits
        self._used: dict[Resource, int] = {}
        self.holders: dict[Holder, None] = {}
        """Of bytes that are lent, here and in all children."""
        above = {id(scope): scope for parent in parents for scope in parent.counted_in}
        self._above = tuple(above.values())
        """Without this one: what refers to itself stays until Python looks for such."""

    def __repr__(self) -> str:
        used = ", ".join(f"{resource.value} {amount}" for resource, amount in self._used.items() if amount)
        return f"<Scope {self.name}: {used or 'empty'}>"

    @property
    def counted_in(self) -> tuple["Scope", ...]:
        """This scope and all above it."""
        return self, *self._above

    def used(self, resource: Resource) -> int:
        """How much is reserved here, including all children."""
        return self._used.get(resource, 0)

    def limit(self, resource: Resource) -> int | None:
        """The bound of this scope alone, or None."""
        return self._limits.get(resource)

    def child(self, name: str, limits: Limits | None = None, *others: "Scope") -> "Scope":
        """A scope below this one, and below `others` too."""
        return Scope(name, limits or {}, (self, *others))

    def reserve(self, resource: Resource, amount: int = 1) -> "Reservation":
        """Charge `amount` here and in every ancestor. Raises LimitExceeded and charges nothing when it does not fit."""
        reservation = Reservation(self, resource)
        reservation.grow(amount)
        return reservation

    def without_room(self, resource: Resource, amount: int, keep: int = 0) -> "Scope | None":
        """This scope or the ancestor in which `amount` more does not fit; None: it can be reserved, perhaps by calling back
        what is lent. Who holds no more than `keep` to spare keeps it."""
        for scope in (self, *self._above):
            limit = scope._limits.get(resource)
            if limit is None or (excess := scope._used.get(resource, 0) + amount - limit) <= 0:
                continue
            if excess > scope._spare(resource, keep):
                return scope
        return None

    def is_within(self, scope: "Scope") -> bool:
        """What is reserved here counts in `scope` too."""
        return scope in (self, *self._above)

    def _charge(self, resource: Resource, amount: int, keep: int = 0) -> None:
        full = self.without_room(resource, amount, keep)
        if full is not None:
            raise LimitExceeded(f"{resource.value} of {full.name}", full._limits[resource])
        scopes = self.counted_in
        for scope in scopes:
            limit = scope._limits.get(resource)
            while limit is not None and scope._used.get(resource, 0) + amount > limit:
                largest = max(scope.holders, key=lambda holder: holder.spare)
                if largest.spare <= keep:
                    raise LimitExceeded(f"{resource.value} of {scope.name}", limit)
                largest.call_back()
        for scope in scopes:
            scope._used[resource] = scope._used.get(resource, 0) + amount

    def _spare(self, resource: Resource, keep: int) -> int:
        if resource is not Resource.BYTES:
            return 0
        return sum(spare for holder in self.holders if (spare := holder.spare) > keep)

    def _return(self, resource: Resource, amount: int) -> None:
        for scope in (self, *self._above):
            scope._used[resource] -= amount


class Reservation:
    """Something taken from a scope; a context manager, so that an exception returns it too. `release` may be called twice."""

    __slots__ = ("_scope", "amount", "resource")

    def __init__(self, scope: Scope, resource: Resource) -> None:
        self._scope = scope
        self.resource = resource
        self.amount = 0

    def __repr__(self) -> str:
        return f"<Reservation {self.amount} {self.resource.value} of {self._scope.name}>"

    def grow(self, amount: int, *, keep: int = 0) -> None:
        """Take `amount` more; bytes that are lent are called back for it, the largest holding first, but from nobody who has no
        more than `keep` to spare. Raises LimitExceeded and takes nothing when it does not fit."""
        if amount < 0:
            raise ValueError("a reservation grows by a positive amount")
        self._scope._charge(self.resource, amount, keep)
        self.amount += amount

    def lend(self, holder: Holder) -> None:
        """Some of it is held by `holder`, and may be called back from it."""
        for scope in self._scope.counted_in:
            scope.holders[holder] = None

    def settle(self, holder: Holder) -> None:
        """It holds nothing any more that could be called back."""
        for scope in self._scope.counted_in:
            scope.holders.pop(holder, None)

    def shrink(self, amount: int) -> None:
        """Give `amount` back, at most what is held."""
        given = min(amount, self.amount)
        self.amount -= given
        if given:
            self._scope._return(self.resource, given)

    def move(self, scope: Scope) -> None:
        """Charge the same amount to `scope` instead (a connection that has proved its identity). Raises LimitExceeded."""
        self._scope._return(self.resource, self.amount)
        try:
            # Ancestors that both have in common are charged once: a full system does not stop a move within it.
            scope._charge(self.resource, self.amount)
        except LimitExceeded:
            self._scope._charge(self.resource, self.amount)
            raise
        self._scope = scope

    def release(self) -> None:
        """Give everything back."""
        self.shrink(self.amount)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
