"""Who goes when there are too many handshakes under way (attack 6)."""

from stack.multiformats.multiaddr import Multiaddr
from stack.net.arrivals import Arrivals


def at(ip: str) -> Multiaddr:
    return Multiaddr.parse(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/1")


def test_attack_6_the_oldest_of_the_largest_neighbourhood_goes() -> None:
    arrivals = Arrivals()
    dropped: list[str] = []
    for ip in ("9.9.9.9", "8.8.8.1", "8.8.8.2", "2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"):
        arrivals.add(at(ip), lambda ip=ip: dropped.append(ip))  # type: ignore[misc]
    while arrivals.drop_one() is not None:
        pass
    assert dropped == ["2001:db8:1:1::1", "8.8.8.1", "2001:db8:1:2::1", "9.9.9.9", "8.8.8.2", "2001:db8:1:3::1"]


def test_attack_6_who_has_said_nothing_yet_goes_first_wherever_it_comes_from() -> None:
    arrivals = Arrivals()
    dropped: list[str] = []
    first, second, third = (
        arrivals.add(at("8.8.8.8"), lambda name=name: dropped.append(name))  # type: ignore[misc]
        for name in ("proved", "agreed", "agreed later")
    )
    arrivals.shown(second)
    for _ in range(2):
        arrivals.shown(first)
    arrivals.add(at("9.9.9.9"), lambda: dropped.append("silent"))
    arrivals.shown(third)
    while arrivals.drop_one() is not None:
        pass
    assert dropped == ["silent", "agreed", "agreed later", "proved"]


def test_who_is_a_connection_now_is_not_dropped() -> None:
    arrivals = Arrivals()
    dropped: list[str] = []
    through = arrivals.add(at("9.9.9.9"), lambda: dropped.append("through"))
    arrivals.remove(through)
    arrivals.remove(through)
    assert arrivals.drop_one() is None and dropped == []
