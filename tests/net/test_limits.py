"""The figures, and the gate for inbound connections."""

from dataclasses import replace

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.net.limits import DEBT_SECONDS_MAX, InboundGate, NetLimits, Refusal, TokenBucket
from tests.net.identities import peers_in_order

LIMITS = NetLimits(connections_per_group=3, group_rate=2.0, group_burst=5)


def at(last: int) -> Multiaddr:
    """A public address."""
    return Multiaddr.parse(f"/ip4/8.8.{last // 256}.{last % 256}/tcp/1")


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(0.5, 3, now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(11.0)
    assert bucket.take(12.0)
    assert not bucket.take(12.0)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_so_many_connections_of_one_group_stand_at_a_time() -> None:
    gate = InboundGate(LIMITS)
    assert [gate.admit(at(1), 0.0) for _ in range(4)] == [None, None, None, Refusal.GROUP]
    assert gate.admit(at(2), 0.0) is None
    gate.leave(at(1))
    assert gate.admit(at(1), 1.0) is None


def test_where_one_can_go_for_it_a_newcomer_is_let_in_at_the_rate_of_its_group() -> None:
    gate = InboundGate(LIMITS)
    for _ in range(3):
        assert gate.admit(at(1), 0.0) is None

    def displace() -> bool:
        gate.leave(at(1))
        return True

    assert [gate.admit(at(1), 0.0, displace) for _ in range(3)] == [None, None, Refusal.RATE]
    assert gate.admit(at(1), 1.0) is Refusal.GROUP


def test_A04_new_connections_of_one_group_come_at_a_bounded_rate_and_others_do_not_notice() -> None:
    gate = InboundGate(LIMITS)
    admitted = 0
    for tick in range(5000):
        if gate.admit(at(1), tick / 1000) is None:
            admitted += 1
            gate.leave(at(1))
    assert admitted == 5 + 2 * 5 - 1
    assert gate.admit(at(1), 5.0) is Refusal.RATE
    assert gate.admit(at(2), 5.0) is None


def test_attack_5_who_was_cut_off_comes_back_late_and_not_later_than_a_minute() -> None:
    gate = InboundGate(LIMITS)
    assert gate.admit(at(1), 0.0) is None
    gate.charge(at(1), 20)
    gate.leave(at(1))
    assert gate.admit(at(1), 8.0) is Refusal.RATE
    assert gate.admit(at(2), 8.0) is None
    assert gate.admit(at(1), 8.6) is None
    gate.charge(at(1), 1_000_000)
    gate.leave(at(1))
    assert gate.admit(at(1), 8.6 + DEBT_SECONDS_MAX) is Refusal.RATE
    assert gate.admit(at(1), 8.6 + DEBT_SECONDS_MAX + 0.6) is None


def test_loopback_and_who_was_forgotten_owe_nothing() -> None:
    gate = InboundGate(LIMITS)
    gate.charge(Multiaddr.parse("/ip4/127.0.0.1/tcp/1"), 20)
    gate.charge(at(7), 20)
    assert gate.admit(at(7), 0.0) is None


def test_an_ipv6_site_is_one_group() -> None:
    gate = InboundGate(LIMITS)
    texts = [f"/ip6/2a00:1450:4001:8{host:02x}::1/tcp/1" for host in range(4)]
    assert [gate.admit(Multiaddr.parse(text), 0.0) for text in texts] == [None, None, None, Refusal.GROUP]


def test_loopback_and_memory_have_no_limit() -> None:
    gate = InboundGate(LIMITS)
    for text in ("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/memory/1"):
        address = Multiaddr.parse(text)
        assert {gate.admit(address, 0.0) for _ in range(100)} == {None}
        gate.leave(address)
    assert gate.groups == 0


def test_A04_a_flood_of_addresses_costs_a_bounded_table() -> None:
    gate = InboundGate(LIMITS)
    for number in range(gate.BUCKETS_MAX + 500):
        assert gate.admit(at(number), 0.0) is None
        gate.leave(at(number))
    assert len(gate._buckets) == gate.BUCKETS_MAX
    assert gate.groups == 0


def test_water_marks_must_make_sense() -> None:
    with pytest.raises(ValueError, match="low_water"):
        NetLimits(low_water=10, high_water=5)


def test_who_comes_through_a_relay_takes_no_place_of_who_is_where_that_is() -> None:
    relay = peers_in_order(1)[0]
    through = Multiaddr.parse(f"{at(1)}/p2p/{relay}/p2p-circuit")
    gate = InboundGate(replace(LIMITS, connections_per_relay=4))
    assert [gate.admit(through, 0.0) for _ in range(5)] == [None, None, None, None, Refusal.GROUP]
    assert gate.admit(at(1), 0.0) is None
    gate.leave(through)
    assert gate.admit(through, 1.0) is None
    gate.charge(through, 100)
    gate.leave(through)
    assert gate.admit(through, 2.0) is Refusal.RATE
