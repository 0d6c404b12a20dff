"""Floods on a link, and of peers that nobody has dialled: what is held afterwards is printed and bounded."""

import hashlib
import random
from collections.abc import Callable

import pytest

from stack.discovery.dns import PTR, SRV, TXT, Message, Question, Record, Service, encode
from stack.discovery.mdns.machine import PORT, SERVICE, MdnsMachine
from stack.discovery.neighbours import DIAL_BURST, DIAL_RATE, REMEMBERED_MAX, Neighbours
from stack.discovery.saved import PEERS_MAX, SavedPeer, SavedPeers
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from tests.discovery.test_mdns_machine import ASK, HERE, NEIGHBOUR, OURS, answers, drained, run, telling
from tests.flooding import KIB, MIB, flood
from tests.net.identities import peer

IDENTITIES = 500
ADDRESSES = 8
PACKETS = 750
"""Thirty a second: more are not read, see test_a_flood_from_one_sender_or_from_many_is_read_up_to_a_bound."""
RATE = 30
NOTHING = 128 * KIB
NOW = 1_700_000_000.0


def stranger(number: int) -> PeerId:
    return PeerId.decode(b"\x12\x20" + hashlib.sha256(b"%d" % number).digest())


def told(number: int) -> bytes:
    """What another one says of itself, each time at other addresses."""
    instance = (b"somebody %d" % (number % IDENTITIES), *SERVICE)
    first = f"dnsaddr=/ip4/10.0.0.2/tcp/{number % 60_000 + 1}/p2p/{stranger(number % IDENTITIES)}".encode()
    more = tuple(f"dnsaddr=/ip4/10.0.0.2/udp/{n}/quic-v1/p2p/{stranger(n)}".encode() for n in range(2))
    return encode(
        Message(
            response=True,
            answers=(Record(SERVICE, PTR, 120, instance), Record(instance, TXT, 120, (first, *more))),
            additionals=(Record(instance, SRV, 120, Service(1, instance)),),
        )
    )


def asked(number: int) -> bytes:
    names = [(b"name %d %d" % (number, index), *SERVICE) for index in range(2)]
    return encode(Message(id=number % 65536, questions=tuple(Question(name, TXT) for name in names)))


def farewell(number: int) -> bytes:
    return encode(Message(response=True, answers=(Record(SERVICE, PTR, 0, (b"somebody %d" % number, *SERVICE)),)))


def malformed(number: int) -> bytes:
    data = told(number)
    return (data[: number % len(data)], b"\xff" * 500, data + bytes(9000), data[:12] + b"\xc0\x0c" * 100)[number % 4]


KINDS: dict[str, Callable[[int], bytes]] = {
    "answers": told,
    "questions": asked,
    "the same question": lambda number: ASK,
    "farewells": farewell,
    "malformed packets": malformed,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_on_a_link_leaves_bounded_tables_and_honest_neighbours_are_still_found(kind: str) -> None:
    machine = MdnsMachine(peer(1), random.Random(1))
    machine.addresses_changed([OURS], 0.0)
    machine.links_changed([HERE], 0.0)
    run(machine, 10.0)
    neighbours = Neighbours(peer(1), 10.0)
    packets = [KINDS[kind](number) for number in range(IDENTITIES)]
    dials = 0

    def attack() -> None:
        nonlocal dials
        now = 10.0
        for number in range(PACKETS):
            now = 10.0 + number / RATE
            machine.receive_packet(
                HERE, packets[number % IDENTITIES], (f"10.0.0.{100 + number % ADDRESSES}", PORT), now
            )
            machine.handle_timeout(now)
            for found in drained(machine).found:
                neighbours.heard(found.peer, found.addresses, now, connected=False)
            while (dial := neighbours.next_dial(now)) is not None:
                dials += 1
                neighbours.failed(dial[0], now)

    bound = REMEMBERED_MAX * 8 * KIB + NOTHING if kind == "answers" else NOTHING
    flood(f"of {kind} by mDNS", IDENTITIES, PACKETS, attack, bound=bound)
    assert len(neighbours) <= REMEMBERED_MAX and dials <= DIAL_BURST + DIAL_RATE * PACKETS / RATE
    machine.receive_packet(HERE, telling(2, "/ip4/10.0.0.2/tcp/4001"), NEIGHBOUR, 100.0)
    assert [each.peer for each in drained(machine).found] == [peer(2)]
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 105.0)
    assert answers(run(machine, 107.0))


def test_A15_malformed_peer_ids_on_a_link_are_passed_over() -> None:
    machine = MdnsMachine(peer(1), random.Random(1))
    machine.links_changed([HERE], 0.0)
    for text in ("", "1", "Qm", "0" * 46, "12D3KooW", "bafz" + "a" * 50, "\x00", "z" * 150, "Qm" + "1" * 44):
        instance = (b"somebody", *SERVICE)
        record = Record(instance, TXT, 120, (f"dnsaddr=/ip4/10.0.0.2/tcp/1/p2p/{text}".encode(),))
        machine.receive_packet(HERE, encode(Message(response=True, answers=(record,))), NEIGHBOUR, 1.0)
        assert drained(machine).found == [], text


def test_A12_records_without_content_are_passed_over() -> None:
    machine = MdnsMachine(peer(1), random.Random(1))
    machine.links_changed([HERE], 0.0)
    instance = (b"somebody", *SERVICE)
    for records in (
        (),
        (Record(instance, TXT, 120, ()),),
        (Record(instance, TXT, 120, (b"",)),),
        (Record((), PTR, 120, ()),),
    ):
        machine.receive_packet(HERE, encode(Message(response=True, answers=records)), NEIGHBOUR, 1.0)
        machine.receive_packet(HERE, encode(Message(answers=records)), NEIGHBOUR, 1.0)
        assert drained(machine).found == []
    assert machine.packets == 8


def test_A05_a_flood_of_peers_that_dial_us_leaves_a_bounded_file_in_which_those_we_dialled_stay() -> None:
    saved = SavedPeers()
    for number in range(100):
        saved.seen(SavedPeer(peer(number), NOW, (Multiaddr.parse("/ip4/10.0.0.2/tcp/1"),), None, True))

    addresses = tuple(Multiaddr.parse(f"/ip4/9.9.9.{number % ADDRESSES}/tcp/{number + 1}") for number in range(30))

    def attack() -> None:
        for number in range(5000):
            saved.seen(SavedPeer(stranger(number), NOW + number, addresses[number % 10 :], bytes(1000)))

    flood("of peers to be remembered", 5000, 5000, attack, bound=PEERS_MAX * 2 * KIB)
    assert len(saved) == PEERS_MAX
    assert all(each.dialled for each in saved.recent(NOW)[:100])
    assert len(saved.encode()) < 2 * MIB
