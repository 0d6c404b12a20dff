"""Whose turn it is."""

from stack.bitswap.shell.fair_queue import FairQueue
from tests.bitswap.simulation import peer_named

ALICE, BOB = peer_named("alice"), peer_named("bob")


def taken(queue: FairQueue[str]) -> str:
    words = []
    while (word := queue.take()) is not None:
        words.append(word)
    return " ".join(words)


def test_who_brings_much_waits_behind_itself() -> None:
    queue: FairQueue[str] = FairQueue()
    for word in ("a1", "a2", "a3"):
        queue.add(ALICE, word)
    queue.add(BOB, "b1")
    queue.add(None, "n1")
    queue.add(BOB, "b2")
    assert queue and len(queue) == 6
    assert sorted(queue) == ["a1", "a2", "a3", "b1", "b2", "n1"]
    assert taken(queue) == "a1 b1 n1 a2 b2 a3"
    assert not queue and queue.take() is None


def test_what_is_put_back_is_the_next_of_its_peer_after_all_others() -> None:
    queue: FairQueue[str] = FairQueue()
    for word in ("a1", "a2"):
        queue.add(ALICE, word)
    queue.add(BOB, "b1")
    assert queue.take() == "a1"
    queue.put_back(ALICE, "a1")
    assert taken(queue) == "b1 a1 a2"
    queue.put_back(ALICE, "a3")
    assert taken(queue) == "a3"


def test_what_is_dropped_is_one_peers_alone() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add(ALICE, "a1")
    queue.add(BOB, "b1")
    queue.add(ALICE, "a2")
    assert queue.drop(ALICE) == ["a1", "a2"]
    assert queue.drop(ALICE) == []
    assert taken(queue) == "b1"
