"""Who is on this link: machines on simulated links, and others' packets."""

import random
from ipaddress import ip_interface
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.discovery.dns import AAAA, ANY, PTR, SRV, TXT, A, Message, Question, Record, decode, encode
from stack.discovery.mdns.links import LINKS_MAX, Link, links_of, to_believe, to_tell
from stack.discovery.mdns.machine import (
    LEGACY_TTL_SECONDS,
    META,
    PEER_ADDRESSES_MAX,
    PIECE_BYTES,
    PORT,
    SEND_BYTES_MAX,
    SERVICE,
    SOURCE_BURST,
    SOURCES_MAX,
    TOTAL_BURST,
    UNICAST_BURST,
    MdnsMachine,
    PeerFound,
    SendPacket,
    private_service,
)
from stack.multiformats.multiaddr import Multiaddr
from stack.platform import Interface
from tests.flooding import quickest
from tests.net.identities import peer

HERE = Link(2, "eth0", 4, (ip_interface("10.0.0.1/24"), ip_interface("fe80::1/64")))
THERE = Link(2, "eth0", 4, (ip_interface("10.0.0.2/24"),))
NEIGHBOUR = ("10.0.0.2", PORT)
ASK = encode(Message(questions=(Question(SERVICE, PTR),)))


def address(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


OURS = address("/ip4/10.0.0.1/tcp/4001")


class Seen(NamedTuple):
    """What came out of a machine."""

    packets: list[SendPacket]
    found: list[PeerFound]


def drained(machine: MdnsMachine) -> Seen:
    seen = Seen([], [])
    while (effect := machine.next_effect()) is not None:
        (seen.packets if isinstance(effect, SendPacket) else seen.found).append(effect)  # type: ignore[arg-type]
    return seen


def started(number: int = 1, *, link: Link = HERE, addresses: tuple[Multiaddr, ...] = (OURS,)) -> MdnsMachine:
    """A machine that has asked and told once; it is 10.0 then."""
    machine = MdnsMachine(peer(number), random.Random(number))
    machine.addresses_changed(addresses, 0.0)
    machine.links_changed([link], 0.0)
    run(machine, 10.0)
    return machine


def run(machine: MdnsMachine, until: float) -> Seen:
    """Everything that happens by itself until then."""
    seen = drained(machine)
    while (due := machine.next_timeout()) is not None and due <= until:
        machine.handle_timeout(due)
        more = drained(machine)
        seen.packets.extend(more.packets)
        seen.found.extend(more.found)
    return seen


def answers(seen: Seen) -> list[Message]:
    return [message for packet in seen.packets if (message := decode(packet.data)).response]


def telling(number: int, *addresses: str, ttl: int = 120, name: bytes = b"somebody") -> bytes:
    """The answer of another peer, in the shape of go-libp2p."""
    instance = (name, *SERVICE)
    texts = tuple(f"dnsaddr={text}/p2p/{peer(number)}".encode() for text in addresses)
    return encode(
        Message(
            response=True,
            answers=(Record(SERVICE, PTR, ttl, instance),),
            additionals=(Record(instance, TXT, ttl, texts),),
        )
    )


def test_two_machines_on_one_link_find_each_other_within_a_quarter_of_a_second() -> None:
    one = MdnsMachine(peer(1), random.Random(1))
    two = MdnsMachine(peer(2), random.Random(2))
    theirs = address("/ip4/10.0.0.2/tcp/4002")
    for machine, link, ours in ((one, HERE, OURS), (two, THERE, theirs)):
        machine.links_changed([link], 0.0)
        machine.addresses_changed([ours], 0.0)
    found: dict[str, tuple[Multiaddr, ...]] = {}
    now = 0.0
    while now < 0.25:
        now = min(filter(None, (one.next_timeout(), two.next_timeout())))
        for machine, other, link, source in ((one, two, THERE, "10.0.0.1"), (two, one, HERE, "10.0.0.2")):
            machine.handle_timeout(now)
            seen = drained(machine)
            for packet in seen.packets:
                assert packet.target is None
                other.receive_packet(link, packet.data, (source, PORT), now)
            found |= {str(each.peer): each.addresses for each in seen.found}
    assert found == {str(peer(1)): (OURS,), str(peer(2)): (theirs,)}


def test_an_answer_has_all_that_others_look_for_in_one_packet() -> None:
    six = address("/ip6/fd00::1/tcp/4001")
    link = Link(2, "eth0", 4, (*HERE.networks, ip_interface("fd00::1/64")))
    machine = started(link=link, addresses=(OURS, six, address("/ip4/127.0.0.1/tcp/4001")))
    machine.receive_packet(link, ASK, NEIGHBOUR, 10.0)
    (answer,) = answers(run(machine, 10.2))
    (pointer,) = answer.answers
    instance = pointer.value
    assert pointer.name == SERVICE
    assert isinstance(instance, tuple)
    assert instance[1:] == SERVICE
    assert 32 <= len(instance[0]) <= 63
    assert [record.kind for record in answer.additionals] == [TXT, SRV, A, AAAA]
    (text,) = (record for record in answer.additionals if record.kind == TXT)
    assert text.value == tuple(f"dnsaddr={each}/p2p/{peer(1)}".encode() for each in (OURS, six))
    assert answer.questions == ()


def test_questions_grow_rarer_and_are_never_oftener_than_once_a_second() -> None:
    machine = MdnsMachine(peer(1), random.Random(1))
    machine.links_changed([HERE], 0.0)
    times = []
    while (due := machine.next_timeout()) is not None and due < 600:
        machine.handle_timeout(due)
        times += [due for packet in drained(machine).packets if not decode(packet.data).response]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] < 0.2
    assert min(gaps) >= 0.9
    assert max(gaps) <= 66
    assert 15 <= len(times) <= 18


def test_a_question_of_another_is_answered_to_all_and_not_put_again() -> None:
    machine = started()
    due = machine.next_timeout()
    assert due is not None
    machine.receive_packet(HERE, ASK, NEIGHBOUR, due - 0.5)
    seen = run(machine, due + 0.5)
    assert len(answers(seen)) == len(seen.packets) == 1


def test_a_flood_of_questions_is_answered_once_a_second() -> None:
    machine = started()
    count = 0
    for step in range(50):
        machine.receive_packet(HERE, ASK, NEIGHBOUR, 10 + step / 10)
        count += len(answers(run(machine, 10 + step / 10)))
    assert 4 <= count <= 6


def test_a_flood_from_one_sender_or_from_many_is_read_up_to_a_bound() -> None:
    machine = started()
    for _ in range(10_000):
        machine.receive_packet(HERE, ASK, NEIGHBOUR, 10.0)
    assert machine.packets == SOURCE_BURST
    for number in range(10_000):
        machine.receive_packet(HERE, ASK, (f"10.{number % 250}.{number // 250}.9", PORT), 10.0)
    assert machine.packets <= TOTAL_BURST
    assert machine.refused >= 19_000
    assert len(machine._sources) <= SOURCES_MAX


def test_a_flood_of_large_packets_is_read_up_to_the_same_number_of_bytes() -> None:
    machine = started()
    large = bytes(8 * 1024)
    for number in range(1_000):
        machine.receive_packet(HERE, large, (f"10.{number % 250}.{number // 250}.9", PORT), 10.0)
    assert machine.packets <= TOTAL_BURST * PIECE_BYTES / len(large)


def test_a_question_may_be_answered_to_the_asker_alone() -> None:
    machine = started()
    question = encode(Message(questions=(Question(SERVICE, PTR, unicast=True),)))
    machine.receive_packet(HERE, question, NEIGHBOUR, 10.0)
    (packet,) = drained(machine).packets
    assert packet.target == NEIGHBOUR
    for number in range(200):
        machine.receive_packet(HERE, question, (f"10.0.0.{number}", PORT), 10.0)
    assert len(drained(machine).packets) == UNICAST_BURST - 1


def test_a_resolver_that_knows_no_multicast_is_answered_as_it_expects() -> None:
    machine = started()
    question = Question(SERVICE, PTR)
    machine.receive_packet(HERE, encode(Message(id=77, questions=(question,))), ("10.0.0.2", 50_000), 10.0)
    (packet,) = drained(machine).packets
    answer = decode(packet.data)
    assert (packet.target, answer.id, answer.questions) == (("10.0.0.2", 50_000), 77, (question,))
    assert {record.ttl for record in answer.answers + answer.additionals} == {LEGACY_TTL_SECONDS}


def test_who_knows_the_answer_already_gets_none() -> None:
    machine = started()
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 10.0)
    (known,) = answers(run(machine, 10.2))[0].answers
    for ttl, expected in ((120, 0), (60, 0), (59, 1)):
        record = Record(known.name, known.kind, ttl, known.value)
        machine.receive_packet(
            HERE, encode(Message(questions=(Question(SERVICE, PTR),), answers=(record,))), NEIGHBOUR, 20.0
        )
        assert len(answers(run(machine, 21.5))) == expected


def test_the_meta_question_and_those_for_details_are_answered() -> None:
    machine = started()
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 10.0)
    (answer,) = answers(run(machine, 10.2))
    instance = answer.answers[0].value
    assert isinstance(instance, tuple)
    host = next(record.name for record in answer.additionals if record.kind == A)
    asked = [
        (META, PTR, [PTR]),
        (META, ANY, [PTR]),
        (instance, SRV, [SRV, TXT, A]),
        (instance, TXT, [TXT, SRV, A]),
        (instance, ANY, [SRV, TXT, A]),
        (host, A, [A]),
        (host, ANY, [A]),
        (host, AAAA, []),
        (host, TXT, []),
        (SERVICE, SRV, []),
        (META, TXT, []),
        ((b"other", b"local"), PTR, []),
    ]
    now = 100.0
    for name, kind, expected in asked:
        now += 5
        machine.receive_packet(HERE, encode(Message(questions=(Question(name, kind),))), NEIGHBOUR, now)
        told = [m for m in answers(run(machine, now + 1)) if m.answers[0].name != SERVICE]
        assert [record.kind for m in told for record in m.answers + m.additionals] == expected, (name, kind)


def test_without_an_address_on_the_link_nothing_is_told() -> None:
    machine = started(addresses=(address("/ip4/127.0.0.1/tcp/1"), address("/ip4/8.8.8.8/tcp/1")))
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 10.0)
    assert answers(run(machine, 12.0)) == []
    machine.goodbye()
    assert drained(machine).packets == []


def test_new_addresses_are_told_after_the_old_name_is_withdrawn() -> None:
    machine = started()
    machine.addresses_changed([OURS], 11.0)
    assert drained(machine).packets == []
    link = Link(2, "eth0", 4, (ip_interface("10.0.0.9/24"),))
    machine.links_changed([link, HERE], 11.0)
    machine.addresses_changed([OURS, address("/ip4/10.0.0.9/tcp/1")], 11.0)
    (farewell,) = answers(drained(machine))
    assert farewell.answers[0].ttl == 0
    assert len({packet.link for packet in run(machine, 12.5).packets}) == 2
    machine.links_changed([], 13.0)
    assert machine.next_timeout() is None
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 13.0)
    assert machine.next_timeout() is None


def test_a_packet_of_ours_never_outgrows_a_frame() -> None:
    texts = [f"/ip6/2001:db8:1234:5678:9abc:def0:1234:{n:x}/tcp/65535/ws" for n in range(0x1000, 0x1040)]
    link = Link(2, "eth0", 6, tuple(ip_interface(text.split("/")[2] + "/64") for text in texts))
    for seed in range(20):
        machine = MdnsMachine(peer(1), random.Random(seed))
        machine.addresses_changed([address(text) for text in texts], 0.0)
        machine.links_changed([link], 0.0)
        seen = run(machine, 5.0)
        assert answers(seen)
        assert max(len(packet.data) for packet in seen.packets) <= SEND_BYTES_MAX
        assert len(answers(seen)[0].additionals[0].value) >= 5  # type: ignore[arg-type]


def test_an_address_too_long_for_a_string_is_left_out() -> None:
    long = address("/ip4/10.0.0.1/tcp/1/tls/sni/" + ".".join(["a" * 49] * 4) + "/ws")
    machine = started(addresses=(long, OURS))
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 20.0)
    (answer,) = answers(run(machine, 20.2))
    assert answer.additionals[0].value == (f"dnsaddr={OURS}/p2p/{peer(1)}".encode(),)


# --- what others tell


@pytest.mark.parametrize(
    ("text", "believed"),
    [
        ("/ip4/10.0.0.2/tcp/4001", "/ip4/10.0.0.2/tcp/4001"),
        ("/ip4/192.168.7.7/tcp/4001/ws", "/ip4/192.168.7.7/tcp/4001/ws"),
        ("/ip6/fe80::2/tcp/4001", "/ip6zone/eth0/ip6/fe80::2/tcp/4001"),
        ("/ip6/fd00::7/tcp/4001", "/ip6/fd00::7/tcp/4001"),
        ("/ip4/8.8.8.8/tcp/4001", None),
        ("/ip6/2001:4860::1/tcp/4001", None),
        ("/ip4/127.0.0.1/tcp/4001", None),
        ("/ip4/224.0.0.1/tcp/4001", None),
        ("/ip4/0.0.0.0/tcp/4001", None),
        ("/ip4/10.0.0.2/tcp/0", None),
        ("/ip6zone/eth7/ip6/fe80::2/tcp/4001", None),
        ("/dns4/example.com/tcp/4001", None),
        ("/dnsaddr/example.com", None),
        ("/memory/7", None),
    ],
)
def test_only_addresses_that_can_be_a_neighbours_are_believed(text: str, believed: str | None) -> None:
    machine = started()
    machine.receive_packet(HERE, telling(2, text), NEIGHBOUR, 10.0)
    found = drained(machine).found
    assert [str(a) for each in found for a in each.addresses] == ([believed] if believed else [])


def test_public_addresses_of_our_own_network_and_loopback_on_loopback_are_believed() -> None:
    public = Link(3, "eth1", 6, (ip_interface("2001:4860::5/64"),))
    loopback = Link(1, "lo", 4, (ip_interface("127.0.0.1/8"),), loopback=True)
    near, local = address("/ip6/2001:4860::1/tcp/1"), address("/ip4/127.0.0.1/tcp/1")
    relayed = address(f"/ip4/10.0.0.2/tcp/1/p2p/{peer(3)}/p2p-circuit")
    assert to_believe([near, local, relayed], public) == [near]
    assert to_believe([near, local], loopback) == [local]
    assert to_tell([near, local], loopback) == [local]


def test_our_own_packets_are_ignored() -> None:
    machine = started()
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 10.0)
    for packet in run(machine, 11.0).packets:
        machine.receive_packet(HERE, packet.data, ("10.0.0.1", PORT), 11.0)
    machine.receive_packet(HERE, telling(1, "/ip4/10.0.0.2/tcp/1"), NEIGHBOUR, 11.0)
    assert drained(machine).found == []


@pytest.mark.parametrize("port", [5354, 53, 40_000])
def test_answers_from_beyond_the_link_are_ignored(port: int) -> None:
    machine = started()
    machine.receive_packet(HERE, telling(2, "/ip4/10.0.0.2/tcp/1"), ("10.0.0.2", port), 10.0)
    assert drained(machine).found == []


def test_a_farewell_is_no_finding() -> None:
    machine = started()
    machine.receive_packet(HERE, telling(2, "/ip4/10.0.0.2/tcp/1", ttl=0), NEIGHBOUR, 10.0)
    instance = (b"somebody", *SERVICE)
    text = Record(instance, TXT, 120, (f"dnsaddr=/ip4/10.0.0.2/tcp/1/p2p/{peer(2)}".encode(),))
    gone = Message(response=True, answers=(Record(SERVICE, PTR, 0, instance),), additionals=(text,))
    machine.receive_packet(HERE, encode(gone), NEIGHBOUR, 10.0)
    assert drained(machine).found == []


def test_several_text_records_are_one_peer_and_bad_ones_are_skipped() -> None:
    machine = started()
    instance = (b"somebody", *SERVICE)
    strings = [
        b"dnsaddr=nonsense",
        b"dnsaddr=/ip4/10.0.0.2/tcp/1",
        b"dnsaddr=/ip4/10.0.0.2/tcp/2/p2p/nobody",
        f"dnsaddr=/ip4/10.0.0.2/tcp/3/p2p/{peer(2)}".encode(),
        f"dnsaddr=/ip4/10.0.0.2/tcp/4/p2p/{peer(3)}".encode(),
        f"dnsaddr=/ip4/10.0.0.2/tcp/5/p2p/{peer(2)}".encode(),
    ]
    texts = tuple(Record(instance, TXT, 120, (string,)) for string in strings)
    machine.receive_packet(HERE, encode(Message(response=True, answers=texts)), NEIGHBOUR, 10.0)
    (found,) = drained(machine).found
    assert found.peer == peer(2)
    assert [a.get("tcp") for a in found.addresses] == ["3", "5"]


def test_a_packet_with_many_peers_and_addresses_gives_few() -> None:
    machine = started()
    machine.receive_packet(HERE, telling(2, *(f"/ip4/10.0.0.{n}/tcp/1" for n in range(2, 60))), NEIGHBOUR, 10.0)
    (found,) = drained(machine).found
    assert len(found.addresses) == PEER_ADDRESSES_MAX
    texts = tuple(
        Record((b"%d" % n, *SERVICE), TXT, 120, (f"dnsaddr=/ip4/10.0.0.2/tcp/1/p2p/{peer(n % 3 + 2)}".encode(),))
        for n in range(50)
    )
    machine.receive_packet(HERE, encode(Message(response=True, answers=texts)), NEIGHBOUR, 10.0)
    assert len(drained(machine).found) == 4


def test_damaged_packets_are_counted_and_dropped() -> None:
    machine = started()
    before = machine.refused
    machine.receive_packet(HERE, b"\xff" * 40, NEIGHBOUR, 10.0)
    assert machine.refused == before + 1
    assert "MdnsMachine" in repr(machine)


@given(st.lists(st.tuples(st.binary(max_size=200), st.sampled_from([PORT, 9999])), max_size=20))
def test_no_packet_harms_a_machine(packets: list[tuple[bytes, int]]) -> None:
    machine = started()
    for data, port in packets:
        machine.receive_packet(HERE, b"\0\0\x84\0\0\0\0\1\0\0\0\1" + data, ("10.0.0.2", port), 10.0)
        machine.receive_packet(HERE, b"\0\0\0\0\0\1\0\0\0\0\0\0" + data, ("10.0.0.2", port), 10.0)
    run(machine, 20.0)


def test_a_private_network_has_a_service_of_its_own() -> None:
    service = private_service(bytes(range(16)))
    assert service[0] == b"_p2p-000102030405060708090a0b0c0d0e0f"
    machine = MdnsMachine(peer(1), random.Random(1), service=service)
    machine.addresses_changed([OURS], 0.0)
    machine.links_changed([HERE], 0.0)
    seen = run(machine, 5.0)
    assert {decode(p.data).questions[0].name for p in seen.packets if not decode(p.data).response} == {service}
    machine.receive_packet(HERE, ASK, NEIGHBOUR, 100.0)
    machine.receive_packet(HERE, telling(2, "/ip4/10.0.0.2/tcp/1"), NEIGHBOUR, 100.0)
    assert drained(machine) == Seen([], [])


def test_links_are_those_of_interfaces_with_multicast_and_bounded() -> None:
    def interface(number: int, **others: object) -> Interface:
        values = {
            "name": f"eth{number}",
            "index": number,
            "networks": ("10.0.0.1/24", "fe80::1/64"),
            "loopback": False,
            "multicast": True,
            **others,
        }
        return Interface(**values)  # type: ignore[arg-type]

    assert [str(link) for link in links_of([interface(1)])] == ["eth1, IPv4", "eth1, IPv6"]
    assert links_of([interface(1, multicast=False), interface(0), interface(2, networks=())]) == []
    assert [link.family for link in links_of([interface(1, networks=("fe80::1/64",))])] == [6]
    assert len(links_of([interface(number) for number in range(1, 500)])) == 2 * LINKS_MAX


def costly() -> dict[str, bytes]:
    """Packets that take as much work as one can make them take."""
    instance = (b"somebody", *SERVICE)
    machine = started()
    ours = machine._instance
    long = "/udp/1/quic-v1" * 10
    texts = tuple(f"dnsaddr=/ip4/10.0.0.2{long[: 14 * (n % 6)]}/tcp/{n}/p2p/{peer(2)}".encode() for n in range(60))
    names = tuple(f"dnsaddr=/ip4/10.0.0.2/tcp/1/p2p/{'1' * 200}{n}".encode() for n in range(30))
    questions = tuple(Question(ours, kind, kind % 2 == 0) for kind in range(60))
    known = tuple(Record(ours, kind, 1, (b"a",)) for kind in (TXT,) * 60)
    return {
        "addresses": encode(Message(response=True, answers=(Record(instance, TXT, 120, texts),))),
        "peers that are none": encode(Message(response=True, answers=(Record(instance, TXT, 120, names),))),
        "questions about us": encode(Message(questions=questions, answers=known)),
        "names": encode(Message(response=True, answers=tuple(Record(instance, PTR, 1, ours) for _ in range(127)))),
    }


@pytest.mark.parametrize("kind", costly())
def test_attack_7_no_packet_takes_long(kind: str) -> None:
    data = costly()[kind]
    machines = iter([started() for _ in range(8)])

    def read() -> None:
        next(machines).receive_packet(HERE, data, (NEIGHBOUR[0], PORT), 10.0)

    taken = quickest(read, 8)
    print(f"\n{kind}: {len(data)} bytes, {1000 * taken:.2f} ms")
    assert taken < 0.01
