"""What is kept of other peers, and for how long."""

import tracemalloc

import pytest

from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr
from stack.net.peerstore import (
    ADDRESSES_AFTER_DISCONNECT_MAX,
    ADDRESSES_PER_PEER_MAX,
    CONNECTED_SECONDS,
    DIALLED_MAX,
    DIALLED_SECONDS,
    HEARD_SECONDS,
    PROTOCOLS_MAX,
    RECENT_SECONDS,
    RECORD_BYTES_MAX,
    PeerRow,
    Peerstore,
)
from tests.flooding import quickest
from tests.net.identities import key, peer

NOW = 1_000_000.0


def address(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/memory/{number}")


def record(number: int, sequence: int, *addresses: Multiaddr) -> bytes:
    return PeerRecord(peer(number), sequence, addresses).seal(key(number))


def test_addresses_expire_and_an_expiry_only_moves_later() -> None:
    store = Peerstore()
    store.add_addresses(peer(1), [address(1)], 100.0, NOW)
    store.add_addresses(peer(1), [address(1), address(2)], 10.0, NOW)
    assert store.addresses(peer(1), NOW) == [address(1), address(2)]
    assert store.addresses(peer(1), NOW + 11) == [address(1)]
    assert store.addresses(peer(1), NOW + 101) == []
    assert store.addresses(peer(2), NOW) == []


def test_what_seems_expired_before_a_sleep_is_noticed_is_not_gone() -> None:
    """Whoever asked in those five seconds had the addresses of the peer removed for good."""
    store = Peerstore()
    store.add_addresses(peer(1), [address(1)], RECENT_SECONDS, NOW)
    store.dialled(peer(1), address(2), NOW)
    slept = DIALLED_SECONDS + 1
    assert store.addresses(peer(1), NOW + slept) == []
    store.clock_jumped(slept)
    assert store.addresses(peer(1), NOW + slept) == [address(2), address(1)]


def test_wildcards_and_endless_addresses_are_not_kept() -> None:
    store = Peerstore()
    long = Multiaddr.parse("/dns4/a" + "/tcp/1" * 200)
    store.add_addresses(peer(1), [Multiaddr.parse("/ip4/0.0.0.0/tcp/1"), long], 100.0, NOW)
    assert len(store) == 0


def test_A07_addresses_of_a_peer_are_bounded_and_those_that_were_dialled_stay() -> None:
    store = Peerstore()
    store.dialled(peer(1), address(0), NOW)
    for start in range(1, 20_000, 1000):
        store.add_addresses(peer(1), [address(n) for n in range(start, start + 1000)], HEARD_SECONDS, NOW + start)
    kept = store.addresses(peer(1), NOW)
    assert len(kept) <= ADDRESSES_PER_PEER_MAX
    assert kept[0] == address(0)
    for number in range(100):
        store.dialled(peer(1), address(number), NOW)
    assert len(store.addresses(peer(1), NOW)) <= ADDRESSES_PER_PEER_MAX
    assert DIALLED_MAX < ADDRESSES_PER_PEER_MAX


def test_A07_peers_are_bounded_and_connected_ones_stay() -> None:
    store = Peerstore(peers_max=50)
    store.peer_connected(peer(0))
    made = [PeerId.decode(b"\x00\x08" + n.to_bytes(8, "big")) for n in range(200)]
    for stranger in made:
        store.add_addresses(stranger, [address(1)], HEARD_SECONDS, NOW)
    assert len(store) == 50
    assert store.peers()[0] == peer(0)
    assert store.peers()[-1] == made[-1]


def test_a_store_full_of_connected_peers_grows_rather_than_lie() -> None:
    store = Peerstore(peers_max=1)
    store.peer_connected(peer(0))
    store.peer_connected(peer(1))
    store.peer_connected(peer(2))
    assert len(store) == 3
    store.peer_disconnected(peer(0), NOW)
    assert store.peers() == [peer(1), peer(2)]


def test_attack_6_a_peer_that_has_gone_and_told_no_address_is_forgotten() -> None:
    """100,000 of them stayed."""
    store = Peerstore()
    for number in range(3):
        store.peer_connected(peer(number))
        store.identified(peer(number), ["/echo/1"], "a program")
    store.add_addresses(peer(1), [address(1)], CONNECTED_SECONDS, NOW)
    store.dialled(peer(2), address(2), NOW)
    for number in range(3):
        store.peer_disconnected(peer(number), NOW)
    assert store.peers() == [peer(1), peer(2)]


def test_attack_6_strangers_with_as_many_addresses_as_they_may_have_fill_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stack.net.peerstore.BYTES_MAX", 1 << 20)
    store = Peerstore()
    store.peer_connected(peer(0))
    tracemalloc.start()
    try:
        for number in range(200):
            stranger = PeerId.decode(b"\x00\x08" + number.to_bytes(8, "big"))
            told = [Multiaddr.parse(f"/dns/{'x' * 60}.{number}.org/tcp/{n}") for n in range(1, 21)]
            store.add_addresses(stranger, told, HEARD_SECONDS, NOW)
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert 50 < len(store) < 100
    assert store.peers()[0] == peer(0)
    for known in store.peers():
        store.forget(known)
    assert store._bytes == 0


def test_A05_only_the_own_record_of_the_source_is_taken() -> None:
    store = Peerstore()
    for _ in range(100):
        stranger = generate()
        made = PeerRecord(PeerId.of(stranger.public), 1, (address(1),)).seal(stranger)
        assert not store.add_record(peer(1), made, HEARD_SECONDS, NOW)
    assert store.add_record(peer(1), record(1, 1, address(1)), HEARD_SECONDS, NOW)
    assert store.peers() == [peer(1)]


def test_A06_a_record_that_another_key_signed_is_refused() -> None:
    from stack.identity.envelope import Envelope
    from stack.identity.peer_record import DOMAIN, PAYLOAD_TYPE

    store = Peerstore()
    forged = Envelope.seal(key(2), DOMAIN, PAYLOAD_TYPE, PeerRecord(peer(1), 9, (address(1),)).encode()).encode()
    assert not store.add_record(peer(1), forged, HEARD_SECONDS, NOW)
    assert not store.add_record(peer(2), forged, HEARD_SECONDS, NOW)
    assert not store.add_record(peer(1), b"garbage", HEARD_SECONDS, NOW)
    assert not store.add_record(peer(1), bytes(RECORD_BYTES_MAX + 1), HEARD_SECONDS, NOW)
    assert len(store) == 0


def test_a_newer_record_replaces_an_older_one_and_not_the_other_way_round() -> None:
    store = Peerstore()
    first, second = record(1, 1, address(1)), record(1, 2, address(2))
    assert store.add_record(peer(1), first, HEARD_SECONDS, NOW)
    assert store.add_record(peer(1), second, HEARD_SECONDS, NOW)
    assert not store.add_record(peer(1), first, HEARD_SECONDS, NOW)
    assert not store.add_record(peer(1), second, HEARD_SECONDS, NOW)
    assert store.addresses(peer(1), NOW) == [address(2)]
    assert store.record(peer(1)) == second
    assert store.record(peer(2)) is None


def test_A12_a_record_without_addresses_is_taken_and_harmless() -> None:
    store = Peerstore()
    assert store.add_record(peer(1), record(1, 1), HEARD_SECONDS, NOW)
    assert store.addresses(peer(1), NOW) == []
    assert store.export(NOW) == []


def test_records_are_bounded() -> None:
    store = Peerstore(records_max=2)
    for number in range(1, 4):
        assert store.add_record(peer(number), record(number, 1, address(1)), HEARD_SECONDS, NOW)
    assert store.record(peer(1)) is None
    assert store.record(peer(3)) is not None


def test_certified_addresses_come_before_hearsay() -> None:
    store = Peerstore()
    store.add_record(peer(1), record(1, 1, address(1)), HEARD_SECONDS, NOW)
    store.add_addresses(peer(1), [address(2)], HEARD_SECONDS * 2, NOW)
    assert store.addresses(peer(1), NOW) == [address(1), address(2)]


def test_A32_what_a_peer_tells_replaces_what_it_told() -> None:
    store = Peerstore()
    store.dialled(peer(1), address(0), NOW)
    for number in range(1, 1000):
        store.replace_addresses(peer(1), [address(number), address(number + 1)], CONNECTED_SECONDS, NOW)
    assert store.addresses(peer(1), NOW) == [address(0), address(999), address(1000)]


def test_a_peer_that_leaves_keeps_fewer_addresses_for_a_while() -> None:
    store = Peerstore()
    store.peer_connected(peer(1))
    store.identified(peer(1), ["/a"], "agent")
    store.add_addresses(peer(1), [address(n) for n in range(40)], CONNECTED_SECONDS, NOW)
    store.peer_disconnected(peer(1), NOW)
    store.peer_disconnected(peer(2), NOW)
    assert len(store.addresses(peer(1), NOW)) == ADDRESSES_AFTER_DISCONNECT_MAX
    assert store.addresses(peer(1), NOW + RECENT_SECONDS + 1) == []
    assert store.protocols(peer(1)) is None
    assert store.agent(peer(1)) == "agent"


def test_A30_protocols_and_agent_are_bounded() -> None:
    store = Peerstore()
    store.identified(peer(1), [f"/{n}" for n in range(5000)], "x" * 1000)
    protocols, agent = store.protocols(peer(1)), store.agent(peer(1))
    assert protocols is not None
    assert agent is not None
    assert len(protocols) == PROTOCOLS_MAX
    assert len(agent) == 128
    store.identified(peer(1), None, None)
    assert store.protocols(peer(1)) == protocols
    assert (store.protocols(peer(2)), store.agent(peer(2))) == (None, None)


def test_what_is_known_survives_a_restart() -> None:
    store = Peerstore()
    store.dialled(peer(1), address(1), NOW)
    store.add_record(peer(2), record(2, 5, address(2)), CONNECTED_SECONDS, NOW)
    store.add_addresses(peer(3), [address(3)], 10.0, NOW)
    rows = store.export(NOW + 60)
    assert [row.peer for row in rows] == [str(peer(1)), str(peer(2))]
    again = Peerstore()
    again.load(rows, NOW + 60)
    assert again.addresses(peer(1), NOW + 60) == [address(1)]
    assert again.addresses(peer(2), NOW + 60) == [address(2)]
    assert again.record(peer(2)) == store.record(peer(2))
    assert again.addresses(peer(1), NOW + 60 + DIALLED_SECONDS) == []


def test_damaged_rows_are_skipped() -> None:
    store = Peerstore()
    rows = [
        PeerRow("not a peer", (("/memory/1", NOW + 5),), None),
        PeerRow(str(peer(1)), (("nonsense", NOW + 5),), None),
        PeerRow(str(peer(2)), (("/memory/1", NOW - 5), ("/memory/2", NOW + 1e12)), b"no record"),
        PeerRow(str(peer(3)), (("/memory/1", NOW + 5),), None),
    ]
    store.load(rows, NOW)
    assert store.peers() == [peer(3)]


def test_a_peer_can_be_forgotten() -> None:
    store = Peerstore()
    store.add_record(peer(1), record(1, 1, address(1)), HEARD_SECONDS, NOW)
    store.forget(peer(1))
    store.forget(peer(1))
    assert len(store) == 0
    assert store.record(peer(1)) is None


@pytest.mark.parametrize("count", [20_000])
def test_A07_a_flood_of_peers_costs_little_time(count: int) -> None:
    made = [PeerId.decode(b"\x00\x08" + n.to_bytes(8, "big")) for n in range(count)]

    def work() -> None:
        store = Peerstore(peers_max=count // 2)
        for stranger in made:
            store.add_addresses(stranger, [address(1)], HEARD_SECONDS, NOW)

    assert quickest(work) < 2.0
