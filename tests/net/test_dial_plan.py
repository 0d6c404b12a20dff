"""Which addresses are dialled, in which order, and when."""

from hypothesis import given
from hypothesis import strategies as st

from stack.multiformats.multiaddr import Multiaddr
from stack.net.dial_plan import (
    ADDRESSES_MAX,
    BACKOFF_MAX_SECONDS,
    BACKOFFS_MAX,
    CONCURRENT_MAX,
    RELAY_DELAY_SECONDS,
    DialBackoff,
    DialPlan,
    rank,
)


def parse(*texts: str) -> list[Multiaddr]:
    return [Multiaddr.parse(text) for text in texts]


def ranked(*texts: str) -> list[tuple[float, str]]:
    return [(round(delay, 3), str(address)) for delay, address in rank(parse(*texts))]


def plan(*texts: str) -> DialPlan:
    made = DialPlan(lambda address: "udp" not in address.protocols)
    made.add(parse(*texts), 0.0)
    return made


def test_families_alternate_and_the_better_one_has_a_head_start() -> None:
    assert ranked("/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.9/tcp/1", "/ip6/2a00::1/tcp/1", "/ip6/2a00::2/tcp/1") == [
        (0.0, "/ip6/2a00::1/tcp/1"),
        (0.25, "/ip4/8.8.8.8/tcp/1"),
        (0.5, "/ip6/2a00::2/tcp/1"),
        (0.75, "/ip4/8.8.8.9/tcp/1"),
    ]


def test_private_and_public_addresses_start_together() -> None:
    assert ranked("/ip4/8.8.8.8/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1") == [
        (0.0, "/ip4/127.0.0.1/tcp/1"),
        (0.0, "/ip4/10.0.0.1/tcp/1"),
        (0.0, "/ip4/8.8.8.8/tcp/1"),
        (0.03, "/ip4/10.0.0.2/tcp/1"),
    ]


def test_tcp_comes_before_what_wraps_it() -> None:
    assert ranked("/ip4/8.8.8.8/tcp/2/ws", "/ip4/8.8.8.8/tcp/1") == [
        (0.0, "/ip4/8.8.8.8/tcp/1"),
        (0.25, "/ip4/8.8.8.8/tcp/2/ws"),
    ]


def test_addresses_come_when_they_are_due() -> None:
    made = plan("/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.9/tcp/1")
    assert str(made.next_address(0.0)) == "/ip4/8.8.8.8/tcp/1"
    assert made.next_address(0.2) is None
    assert made.next_timeout() == 0.25
    assert str(made.next_address(0.25)) == "/ip4/8.8.8.9/tcp/1"
    assert made.next_timeout() is None
    assert not made.done


def test_a_failure_brings_the_next_address_forward() -> None:
    made = plan("/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.9/tcp/1")
    first = made.next_address(0.0)
    assert first is not None
    made.failed(first, "refused", 0.01)
    second = made.next_address(0.01)
    assert second is not None
    made.failed(second, "refused too", 0.02)
    assert made.done
    assert [(str(a.address), a.reason) for a in made.attempts] == [
        ("/ip4/8.8.8.8/tcp/1", "refused"),
        ("/ip4/8.8.8.9/tcp/1", "refused too"),
    ]


def test_what_cannot_be_dialled_is_reported_without_being_tried() -> None:
    made = plan("/ip4/0.0.0.0/tcp/1", "/ip4/8.8.8.8/udp/1")
    made.refuse(parse("/memory/9")[0], "resting")
    made.refuse(parse("/memory/9")[0], "resting again")
    made.add(parse("/memory/9"), 0.0)
    assert made.done
    assert [attempt.reason for attempt in made.attempts] == [
        "not an address that can be connected to",
        "no transport for this address",
        "resting",
    ]


def test_so_many_attempts_run_at_once() -> None:
    made = plan(*(f"/memory/{n}" for n in range(20)))
    started = [made.next_address(10.0) for _ in range(20)]
    assert sum(address is not None for address in started) == CONCURRENT_MAX
    assert made.next_timeout() is None
    assert started[0] is not None
    made.failed(started[0], "x", 10.0)
    assert made.next_address(10.0) is not None


def test_A08_so_many_addresses_are_tried_for_one_dial() -> None:
    made = plan(*(f"/memory/{n}" for n in range(1000)))
    made.add(parse(*(f"/memory/{n}" for n in range(1000, 2000))), 0.0)
    tried = set()
    while (address := made.next_address(100.0)) is not None:
        tried.add(address)
        made.failed(address, "x", 100.0)
    assert len(tried) == ADDRESSES_MAX
    made.refuse(parse("/memory/5000")[0], "one too many")
    assert len(made.attempts) == ADDRESSES_MAX


def test_giving_up_reports_what_was_left() -> None:
    made = plan("/memory/1", "/memory/2")
    made.next_address(0.0)
    made.give_up("gave up")
    assert made.done
    assert [(str(a.address), a.reason) for a in made.attempts] == [("/memory/1", "gave up"), ("/memory/2", "gave up")]


@given(st.lists(st.integers(0, 30), max_size=40), st.lists(st.booleans(), max_size=60))
def test_every_address_is_tried_once_or_reported_whatever_happens(numbers: list[int], steps: list[bool]) -> None:
    made = plan(*(f"/memory/{n}" for n in numbers))
    active: list[Multiaddr] = []
    tried: list[Multiaddr] = []
    now = 0.0
    for fails in [*steps, *([False, True] * 60)]:
        now += 0.05
        address = made.next_address(now)
        if address is not None:
            active.append(address)
            tried.append(address)
        if fails and active:
            made.failed(active.pop(), "x", now)
    assert made.done
    assert len(tried) == len(set(tried)) == len(set(numbers)) == len(made.attempts)


def test_an_address_rests_longer_after_each_failure_and_not_for_ever() -> None:
    backoff = DialBackoff()
    address = parse("/memory/1")[0]
    assert not backoff.resting(address, 0.0)
    rests = []
    for _ in range(30):
        backoff.failed(address, 0.0)
        rests.append(next(n for n in range(1000) if not backoff.resting(address, float(n))))
    assert rests[:3] == [6, 9, 14]
    assert rests[-1] == BACKOFF_MAX_SECONDS
    backoff.succeeded(address)
    assert not backoff.resting(address, 0.0)


def test_back_off_is_bounded_and_can_be_forgotten() -> None:
    backoff = DialBackoff()
    for number in range(BACKOFFS_MAX + 10):
        backoff.failed(Multiaddr.parse(f"/memory/{number}"), 0.0)
    assert len(backoff) == BACKOFFS_MAX
    backoff.clear()
    assert len(backoff) == 0


def test_what_leads_through_a_relay_is_tried_after_all_that_does_not() -> None:
    through = "/ip4/45.1.2.3/tcp/1/p2p-circuit"
    assert [text for _, text in ranked(through, "/ip4/8.8.8.8/tcp/1", "/ip4/10.0.0.1/tcp/1")][-1] == through
    assert ranked(through, "/ip4/8.8.8.8/tcp/1")[-1][0] == RELAY_DELAY_SECONDS
    assert ranked(through) == [(0.0, through)]
