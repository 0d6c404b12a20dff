"""Peers of earlier runs: what is kept, what is thrown away, what a damaged file does."""

import json

import pytest

from stack.discovery.saved import (
    ADDRESSES_MAX,
    FILE_BYTES_MAX,
    KEPT_SECONDS,
    PEERS_MAX,
    SavedPeer,
    SavedPeers,
    decode_saved,
)
from stack.errors import DecodeError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.peerstore import Peerstore
from tests.net.identities import peer

NOW = 1_700_000_000.0
AT = (Multiaddr.parse("/ip4/10.0.0.2/tcp/1"),)


def stranger(number: int) -> PeerId:
    return PeerId.decode(b"\x00\x08" + number.to_bytes(8, "big"))


def test_what_is_written_is_read_again() -> None:
    saved = SavedPeers()
    saved.seen(SavedPeer(peer(1), NOW, AT, b"a record", True))
    saved.seen(SavedPeer(peer(2), NOW + 1, AT))
    again = decode_saved(saved.encode())
    assert again.recent(NOW + 2) == saved.recent(NOW + 2)
    assert again.encode() == saved.encode()
    assert len(again) == 2


def test_whom_a_dial_has_led_to_comes_first_then_the_one_seen_last() -> None:
    saved = SavedPeers([SavedPeer(peer(n), NOW + n, AT, None, n < 3) for n in range(5)])
    assert [each.peer for each in saved.recent(NOW)] == [peer(2), peer(1), peer(0), peer(4), peer(3)]


def test_old_ones_are_not_dialled_and_those_from_the_future_are() -> None:
    """Finding 39: a computer that begins with its clock in the past threw its list away."""
    saved = SavedPeers([SavedPeer(peer(1), NOW, AT)])
    assert saved.recent(NOW + KEPT_SECONDS - 1)
    assert not saved.recent(NOW + KEPT_SECONDS)
    assert saved.recent(NOW - KEPT_SECONDS) and saved.recent(0.0)
    [row] = saved.rows(0.0)
    store = Peerstore()
    store.load([row], 0.0)
    store.clock_jumped(NOW)
    assert store.addresses(peer(1), NOW) == list(AT)


def test_rows_for_the_peerstore_end_with_the_time_they_are_kept() -> None:
    saved = SavedPeers([SavedPeer(peer(1), NOW, AT, b"r"), SavedPeer(peer(2), NOW + 50, AT)])
    future, past = saved.rows(NOW + 10)
    assert (past.peer, past.record, past.addresses) == (str(peer(1)), b"r", ((str(AT[0]), NOW + KEPT_SECONDS),))
    assert future.addresses[0][1] == NOW + 10 + KEPT_SECONDS


def test_without_an_address_nobody_is_kept_and_few_addresses_are() -> None:
    saved = SavedPeers()
    saved.seen(SavedPeer(peer(1), NOW, ()))
    assert len(saved) == 0
    saved.seen(SavedPeer(peer(1), NOW, tuple(Multiaddr.parse(f"/ip4/10.0.0.2/tcp/{n}") for n in range(1, 60))))
    assert len(saved.recent(NOW)[0].addresses) == ADDRESSES_MAX


def test_a_flood_of_identities_does_not_push_out_those_we_have_dialled() -> None:
    saved = SavedPeers([SavedPeer(peer(n), NOW, AT, None, True) for n in range(8)])
    for number in range(3 * PEERS_MAX):
        saved.seen(SavedPeer(stranger(number), NOW + 1, AT))
    assert len(saved) == PEERS_MAX
    assert {each.peer for each in saved.recent(NOW)[:8]} == {peer(n) for n in range(8)}
    for number in range(2 * PEERS_MAX):
        saved.seen(SavedPeer(stranger(number), NOW + 2, AT, None, True))
    assert len(saved) == PEERS_MAX


GOOD = {"peer": str(peer(1)), "seen": NOW, "addresses": [str(AT[0])], "dialled": True, "record": None}


def test_a_row_that_is_right_is_read() -> None:
    (row,) = decode_saved(json.dumps({"version": 1, "peers": [GOOD]}).encode()).recent(NOW)
    assert row == SavedPeer(peer(1), NOW, AT, None, True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"version": 2, "peers": []}',
        b'{"version": 1, "peers": 7}',
        b'{"version": 1, "peers": [7]}',
        b"[" * 100_000,
        *(
            json.dumps({"version": 1, "peers": [{**GOOD, **wrong}]}).encode()
            for wrong in (
                {"peer": "nobody"},
                {"seen": "today"},
                {"seen": float("nan")},
                {"addresses": "/ip4/1.2.3.4"},
                {"addresses": ["nowhere"]},
                {"record": "!"},
                {"record": "A" * 20_000},
            )
        ),
        b" " * (FILE_BYTES_MAX + 1),
    ],
)
def test_a_damaged_file_is_told(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_saved(data)
