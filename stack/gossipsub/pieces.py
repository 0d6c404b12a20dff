"""An RPC in pieces, each of little work: a peer may put thousands of entries into one, and others are waiting."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from stack.gossipsub.messages import Control, Rpc

T = TypeVar("T")

ENTRIES_MAX = 64
"""Subscriptions, messages, GRAFTs, PRUNEs or wanted ids in one piece: half a millisecond. What is told by IHAVE and IDONTWANT stays
together, for both are counted by RPC and looked at up to a bound."""


def pieces(rpc: Rpc) -> Iterator[Rpc]:
    """The same as one RPC after the other; most are one piece."""
    control = rpc.control
    entries = len(rpc.subscriptions) + len(rpc.publish)
    if control is not None:
        entries += len(control.iwant) + len(control.graft) + len(control.prune)
    if entries <= ENTRIES_MAX:
        yield rpc
        return
    for part in _parts(rpc.subscriptions):
        yield Rpc(subscriptions=part)
    for messages in _parts(rpc.publish):
        yield Rpc(publish=messages)
    if rpc.skipped_bytes:
        yield Rpc(skipped_bytes=rpc.skipped_bytes)
    if control is None:
        return
    for ids in _parts(control.iwant):
        yield Rpc(control=Control(iwant=ids))
    for grafts in _parts(control.graft):
        yield Rpc(control=Control(graft=grafts))
    for prunes in _parts(control.prune):
        yield Rpc(control=Control(prune=prunes))
    yield Rpc(control=replace(control, iwant=(), graft=(), prune=()))


def _parts(entries: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return (tuple(entries[at : at + ENTRIES_MAX]) for at in range(0, len(entries), ENTRIES_MAX))
