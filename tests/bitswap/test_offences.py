"""Peers that send what nobody wanted."""

from stack.bitswap.offences import (
    COPIES_BYTES_MAX,
    COPY_BYTES,
    CUT_PEERS_MAX,
    CUT_SECONDS,
    UNWANTED_BLOCKS_MAX,
    UNWANTED_BYTES_MAX,
    Offences,
)
from tests.bitswap.simulation import peer_named

ALICE, BOB = peer_named("alice"), peer_named("bob")


def test_a_peer_is_cut_once_when_it_has_sent_too_many_blocks() -> None:
    offences = Offences()
    assert not any(offences.unwanted(ALICE, 1, 0.0) for _ in range(UNWANTED_BLOCKS_MAX))
    assert not offences.is_cut(ALICE, 0.0)
    assert offences.unwanted(ALICE, 1, 0.0)
    assert offences.of(ALICE) == (UNWANTED_BLOCKS_MAX + 1, UNWANTED_BLOCKS_MAX + 1)
    assert not offences.unwanted(ALICE, 1, 1.0)
    assert not offences.unwanted(BOB, 1, 1.0)


def test_a_peer_is_cut_when_it_has_sent_too_many_bytes() -> None:
    offences = Offences()
    assert not offences.unwanted(ALICE, UNWANTED_BYTES_MAX, 0.0)
    assert offences.unwanted(ALICE, 1, 0.0)


def test_a_cut_lasts_ten_minutes_over_new_connections() -> None:
    offences = Offences()
    offences.unwanted(ALICE, UNWANTED_BYTES_MAX + 1, 5.0)
    offences.peer_disconnected(ALICE)
    offences.peer_disconnected(ALICE)
    assert offences.of(ALICE) == (0, 0)
    assert offences.is_cut(ALICE, 5.0 + CUT_SECONDS - 1)
    assert not offences.is_cut(ALICE, 5.0 + CUT_SECONDS)
    assert not offences.is_cut(BOB, 5.0)
    assert offences.unwanted(ALICE, UNWANTED_BYTES_MAX + 1, 5.0 + CUT_SECONDS)


def test_peers_that_were_cut_are_remembered_within_a_bound() -> None:
    offences = Offences()
    for index in range(CUT_PEERS_MAX + 1):
        offences.unwanted(peer_named(str(index)), UNWANTED_BYTES_MAX + 1, 0.0)
    assert not offences.is_cut(peer_named("0"), 1.0)
    assert offences.is_cut(peer_named("1"), 1.0)
    assert offences.is_cut(peer_named(str(CUT_PEERS_MAX)), 1.0)


def test_copies_are_forgiven_up_to_so_many_bytes_of_each_connected_peer() -> None:
    """Finding 28."""
    offences = Offences()
    assert offences.copy(ALICE, COPIES_BYTES_MAX - COPY_BYTES)
    assert not offences.copy(ALICE, 1)
    assert offences.copy(BOB, 1)
    assert offences.of(ALICE) == (0, 0)
    offences.peer_disconnected(ALICE)
    assert offences.copy(ALICE, 1)


def test_copies_of_blocks_without_bytes_are_counted_too() -> None:
    offences = Offences()
    assert all(offences.copy(ALICE, 0) for _ in range(COPIES_BYTES_MAX // COPY_BYTES))
    assert not offences.copy(ALICE, 0)
