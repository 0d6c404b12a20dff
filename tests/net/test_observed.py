"""Addresses that others observe."""

from stack.multiformats.multiaddr import Multiaddr
from stack.net.observed import BELIEVED_MAX, VOTE_SECONDS, WITNESSES_MAX, WITNESSES_MIN, ObservedAddresses

OURS = Multiaddr.parse("/ip4/9.9.9.9/tcp/4001")


def witness(number: int, host: int = 1) -> Multiaddr:
    """A peer in a neighbourhood of its own."""
    return Multiaddr.parse(f"/ip4/8.{number // 256}.{number % 256}.{host}/tcp/1")


def test_an_address_is_believed_when_enough_neighbourhoods_say_it() -> None:
    observed = ObservedAddresses()
    for number in range(WITNESSES_MIN - 1):
        observed.observe(witness(number), OURS, 0.0)
    assert observed.believed(0.0) == []
    observed.observe(witness(WITNESSES_MIN), OURS, 0.0)
    assert observed.believed(0.0) == [OURS]
    assert observed.believed(VOTE_SECONDS + 1) == []


def test_many_peers_of_one_neighbourhood_have_one_vote() -> None:
    observed = ObservedAddresses()
    for host in range(1, 200):
        observed.observe(witness(0, host), OURS, 0.0)
    assert observed.believed(0.0) == []
    assert len(observed) == 1


def test_only_public_addresses_told_from_afar_count() -> None:
    observed = ObservedAddresses()
    for number in range(8):
        observed.observe(Multiaddr.parse(f"/ip4/10.0.{number}.1/tcp/1"), OURS, 0.0)
        observed.observe(Multiaddr.parse("/ip4/127.0.0.1/tcp/1"), OURS, 0.0)
        observed.observe(witness(number), Multiaddr.parse("/ip4/192.168.1.1/tcp/1"), 0.0)
        observed.observe(witness(number), Multiaddr.parse("/dns4/example.com/tcp/1"), 0.0)
    assert len(observed) == 0


def test_A33_thousands_of_observed_addresses_leave_a_bounded_table_and_nothing_believed() -> None:
    observed = ObservedAddresses()
    for number in range(2_000):
        address = Multiaddr.parse(f"/ip4/9.{number // 256}.{number % 256}.9/tcp/4001")
        observed.observe(witness(number), address, float(number))
    assert len(observed) == WITNESSES_MAX
    assert observed.believed(2_000.0) == []


def test_few_addresses_are_told_even_when_many_are_attested() -> None:
    observed = ObservedAddresses()
    for number in range(WITNESSES_MAX):
        observed.observe(witness(number), Multiaddr.parse(f"/ip4/9.9.9.{number % 40}/tcp/1"), 0.0)
    assert len(observed.believed(0.0)) == BELIEVED_MAX
