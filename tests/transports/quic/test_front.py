"""What becomes of datagrams on a socket, before there is a connection."""

from itertools import count

from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from stack.transports.quic.front import (
    FAREWELL_SECONDS,
    FAREWELLS_MAX,
    HANDSHAKES_MAX,
    RETRY_ABOVE,
    Answer,
    Beginning,
    Front,
)
from stack.transports.quic.library import ID_BYTES
from stack.transports.quic.machine import HandshakeFinished, QuicMachine
from tests.transports.quic.ends import CLIENT, CREDENTIALS, SERVER, WALL, Pair

ELSEWHERE = ("203.0.113.9", 999)


def front(*, listening: bool = True) -> Front[str]:
    numbers = count(1)
    made: Front[str] = Front(lambda: next(numbers).to_bytes(ID_BYTES))
    made.listening = listening
    return made


def dialled() -> tuple[QuicMachine, bytes]:
    """A client, and the first datagram it sends."""
    client = QuicMachine.dial(CREDENTIALS[0], SERVER, expected=None, wall=WALL, now=0.0)
    return client, client.datagrams(0.0)[0][0]


def test_a_first_datagram_begins_a_connection_and_the_next_ones_go_to_it() -> None:
    made = front()
    client, first = dialled()
    beginning = made.sort(first, CLIENT, 0.0)
    assert beginning == Beginning(id=client.remote_id, original_id=client.remote_id, retry_id=None)
    made.add(client.remote_id, "the connection")
    assert made.sort(first, CLIENT, 0.0) == "the connection"
    assert made.sort(b"\x40" + client.remote_id + b"a short header", CLIENT, 0.0) == "the connection"
    made.remove_id(client.remote_id)
    made.remove_id(client.remote_id)
    assert isinstance(made.sort(first, CLIENT, 0.0), Beginning)
    made.add(b"1", "the connection")
    made.add(b"2", "another")
    made.remove("the connection")
    assert len(made) == 1


def test_who_goes_on_with_a_connection_that_we_have_closed_is_told_again() -> None:
    """What was said first may be lost: the peer would find out after half a minute."""
    made = front(listening=False)
    ids = [bytes([number]) * ID_BYTES for number in range(3)]
    for id in ids:
        made.add(id, "the connection")
    made.bid_farewell("the connection", b"it is over", 10.0)
    assert len(made) == 0
    answers = [made.sort(b"\x40" + id + b"more of it", CLIENT, 11.0) for id in ids * 3]
    assert [at for at, answer in enumerate(answers, 1) if answer] == [1, 2, 4, 8]
    assert answers[0] == Answer(data=b"it is over")
    assert made.sort(b"\x40" + ids[0] + b"more of it", CLIENT, 10.0 + FAREWELL_SECONDS) is None


def test_farewells_are_kept_for_a_while_and_not_for_everybody() -> None:
    made = front()
    for number in range(FAREWELLS_MAX + 9):
        owner = str(number)
        made.add(number.to_bytes(ID_BYTES), owner)
        made.bid_farewell(owner, b"it is over", number / 1000)
    assert len(made._farewells) == FAREWELLS_MAX
    assert made.sort(b"\x40" + (8).to_bytes(ID_BYTES) + b"more", CLIENT, 1.0) is None
    assert made.sort(b"\x40" + (9).to_bytes(ID_BYTES) + b"more", CLIENT, 1.0) is not None
    made.add(b"the last", "the last")
    made.bid_farewell("the last", b"it is over", 100.0)
    assert len(made._farewells) == 1


def test_what_is_no_quic_or_nobodys_is_dropped() -> None:
    _, first = dialled()
    for data in (b"", b"\x80", b"\xc0" + bytes(5), b"\x40" + bytes(30), first[:1199], b"\xff" * 1200, bytes(1200)):
        assert front().sort(data, CLIENT, 0.0) is None
    assert front(listening=False).sort(first, CLIENT, 0.0) is None


def test_a_datagram_of_another_version_is_answered_with_ours_and_an_answer_is_not_answered() -> None:
    _, first = dialled()
    foreign = first[:1] + (0x0A0A0A0A).to_bytes(4) + first[5:]
    answer = front().sort(foreign, CLIENT, 0.0)
    assert isinstance(answer, Answer)
    header = pull_quic_header(Buffer(data=answer.data))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert header.supported_versions == [1]
    assert len(answer.data) < len(foreign)
    assert front().sort(answer.data + bytes(1200), CLIENT, 0.0) is None


def test_when_many_come_each_has_to_show_that_it_is_where_it_says() -> None:
    made = front()
    made.handshakes = RETRY_ABOVE
    client, first = dialled()
    answer = made.sort(first, CLIENT, 0.0)
    assert isinstance(answer, Answer)
    assert len(answer.data) < len(first) / 3
    client.receive_datagram(answer.data, SERVER, 0.01)
    [(again, _), *_] = client.datagrams(0.01)
    beginning = made.sort(again, CLIENT, 0.02)
    assert beginning == Beginning(id=(1).to_bytes(8), original_id=client_first_id(first), retry_id=(1).to_bytes(8))
    # The same words from elsewhere, or much later, are asked again.
    assert isinstance(made.sort(again, ELSEWHERE, 0.02), Answer)
    assert isinstance(made.sort(again, CLIENT, 100.0), Answer)
    assert isinstance(beginning, Beginning)
    server = QuicMachine.accept(
        CREDENTIALS[1], original_id=beginning.original_id, retry_id=beginning.retry_id, wall=WALL, now=0.02
    )
    ends = Pair(client, server, now=0.02)
    server.receive_datagram(again, CLIENT, 0.02)
    ends.run(0.3)
    assert ends.told(0, HandshakeFinished)
    assert ends.told(1, HandshakeFinished)


def test_who_writes_anothers_address_on_datagrams_uses_up_two_of_its_places() -> None:
    made = front()
    neighbours = [("2001:db8::1", 1, 0, 0), ("2001:db8:0:7::9", 2, 0, 0)]
    for address in neighbours:
        assert isinstance(made.sort(dialled()[1], address, 0.0), Beginning)
        made.began(address)
    assert isinstance(made.sort(dialled()[1], ("2001:db8:0:12::3", 3, 0, 0), 0.0), Answer)
    assert isinstance(made.sort(dialled()[1], ("2001:db8:1::1", 3, 0, 0), 0.0), Beginning)
    assert isinstance(made.sort(dialled()[1], CLIENT, 0.0), Beginning)
    for address in neighbours:
        made.ended(address)
    assert isinstance(made.sort(dialled()[1], neighbours[0], 0.0), Beginning)
    assert made.handshakes == 0


def client_first_id(first: bytes) -> bytes:
    return pull_quic_header(Buffer(data=first)).destination_cid


def test_when_too_many_are_under_way_nobody_is_let_in() -> None:
    made = front()
    made.handshakes = HANDSHAKES_MAX
    assert made.sort(dialled()[1], CLIENT, 0.0) is None
