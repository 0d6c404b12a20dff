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


def test_attack_6_who_goes_on_stays_while_older_ones_say_nothing_and_who_has_just_come_has_its_time() -> None:
    arrivals = Arrivals()
    dropped: list[str] = []
    names = ["proved", "silent", "agreed", "silent later", "agreed later", "just come"]
    proved, _, agreed, _, later, _ = (
        arrivals.add(at("8.8.8.8"), lambda name=name: dropped.append(name))  # type: ignore[misc]
        for name in names
    )
    proved.progress = 2
    agreed.progress = later.progress = 1
    while arrivals.drop_one() is not None:
        pass
    assert dropped == ["silent", "silent later", "agreed", "agreed later", "proved", "just come"]


def test_who_is_a_connection_now_is_not_dropped() -> None:
    arrivals = Arrivals()
    dropped: list[str] = []
    through = arrivals.add(at("9.9.9.9"), lambda: dropped.append("through"))
    arrivals.remove(through)
    arrivals.remove(through)
    assert arrivals.drop_one() is None and dropped == []
