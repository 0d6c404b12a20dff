"""What a server of AutoNAT does for whom."""

from random import Random

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.autonat.guard import (
    ALL_BURST,
    DATA_BURST,
    DATA_BYTES_MAX,
    DATA_BYTES_MIN,
    DIALS_MAX,
    GROUP_BURST,
    GROUPS_MAX,
    V1_ADDRESSES_MAX,
    Dial,
    Guard,
    V1Dials,
    may_be_dialled,
)
from stack.protocols.autonat.messages import Answer, V1Status
from tests.net.identities import peer

RELAY = "/ip4/9.9.9.8/tcp/4001/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/p2p-circuit"


def address(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


ASKER = address("/ip4/9.1.1.1/tcp/50000")
THERE = address("/ip4/9.1.1.1/tcp/4001")
VICTIM = address("/ip4/7.7.7.7/tcp/80")


def guard(*, can_dial: bool = True) -> Guard:
    return Guard(lambda address: can_dial, Random(1), 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/10.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/192.168.1.1/tcp/1",
        "/ip4/172.31.1.1/tcp/1",
        "/ip4/100.64.0.1/tcp/1",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/224.0.0.1/udp/1",
        "/ip4/255.255.255.255/tcp/1",
        "/ip4/9.9.9.9/tcp/0",
        "/ip4/9.9.9.9",
        "/ip6/::1/tcp/1",
        "/ip6/fe80::1/tcp/1",
        "/ip6zone/eth0/ip6/2a00:1450::1/tcp/1",
        "/ip6/fd00::1/tcp/1",
        "/ip6/::ffff:10.0.0.1/tcp/1",
        "/ip6/64:ff9b::a00:1/tcp/1",
        "/ip6/2002:a00:1::1/tcp/1",
        "/dns/localhost/tcp/1",
        "/dns4/example.org/tcp/1",
        "/memory/7",
        RELAY,
    ],
)
def test_A69_nothing_that_is_private_named_or_relayed_is_dialled_for_others(text: str) -> None:
    assert not may_be_dialled(address(text))
    machine = guard()
    assert machine.asked(ASKER, [address(text)], 0.0) is Answer.REFUSED
    assert machine.asked_v1(peer(1), bytes(peer(1)), ASKER, [address(text)], 0.0) is V1Status.DIAL_REFUSED


def test_the_first_address_that_may_be_dialled_is_and_no_other() -> None:
    asked = [None, address("/ip4/10.0.0.1/tcp/1"), THERE, VICTIM]
    assert guard().asked(ASKER, asked, 0.0) == Dial(2, THERE, 0)
    assert guard(can_dial=False).asked(ASKER, asked, 0.0) is Answer.REFUSED


def test_A69_a_dial_to_elsewhere_costs_more_than_it_does_to_the_victim() -> None:
    todo = guard().asked(ASKER, [VICTIM, THERE], 0.0)
    assert isinstance(todo, Dial) and todo.address == VICTIM
    assert DATA_BYTES_MIN <= todo.data <= DATA_BYTES_MAX


def test_A69_a_thousand_askers_have_one_victim_dialled_a_few_times() -> None:
    machine = guard()
    dials = 0
    for number in range(1000):
        asker = address(f"/ip4/9.{number // 250}.{number % 250}.1/tcp/1")
        todo = machine.asked(asker, [VICTIM], number / 1000)
        if isinstance(todo, Dial):
            dials += 1
            machine.done()
    assert 0 < dials <= min(DATA_BURST, GROUP_BURST) + 1


def test_a_group_of_addresses_may_ask_so_often_whoever_it_says_it_is() -> None:
    machine = guard()
    answers = []
    for _ in range(GROUP_BURST + 5):
        answers.append(machine.asked(ASKER, [THERE], 0.0))
        if isinstance(answers[-1], Dial):
            machine.done()
    assert answers[GROUP_BURST:] == [Answer.REJECTED] * 5
    assert machine.asked_v1(peer(1), bytes(peer(1)), ASKER, [THERE], 0.0) is V1Status.DIAL_REFUSED
    assert isinstance(machine.asked(ASKER, [THERE], 60.0), Dial)


def test_all_together_may_ask_so_often_and_the_table_of_groups_is_bounded() -> None:
    machine = guard()
    dials = 0
    for number in range(GROUPS_MAX + 50):
        asker = address(f"/ip4/9.{number // 250}.{number % 250}.1/tcp/1")
        if isinstance(machine.asked(asker, [asker], 0.0), Dial):
            dials += 1
            machine.done()
    assert dials == ALL_BURST and len(machine._groups) == GROUPS_MAX


def test_so_many_dials_are_under_way_at_a_time() -> None:
    machine = guard()
    for number in range(DIALS_MAX):
        asker = address(f"/ip4/9.2.{number}.1/tcp/1")
        assert isinstance(machine.asked(asker, [asker], 0.0), Dial)
    assert machine.asked(ASKER, [THERE], 0.0) is Answer.REJECTED
    machine.done()
    assert isinstance(machine.asked(ASKER, [THERE], 0.0), Dial)


@pytest.mark.parametrize("observed", [RELAY, "/ip4/192.168.1.5/tcp/1", "/ip4/127.0.0.1/tcp/1", "/memory/1"])
def test_who_comes_from_nowhere_outside_is_refused(observed: str) -> None:
    assert guard().asked(address(observed), [THERE], 0.0) is Answer.REFUSED


def test_A69_version_1_dials_the_asker_alone_where_it_comes_from() -> None:
    machine = guard()
    me, ports = peer(1), [address(f"/ip4/9.1.1.1/tcp/{port}") for port in range(1, 10)]
    assert machine.asked_v1(me, bytes(peer(2)), ASKER, [THERE], 0.0) is V1Status.BAD_REQUEST
    assert machine.asked_v1(me, bytes(me), ASKER, [VICTIM], 0.0) is V1Status.DIAL_REFUSED
    assert machine.asked_v1(me, bytes(me), ASKER, [VICTIM, None, *ports], 0.0) == V1Dials(
        tuple(ports[:V1_ADDRESSES_MAX])
    )
