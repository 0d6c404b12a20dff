"""DNS messages: both ways, and what is refused."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.discovery.dns import (
    AAAA,
    JUMPS_MAX,
    MESSAGE_BYTES_MAX,
    PTR,
    RECORDS_MAX,
    SRV,
    TXT,
    A,
    Message,
    Question,
    Record,
    Service,
    decode,
    dnsaddr_texts,
    encode,
    name_of,
)
from stack.errors import DecodeError
from tests.flooding import quickest

NAME = name_of("_p2p._udp.local")
INSTANCE = (b"somebody", *NAME)

# RFC 1035, section 4.1.4, as an answer of a unicast server to `_p2p._udp.local PTR`, written by hand: the name in the answer
# and the end of its value are pointers to the question's name.
BY_HAND = bytes.fromhex(
    "000084000001000100000000045f703270045f756470056c6f63616c00000c0001c00c000c800100000078000b08736f6d65626f6479c00c"
)

names = st.lists(st.binary(min_size=1, max_size=20).map(bytes.lower), min_size=1, max_size=6).map(tuple)
records = st.one_of(
    st.builds(Record, names, st.just(PTR), st.integers(0, 2**32 - 1), names, st.booleans()),
    st.builds(
        Record,
        names,
        st.just(TXT),
        st.integers(0, 2**32 - 1),
        st.lists(st.binary(max_size=255), min_size=1, max_size=4).map(tuple),
    ),
    st.builds(Record, names, st.just(SRV), st.just(120), st.builds(Service, st.integers(0, 65535), names)),
    st.builds(Record, names, st.just(A), st.just(120), st.ip_addresses(v=4)),
    st.builds(Record, names, st.just(AAAA), st.just(120), st.ip_addresses(v=6)),
)
messages = st.builds(
    Message,
    id=st.integers(0, 65535),
    response=st.just(True),
    truncated=st.booleans(),
    code=st.integers(0, 15),
    questions=st.lists(st.builds(Question, names, st.integers(1, 255), st.booleans()), max_size=3).map(tuple),
    answers=st.lists(records, max_size=4).map(tuple),
    additionals=st.lists(records, max_size=4).map(tuple),
)


def test_a_message_made_by_hand_is_read_and_written_the_same() -> None:
    message = Message(
        response=True, questions=(Question(NAME, PTR),), answers=(Record(NAME, PTR, 120, INSTANCE, flush=True),)
    )
    assert decode(BY_HAND) == message
    assert encode(message) == BY_HAND


@given(messages)
def test_what_is_written_is_read_again(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages, st.integers(0, 2000))
def test_what_is_cut_short_is_refused_or_ends_with_whole_records(message: Message, size: int) -> None:
    data = encode(message)
    if size < len(data):
        with pytest.raises(DecodeError):
            decode(data[:size])


@given(st.binary(max_size=600))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except DecodeError:
        pass


@given(st.binary(min_size=4, max_size=300), st.integers(0, 3))
def test_any_bytes_behind_a_good_header_are_a_message_or_refused(data: bytes, count: int) -> None:
    try:
        decode(b"\0\0\x84\0" + bytes((0, count, 0, 3, 0, count, 0, 1)) + data)
    except DecodeError:
        pass


def test_records_of_other_types_and_classes_are_left_out() -> None:
    name = b"\x01a\0"
    other_type = name + bytes.fromhex("000d0001000000780002") + b"xx"
    other_class = name + bytes.fromhex("000c0003000000780002") + b"\xc0\x0c"
    short_address = name + bytes.fromhex("00010001000000780003") + b"123"
    short_six = name + bytes.fromhex("001c0001000000780003") + b"123"
    data = bytes.fromhex("000084000000000400000000") + other_type + other_class + short_address + short_six
    assert decode(data).answers == ()


def test_an_empty_text_record_has_one_empty_string() -> None:
    message = Message(response=True, answers=(Record(NAME, TXT, 1, ()),))
    assert decode(encode(message)).answers[0].value == (b"",)


def test_a_question_to_a_server_tells_what_we_can_take() -> None:
    data = encode(Message(id=7, recursion=True, questions=(Question(NAME, TXT),)), udp_size=1232)
    assert data.endswith(bytes.fromhex("000029 04d0 00000000 0000".replace(" ", "")))
    assert decode(data) == Message(id=7, recursion=True, questions=(Question(NAME, TXT),))


@pytest.mark.parametrize(
    "tail",
    [
        b"\xc0\x0c",  # itself
        b"\xc0\x0e\xc0\x0c",  # forward
        b"\x01a\xc0\x0c" + b"\0" * 4,  # back to the beginning of the same name
        b"\xff\xff",
        b"\x80",
        b"\x40a",
        b"\x05ab",
        b"\xc0",
        b"",
        b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3f" + b"d" * 63 + b"\0" * 5,
        b"\x01a" * 41 + b"\0" * 5,
    ],
)
def test_names_without_an_end_are_refused(tail: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex("000000000001000000000000") + tail)


@pytest.mark.parametrize("kind", [PTR, TXT, SRV])
def test_values_that_are_cut_short_are_refused(kind: int) -> None:
    head = bytes.fromhex("000084000000000100000000") + b"\x01a\0"
    value = {PTR: b"\x05a", TXT: b"\x05a", SRV: b"\0\0\0\0"}[kind]
    with pytest.raises(DecodeError):
        decode(head + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x78" + len(value).to_bytes(2, "big") + value)
    with pytest.raises(DecodeError):
        decode(head + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x78\x01\0" + value)


def test_large_messages_and_those_of_many_parts_are_refused_unread() -> None:
    with pytest.raises(DecodeError, match="bytes"):
        decode(bytes(MESSAGE_BYTES_MAX + 1))
    with pytest.raises(DecodeError, match="bytes"):
        decode(b"")
    with pytest.raises(DecodeError, match="parts"):
        decode(bytes(6) + RECORDS_MAX.to_bytes(2, "big") + b"\0\1" + bytes(100))


LONG = b"".join(b"\x05abcde" for _ in range(39)) + b"\0"


def pointing(count: int, name: bytes, *, jumps: int = 0) -> bytes:
    """Records whose names and values are pointers to one name, through so many pointers more; they lie in its end."""
    data = bytearray(bytes.fromhex("00008400000000") + bytes((count + 1,)) + bytes(4))
    chain = name
    last = 12 + 1 + 10
    for _ in range(jumps):
        chain, last = chain + (0xC000 | last).to_bytes(2, "big"), 12 + 1 + 10 + len(chain)
    # a record of a type that nobody reads, for the root, holds them
    data += b"\0" + b"\0\x63\0\1" + bytes(4) + len(chain).to_bytes(2, "big") + chain
    pointer = (0xC000 | last).to_bytes(2, "big")
    return bytes(data + (pointer + PTR.to_bytes(2, "big") + b"\0\1\0\0\0\x78\0\2" + pointer) * count)


@pytest.mark.parametrize("name", [INSTANCE, name_of("a.b.c._p2p._udp.local")])
def test_records_that_all_point_to_one_name_are_read(name: tuple[bytes, ...]) -> None:
    labels = b"".join(bytes((len(label),)) + label for label in name) + b"\0"
    assert {record.name for record in decode(pointing(RECORDS_MAX - 2, labels)).answers} == {name}


@pytest.mark.parametrize("jumps", [JUMPS_MAX, 100, 3000])
def test_attack_7_a_chain_of_pointers_is_refused(jumps: int) -> None:
    assert decode(pointing(1, b"\1a\0", jumps=JUMPS_MAX - 1)).answers[0].name == (b"a",)
    with pytest.raises(DecodeError, match="pointer"):
        decode(pointing(100, b"\1a\0", jumps=jumps))


@pytest.mark.parametrize(
    "data",
    [
        pointing(RECORDS_MAX - 2, LONG),
        pointing(RECORDS_MAX - 2, LONG, jumps=JUMPS_MAX - 1),
        pointing(RECORDS_MAX - 2, LONG) + bytes(6900),
        pointing(RECORDS_MAX - 2, LONG, jumps=3000),
    ],
)
def test_attack_7_the_worst_packets_cost_a_bounded_number_of_steps(data: bytes) -> None:
    """It was 0.3 s for 8,664 bytes."""
    assert len(data) <= MESSAGE_BYTES_MAX
    with pytest.raises(DecodeError):
        decode(data)
    assert quickest(lambda: suppressed(decode, data)) < 0.01


def suppressed(call: Callable[[bytes], object], data: bytes) -> None:
    with suppress(DecodeError):
        call(data)


@pytest.mark.parametrize(
    "text", ["a..b", ".", "x" * 64, ".".join(["abcdefgh"] * 40), ".".join("a" * 41), "köln.example"]
)
def test_a_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        name_of(text)


def test_names_have_no_case_and_may_end_in_a_dot() -> None:
    assert name_of("_P2P._udp.Local.") == NAME
    assert decode(BY_HAND.replace(b"_p2p", b"_P2P")).questions[0].name == NAME


def test_only_addresses_are_taken_from_a_text_record() -> None:
    assert dnsaddr_texts([b"dnsaddr=/ip4/1.2.3.4", b"x=y", b"", b"dnsaddr=\xff"]) == ["/ip4/1.2.3.4", "\ufffd"]


def test_addresses_are_those_of_the_standard_library() -> None:
    message = Message(
        response=True,
        answers=(Record(NAME, A, 1, IPv4Address("1.2.3.4")), Record(NAME, AAAA, 1, IPv6Address("fd00::1"))),
    )
    assert decode(encode(message)) == message
