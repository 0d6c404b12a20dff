"""Who can reach a node, in words that a person can act on."""

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.node.reach import reach_of
from stack.protocols.autonat.judge import Verdict

PEER = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"


def address(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


LOOPBACK = address("/ip4/127.0.0.1/tcp/4001")
NEAR = address("/ip4/192.168.1.5/tcp/4001")
PUBLIC = address("/ip4/9.1.1.1/tcp/4001")
DOOR = address("/ip4/9.9.9.9/tcp/7")


@pytest.mark.parametrize(
    ("addresses", "scope", "says"),
    [
        ([], "nobody", "does not listen"),
        ([LOOPBACK], "computer", "Only programs on this computer"),
        ([NEAR, LOOPBACK], "network", "forward TCP port 4001 of the router"),
        ([PUBLIC, NEAR], "internet", "unless a firewall stops them"),
        ([address("/dns/example.org/tcp/1")], "internet", "public address"),
    ],
)
def test_where_nobody_has_tried_the_addresses_speak(addresses: list[Multiaddr], scope: str, says: str) -> None:
    reach = reach_of(addresses)
    assert (reach.scope, reach.checked) == (scope, False) and says in reach.advice
    assert set(reach.addresses) <= set(addresses)


def test_what_peers_outside_have_tried_counts_more_than_all_else() -> None:
    reach = reach_of([DOOR, NEAR], external=[DOOR], verdicts=[Verdict(DOOR, True, 2)])
    assert (reach.scope, reach.checked, reach.addresses) == ("internet", True, (DOOR,))
    assert reach.advice == "It is reached from the internet, at 9.9.9.9:7: 2 peers outside came that way."


@pytest.mark.parametrize(
    ("kind", "says"), [("external", "leads to TCP port 4001"), ("mapped", "another router"), ("public", "A firewall")]
)
def test_a_door_that_is_shut_is_told_with_what_to_do(kind: str, says: str) -> None:
    given = {"external": [DOOR]} if kind == "external" else {"mapped": [DOOR]} if kind == "mapped" else {}
    place = PUBLIC if kind == "public" else DOOR
    own = [PUBLIC, NEAR] if kind == "public" else [DOOR, NEAR]
    reach = reach_of(own, verdicts=[Verdict(place, False, 1)], **given)
    assert (reach.scope, reach.checked) == ("network", True)
    assert "1 peer outside tried" in reach.advice and says in reach.advice
    assert reach.addresses == (NEAR,)


def test_behind_a_router_that_lets_nobody_in_it_is_told_who_tried_and_which_port_to_forward() -> None:
    reach = reach_of([NEAR], verdicts=[Verdict(DOOR, False, 3)])
    assert (reach.scope, reach.checked, reach.addresses) == ("network", True, (NEAR,))
    assert "3 peers outside tried 9.9.9.9:7" in reach.advice and "Forward TCP port 4001 of the router" in reach.advice


def test_of_several_doors_one_that_nobody_has_tried_may_be_open() -> None:
    other = address("/ip4/9.9.9.9/tcp/8")
    reach = reach_of([DOOR, other], mapped=[DOOR, other], verdicts=[Verdict(DOOR, False, 3), Verdict(other, None, 0)])
    assert reach.scope == "internet" and not reach.checked


def test_a_router_that_lets_others_in_is_told_as_what_it_is() -> None:
    reach = reach_of([DOOR, NEAR], mapped=[DOOR])
    assert reach.scope == "internet" and "router lets others in at 9.9.9.9:7" in reach.advice


def test_while_it_is_being_tried_that_is_said_first() -> None:
    assert "is being tried" in reach_of([NEAR], pending=True).advice
    assert "is being tried" not in reach_of([LOOPBACK], pending=True).advice


def test_notices_come_first_and_addresses_keep_their_peer() -> None:
    reach = reach_of([NEAR.with_peer(PEER)], ["Port 1 is taken."])
    assert reach.advice.startswith("Port 1 is taken. Computers") and reach.addresses == (NEAR.with_peer(PEER),)
