"""The simulated network itself."""

import pytest

from tests.sim.simnet import Link, SimNet

Arrival = tuple[float, object, object]


def inbox(net: SimNet[str], name: str, **lines: float) -> list[Arrival]:
    """A peer that notes what comes, and when."""
    arrived: list[Arrival] = []
    net.add(name, lambda sender, message: arrived.append((round(net.now, 6), sender, message)), **lines)
    return arrived


def test_a_message_takes_the_latency_of_its_link() -> None:
    net: SimNet[str] = SimNet(default=Link(latency=0.1))
    inbox(net, "a")
    got = inbox(net, "b")
    net.link("a", "b", Link(latency=0.5))
    net.send("a", "b", "one", 10)
    net.send("b", "a", "two", 10)
    assert net.run()
    assert got == [(0.5, "a", "one")]
    assert net.bytes_sent == {"a": 10, "b": 10}
    assert repr(net) == "<SimNet at 0.500 s, 2 peers>"


def test_lines_and_links_carry_so_many_bytes_a_second() -> None:
    net: SimNet[str] = SimNet(default=Link(latency=0.0))
    inbox(net, "a", upload=100.0)
    fast, slow = inbox(net, "b"), inbox(net, "c", download=10.0)
    net.send("a", "b", 1, 100)
    assert net.line_free("a") == 1.0
    net.send("a", "b", 2, 100)
    net.send("a", "c", 3, 100)
    net.run()
    assert fast == [(1.0, "a", 1), (2.0, "a", 2)]
    assert slow == [(13.0, "a", 3)]
    net.link("a", "b", Link(latency=0.0, bandwidth=50.0), both=False)
    net.send("a", "b", 4, 100)
    net.run()
    assert fast[-1] == (16.0, "a", 4)
    assert net.line_free("nobody") == net.now


def test_a_reliable_link_keeps_the_order_and_loses_nothing() -> None:
    net: SimNet[str] = SimNet(3, default=Link(latency=0.1, loss=0.4))
    inbox(net, "a")
    got = inbox(net, "b")
    for index in range(100):
        net.send("a", "b", index, 1)
    net.run()
    assert [message for _, _, message in got] == list(range(100))
    assert got[-1][0] > 0.1


def test_an_unreliable_link_loses_its_part() -> None:
    net: SimNet[str] = SimNet(3, default=Link(latency=0.1, loss=0.3, reliable=False))
    inbox(net, "a")
    got = inbox(net, "b")
    for index in range(1000):
        net.send("a", "b", index, 1)
    net.run()
    assert 600 < len(got) < 800


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[Arrival]:
        net: SimNet[str] = SimNet(seed, default=Link(latency=0.1, loss=0.5))
        inbox(net, "a")
        got = inbox(net, "b")
        for index in range(20):
            net.send("a", "b", index, 1)
        net.run()
        return got

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_frozen_peer_takes_in_what_came_when_it_thaws() -> None:
    net: SimNet[str] = SimNet(default=Link(latency=0.1))
    inbox(net, "a")
    got = inbox(net, "b")
    net.freeze("b")
    net.send("a", "b", 1, 1)
    net.run()
    assert got == []
    net.call_later(5.0, lambda: net.thaw("b"))
    net.run()
    assert got == [(5.1, "a", 1)]
    net.thaw("b")


def test_what_is_sent_to_or_from_nobody_is_lost() -> None:
    net: SimNet[str] = SimNet()
    got = inbox(net, "a")
    net.send("a", "b", 1, 1)
    net.send("b", "a", 1, 1)
    inbox(net, "b")
    net.send("b", "a", 2, 1)
    net.send("a", "b", 3, 1)
    net.remove("b")
    net.run()
    assert [message for _, _, message in got] == [2]


@pytest.mark.parametrize(
    ("until", "seconds", "holds", "now"), [(3, 10.0, True, 3.0), (9, 5.0, False, 5.0), (99, 50.0, False, 10.0)]
)
def test_time_passes_until_the_condition_holds_the_limit_comes_or_all_is_done(
    until: int, seconds: float, holds: bool, now: float
) -> None:
    net: SimNet[str] = SimNet()
    ticks: list[float] = []
    for second in range(1, 11):
        net.call_at(float(second), lambda: ticks.append(net.now))
    assert net.run(lambda: len(ticks) >= until, seconds=seconds) is holds
    assert net.now == now


def test_things_set_for_the_same_time_happen_in_order_and_never_in_the_past() -> None:
    net: SimNet[str] = SimNet()
    done: list[int] = []
    net.call_at(1.0, lambda: net.call_at(0.5, lambda: done.append(3)))
    net.call_at(1.0, lambda: done.append(1))
    net.call_at(1.0, lambda: done.append(2))
    assert net.run()
    assert done == [1, 2, 3]
    assert net.now == 1.0


def test_who_is_on_another_side_of_a_partition_is_not_reached_until_it_heals() -> None:
    net: SimNet[str] = SimNet()
    inbox(net, "a")
    got, stranger = inbox(net, "b"), inbox(net, "c")
    seen: list[object] = []
    net.tap = lambda now, sender, receiver, message: seen.append(message)
    net.partition({"a": 1, "b": 1})
    net.call_at(0.0, net.send, "a", "b", 1, 1)
    net.send("a", "c", 2, 1)
    net.run()
    net.partition(None)
    net.send("a", "c", 3, 1)
    net.run()
    assert [message for _, _, message in got] == [1]
    assert [message for _, _, message in stranger] == [3]
    assert seen == [2, 1, 3]
