"""One port at one router."""

from ipaddress import IPv4Address
from random import Random

import pytest

from stack.portmap.lease import AGAIN_SECONDS, DEAF, LEASE_SECONDS, LEASE_SECONDS_MIN, LOST, WAITS, Lease, Mapping
from stack.portmap.messages import Transport
from tests.portmap.routers import Router

START = 1000.0


def lease(transport: Transport = Transport.TCP) -> Lease:
    return Lease(transport, 4001, IPv4Address("192.168.1.5"), Random(1), START)


def run(machine: Lease, router: Router | None, now: float = START, until: float = START + 60) -> float:
    """Carry packets until nothing is due before `until`; when the last went."""
    while machine.next_timeout() < until:
        now = max(now, machine.next_timeout())
        for packet in machine.packets(now):
            answer = router.answer(packet) if router is not None else None
            if answer is not None:
                machine.receive(answer, now)
    return now


@pytest.mark.parametrize(
    ("router", "protocol"),
    [
        (Router(), "PCP"),
        (Router(versions=(0,)), "NAT-PMP"),
        (Router(versions=(0,), is_silent_of_others=True), "NAT-PMP"),
        (Router(versions=(2,)), "PCP"),
    ],
)
@pytest.mark.parametrize("transport", list(Transport))
def test_a_port_is_opened_by_what_the_router_speaks(router: Router, protocol: str, transport: Transport) -> None:
    machine = lease(transport)
    assert machine.is_pending(START)
    asked = run(machine, router)
    assert asked == START or router.is_silent_of_others
    assert machine.mapping(START + 60) == Mapping(IPv4Address("9.1.1.1"), 4002, protocol)
    assert router.opened == {4001: LEASE_SECONDS} and not machine.is_pending(START + 60)


def test_a_router_that_says_nothing_has_been_asked_for_three_seconds() -> None:
    machine = lease()
    assert run(machine, None) == pytest.approx(START + 2 * sum(WAITS)) and 2 * sum(WAITS) < 3
    assert machine.mapping(START) is None and machine.fault == LOST and not machine.is_pending(START + 4)
    assert machine.next_timeout() == pytest.approx(START + 2 * sum(WAITS) + AGAIN_SECONDS)
    run(machine, Router(), until=START + AGAIN_SECONDS + 60)
    assert machine.mapping(machine.next_timeout()) is not None and not machine.fault


def test_finding_17_after_a_sleep_the_port_is_asked_for_at_once_and_not_counted_on() -> None:
    """The router's time goes on while ours stands still: nobody came in for up to five minutes."""
    machine, router = lease(), Router()
    asked = run(machine, router)
    machine.slept(8 * 3600.0, asked + 10)
    assert machine.mapping(asked + 10) is None and machine.next_timeout() == asked + 10
    router.opened.clear()
    run(machine, router, until=asked + 60)
    assert machine.mapping(asked + 60) is not None and router.opened == {4001: LEASE_SECONDS}


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    machine = lease()
    asked = run(machine, Router())
    machine.slept(-3600.0, asked + 10)
    assert machine.mapping(asked + 10) is not None and machine.next_timeout() == asked + 10


def test_who_has_no_port_does_not_ask_sooner_for_having_slept() -> None:
    machine = lease()
    run(machine, None)
    due = machine.next_timeout()
    machine.slept(3600.0, START + 20)
    assert machine.next_timeout() == due


class Generous(Router):
    def answer(self, data: bytes) -> bytes | None:
        answer = super().answer(data)
        return answer[:-4] + b"\x7f\xff\xff\xff" if answer is not None and data[1] else answer


def test_a_router_that_grants_a_century_is_asked_in_five_minutes() -> None:
    machine = lease()
    run(machine, Generous(versions=(0,)))
    assert machine.mapping(START + LEASE_SECONDS - 1) is not None and machine.mapping(START + 2 * LEASE_SECONDS) is None
    assert machine.next_timeout() < START + LEASE_SECONDS


def test_a_router_that_says_nothing_is_slow_after_its_second_try() -> None:
    machine = lease()
    assert machine.packets(START) and not machine.is_slow
    assert machine.packets(START + WAITS[0]) and machine.is_slow
    run(machine, Router(), now=START + WAITS[0])
    assert not machine.is_slow


@pytest.mark.parametrize("version", [0, 2])
def test_a_router_that_does_not_want_to_is_asked_again_later(version: int) -> None:
    machine = lease()
    run(machine, Router(versions=(version,), result=2))
    assert machine.fault and machine.mapping(START) is None
    assert machine.next_timeout() >= START + AGAIN_SECONDS


def test_it_is_renewed_at_half_time_and_again_while_the_router_is_busy() -> None:
    machine, router = lease(), Router()
    run(machine, router)
    assert machine.packets(START + 1) == []
    assert START + 0.4 * LEASE_SECONDS < machine.next_timeout() < START + 0.6 * LEASE_SECONDS
    renewed = run(machine, router, until=START + 0.6 * LEASE_SECONDS)
    assert machine.mapping(START + LEASE_SECONDS) is not None
    # The router is gone: what stands is told until its time is over.
    run(machine, None, until=renewed + LEASE_SECONDS - 1)
    assert machine.mapping(renewed + LEASE_SECONDS - 1) is not None and not machine.fault
    run(machine, None, until=renewed + LEASE_SECONDS + 60)
    assert machine.mapping(renewed + LEASE_SECONDS) is None and machine.fault == LOST


def test_a_router_that_takes_it_back_is_believed() -> None:
    machine, router = lease(), Router()
    run(machine, router)
    router.result = 2
    run(machine, router, until=START + 0.6 * LEASE_SECONDS)
    assert machine.mapping(START + 0.6 * LEASE_SECONDS) is None and machine.fault


def test_where_nobody_listens_nothing_more_is_sent_but_what_stands_stays() -> None:
    machine = lease()
    assert machine.packets(START)
    machine.refused(START)
    assert machine.fault == DEAF and machine.next_timeout() == START + AGAIN_SECONDS
    run(machine, Router(), until=START + AGAIN_SECONDS + 60)
    machine.refused(machine.next_timeout())
    assert machine.mapping(machine.next_timeout()) is not None and not machine.fault


def test_a_router_that_grants_a_moment_is_asked_once_a_minute() -> None:
    machine = lease()
    run(machine, Router(seconds=1), until=START + 20)
    assert machine.next_timeout() >= START + 0.4 * LEASE_SECONDS_MIN


@pytest.mark.parametrize("version", [0, 2])
def test_at_the_end_the_port_is_shut(version: int) -> None:
    machine, router = lease(), Router(versions=(version,))
    assert machine.last_words(START) == []
    run(machine, router)
    for packet in machine.last_words(START + 1):
        router.answer(packet)
    assert router.opened == {4001: 0}


def test_what_nobody_asked_for_changes_nothing() -> None:
    machine, other = lease(), Lease(Transport.TCP, 4001, IPv4Address("192.168.1.5"), Random(2), START)
    [packet] = other.packets(START)
    answer = Router().answer(packet)
    assert answer is not None
    machine.receive(answer, START)
    assert machine.packets(START)
    machine.receive(answer, START)  # with another nonce
    machine.receive(b"\x00\x82\x00\x00" + bytes(4) + b"\x0f\xa1\x0f\xa1" + bytes(4), START)  # of another protocol
    machine.receive(b"nonsense", START)
    machine.receive(b"\x00\x82\x00\x00" + bytes(4) + b"\x0f\xa1\x0f\xa1" + bytes(3) + b"\x60", START)  # NAT-PMP's yes
    assert machine.mapping(START) is None
    run(machine, Router())
    machine.receive(bytes.fromhex("0082000200000007"), START + 61)  # of somebody else: nothing was asked just now
    assert machine.mapping(START + 61) is not None
