"""Who may ask about a root: so many streams, of one peer two, and where all places are taken they go round. Pure."""

from stack.identity.peer_id import PeerId
from stack.protocols.providers.subscription import Root, Subscription

STREAMS_PER_ROOT_MAX = 64
"""Streams that others have opened about one root."""

STREAMS_PER_PEER_AND_ROOT_MAX = 2
"""The one, and one that has not been noticed to be gone. Two peers with 32 each kept everybody else from hearing of a root."""


def find_place(root: Root, peer: PeerId, group: str | None) -> tuple[bool, Subscription | None]:
    """Whether one more stream of a peer, from a group of addresses (None: groups do not count), is served; and which has to go for it.

    That is the newest of who holds most, each group counted as one: a room behind one router has all places while nobody else asks.
    """
    asking = [stream for stream in root.streams.values() if stream.inbound]
    if sum(stream.peer == peer for stream in asking) >= STREAMS_PER_PEER_AND_ROOT_MAX:
        return False, None
    if len(asking) < STREAMS_PER_ROOT_MAX:
        return True, None
    held: dict[str | PeerId, list[Subscription]] = {}
    for stream in asking:
        held.setdefault(stream.group or stream.peer, []).append(stream)
    most = max(held.values(), key=len)
    more = len(most) > len(held.get(group or peer, ())) + 1
    return more, most[-1] if more else None
