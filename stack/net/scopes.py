"""What each peer, and each group of addresses, makes us hold. Pure."""

from collections.abc import Collection

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import group_of
from stack.sansio.budget import Limits, Resource, Scope

IDLE_SCOPES_MAX = 4096
"""Scopes that hold nothing, kept before they are swept."""

PARTS = 16
PART_MIN = 1024 * 1024
"""A peer, and a group of addresses, has one such part of the whole for what nobody has read; of little, enough for what comes
while we do something else."""


class PeerScopes:
    """Getters: `of`, `of_group`."""

    def __init__(self, budget: Scope, limits: Limits, connected: Collection[PeerId]) -> None:
        """`limits` are of one peer; the scopes of who is `connected` are kept."""
        whole = budget.limit(Resource.BYTES)
        unread: Limits = {} if whole is None else {Resource.UNREAD: max(whole // PARTS, PART_MIN)}
        self._budget = budget
        self._of_group = unread
        self._of_peer = {**unread, **limits}
        self._connected = connected
        self._peers: dict[PeerId, Scope] = {}
        self._groups: dict[str, Scope] = {}

    def of(self, peer: PeerId) -> Scope:
        """What this peer makes us hold."""
        scope = self._peers.get(peer)
        if scope is None:
            if len(self._peers) >= IDLE_SCOPES_MAX + len(self._connected):
                self._peers = {p: s for p, s in self._peers.items() if p in self._connected or _in_use(s)}
            scope = self._peers[peer] = self._budget.child(f"peer {peer}", self._of_peer)
        return scope

    def of_group(self, address: Multiaddr) -> tuple[Scope, ...]:
        """What all peers of the group of `address` make us hold; none for loopback, on which nobody is a stranger."""
        group = group_of(address)
        if group is None:
            return ()
        scope = self._groups.get(group)
        if scope is None:
            if len(self._groups) >= IDLE_SCOPES_MAX:
                self._groups = {name: known for name, known in self._groups.items() if _in_use(known)}
            scope = self._groups[group] = self._budget.child(f"peers at {group}", self._of_group)
        return (scope,)


def _in_use(scope: Scope) -> bool:
    return any(scope.used(resource) for resource in Resource)
