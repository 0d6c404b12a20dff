"""What updates of each peer cost."""

import pytest

from stack.protocols.providers import work as module
from stack.protocols.providers.work import PeerWork
from tests.protocols.providers.test_swarm import PEERS


def test_a_peer_that_cost_much_waits_and_others_do_not() -> None:
    work = PeerWork()
    assert work.take(PEERS[0], 0.25, 0.0) == 0
    assert work.take(PEERS[0], 0.1, 0.0) == pytest.approx(0.8)
    assert work.take(PEERS[1], 0.0, 0.0) == 0
    assert work.take(PEERS[0], 0.0, 0.8) == pytest.approx(0)


def test_so_many_peers_are_remembered_and_those_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS_MAX", 2)
    work = PeerWork()
    for peer in (PEERS[0], PEERS[1], PEERS[0], PEERS[2]):
        work.take(peer, 1.0, 0.0)
    assert work.take(PEERS[0], 0.0, 0.0) > work.take(PEERS[2], 0.0, 0.0) > 0
    assert work.take(PEERS[1], 0.0, 0.0) == 0
