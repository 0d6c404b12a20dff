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
