"""The budget: what is drawn from it is charged all the way up, once, and comes back."""

import pytest

from stack.errors import LimitExceeded
from stack.sansio.budget import Resource, Scope


def test_a_reservation_is_charged_in_every_scope_above_once_and_comes_back() -> None:
    node = Scope("node", {Resource.BYTES: 100})
    group, peer = node.child("group"), node.child("peer")
    stream = peer.child("stream", None, group)
    with stream.reserve(Resource.BYTES, 60) as held:
        assert [scope.used(Resource.BYTES) for scope in (node, group, peer, stream)] == [60] * 4
        assert repr(held) == "<Reservation 60 bytes of stream>"
        assert repr(node) == "<Scope node: bytes 60>"
    assert repr(node) == "<Scope node: empty>"


def test_what_does_not_fit_above_charges_nothing_below() -> None:
    node = Scope("node", {Resource.STREAMS_IN: 1})
    peer = node.child("peer", {Resource.STREAMS_IN: 5})
    held = peer.reserve(Resource.STREAMS_IN)
    with pytest.raises(LimitExceeded, match="of node"):
        held.grow(1)
    assert (held.amount, peer.used(Resource.STREAMS_IN), node.used(Resource.STREAMS_IN)) == (1, 1, 1)
    with pytest.raises(ValueError, match="positive"):
        held.grow(-1)
    held.release()
    held.release()
    assert node.used(Resource.STREAMS_IN) == 0
    assert (node.limit(Resource.STREAMS_IN), peer.limit(Resource.STREAMS_IN), node.limit(Resource.BYTES)) == (
        1,
        5,
        None,
    )


class Lent:
    """Bytes that somebody can do without; half of them go at each call."""

    def __init__(self, scope: Scope, amount: int) -> None:
        self._held = scope.reserve(Resource.BYTES, amount)
        self._held.lend(self)

    @property
    def spare(self) -> int:
        return self._held.amount

    def call_back(self) -> None:
        self._held.shrink(-(-self._held.amount // 2))
        if not self._held.amount:
            self._held.settle(self)


def test_finding_23_what_is_lent_is_called_back_for_what_is_needed_the_largest_first() -> None:
    node = Scope("node", {Resource.BYTES: 100})
    peer = node.child("peer")
    large, small = Lent(peer, 60), Lent(node, 30)
    assert node.without_room(Resource.BYTES, 100) is None
    assert node.without_room(Resource.BYTES, 101) is node
    needed = node.reserve(Resource.BYTES, 40)
    assert (large.spare, small.spare, node.used(Resource.BYTES)) == (30, 30, 100)
    needed.grow(60)
    assert (large.spare, small.spare, node.used(Resource.BYTES), peer.used(Resource.BYTES)) == (0, 0, 100, 0)
    assert not node.holders and not peer.holders


def test_finding_23_whoever_has_no_more_than_is_asked_for_keeps_it() -> None:
    node = Scope("node", {Resource.BYTES: 100})
    large, small = Lent(node, 60), Lent(node, 40)
    asking = node.reserve(Resource.BYTES, 0)
    with pytest.raises(LimitExceeded, match="of node"):
        asking.grow(60, keep=60)
    assert (large.spare, small.spare) == (60, 40)
    asking.grow(30, keep=40)
    assert (large.spare, small.spare) == (30, 40)
    with pytest.raises(LimitExceeded, match="of node"):  # half of what the larger one has is not enough
        asking.grow(35, keep=30)
    assert (asking.amount, node.used(Resource.BYTES)) == (30, 30 + large.spare + small.spare)


def test_finding_23_nothing_is_called_back_where_it_would_not_help() -> None:
    node = Scope("node", {Resource.BYTES: 100, Resource.TASKS: 0})
    lent = Lent(node, 100)
    other = node.child("other", {Resource.BYTES: 10})
    with pytest.raises(LimitExceeded, match="of other"):
        other.reserve(Resource.BYTES, 11)
    with pytest.raises(LimitExceeded, match="tasks of node"):
        node.reserve(Resource.TASKS)
    assert lent.spare == 100
