"""The identify message, its pieces, and what hostile peers make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError, RemoteProtocolError
from stack.identity.peer_record import ADDRESSES_BYTES_MAX, ADDRESSES_MAX, PeerRecord, open_peer_record
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import identify_pb2
from stack.protocols.identify.messages import (
    MESSAGE_BYTES_MAX,
    MESSAGES_MAX,
    PROTOCOLS_MAX,
    SENT_BYTES_MAX,
    Identify,
    IdentifyReader,
    decode_identify,
)
from stack.sansio.delimited import encode_delimited
from tests.flooding import quickest
from tests.net.identities import key, peer


def read(data: bytes) -> Identify:
    reader = IdentifyReader()
    reader.receive_data(data)
    return reader.finish()


def full(protocols: int = 3, record: int = 100) -> Identify:
    return Identify(
        public_key=key(1).public.encode(),
        listen_addresses=(Multiaddr.parse("/memory/1"), Multiaddr.parse("/ip4/1.2.3.4/tcp/5/ws")),
        protocols=tuple(f"/protocol/{n}" for n in range(protocols)),
        observed_address=Multiaddr.parse("/ip4/9.9.9.9/tcp/1"),
        protocol_version="ipfs/0.1.0",
        agent_version="stack/0",
        signed_peer_record=bytes(record),
    )


def test_a_message_comes_back_as_it_was() -> None:
    assert decode_identify(full().encode()) == full()
    assert decode_identify(Identify().encode()) == Identify()


def test_a_small_message_is_one_piece() -> None:
    pieces = full().encode_pieces()
    assert len(pieces) == 1
    assert read(pieces[0]) == full()


def test_a_large_message_is_cut_into_pieces_that_merge_again() -> None:
    message = full(protocols=800, record=3000)
    pieces = message.encode_pieces()
    assert 1 < len(pieces) <= MESSAGES_MAX
    assert all(len(piece) <= SENT_BYTES_MAX + 2 for piece in pieces)
    assert read(b"".join(pieces)) == message


def test_what_does_not_fit_is_left_out_and_the_rest_is_good() -> None:
    message = full(protocols=10_000)
    back = read(b"".join(message.encode_pieces()))
    assert back.signed_peer_record == message.signed_peer_record
    assert 0 < len(back.protocols) <= PROTOCOLS_MAX
    assert read(full(record=SENT_BYTES_MAX + 1).encode_pieces()[0]).signed_peer_record is None


def test_A18_the_key_must_be_the_peers() -> None:
    assert full().is_of(peer(1))
    assert not full().is_of(peer(2))
    assert Identify().is_of(peer(2))
    assert not Identify(public_key=b"garbage").is_of(peer(1))
    assert not Identify(public_key=b"").is_of(peer(1))


def test_parts_that_make_no_sense_are_left_out() -> None:
    from stack.pb import identify_pb2

    data = identify_pb2.Identify(
        listen_addrs=[b"\xff\xff", b"", bytes(Multiaddr.parse("/memory/1"))],
        protocols=["", "/a", "/a", "/" + "b" * 300],
        observed_addr=b"\xff",
    ).SerializeToString()
    message = decode_identify(data)
    assert message.listen_addresses == (Multiaddr.parse("/memory/1"),)
    assert message.protocols == ("/a",)
    assert message.observed_address is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x05",
        b"\x05\x0a",
        encode_delimited(b"\x0a\xff"),
        encode_delimited(b"\x1a\x01\xff"),
        encode_delimited(b"\x2a\x02\xc3\x28"),
        b"\xff" * 10,
        b"\x80\x00",
        encode_delimited(bytes(MESSAGE_BYTES_MAX + 1)),
        encode_delimited(b"") * (MESSAGES_MAX + 1),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_what_is_no_identify_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


def test_more_than_can_be_meant_at_once_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        IdentifyReader().receive_data(bytes(1 << 20))


def test_A30_ten_full_messages_of_protocols_are_cut_at_the_cap() -> None:
    from stack.pb import identify_pb2

    numbers = iter(range(1 << 30))
    pieces = []
    for _ in range(MESSAGES_MAX):
        piece = identify_pb2.Identify()
        while piece.ByteSize() < MESSAGE_BYTES_MAX - 20:
            piece.protocols.append(f"/{next(numbers)}")
        pieces.append(encode_delimited(piece.SerializeToString()))
    assert len(read(b"".join(pieces)).protocols) == PROTOCOLS_MAX


def test_addresses_are_cut_at_the_cap() -> None:
    message = Identify(listen_addresses=tuple(Multiaddr.parse(f"/memory/{n}") for n in range(2 * ADDRESSES_MAX)))
    assert len(decode_identify(message.encode()).listen_addresses) == ADDRESSES_MAX


def test_A32_a_message_that_drips_costs_little() -> None:
    wire = encode_delimited(Identify(protocols=tuple(f"/{n}" for n in range(700))).encode())

    def work() -> None:
        reader = IdentifyReader()
        for byte in wire[:8192]:
            reader.receive_data(bytes([byte]))

    assert quickest(work) < 0.15


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b" * 7000,
        b"\x0b\x0c" * 3500,
        b"\xfa\x01\x00" * 2000,
        b"\x12\x00" * 4000,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    ids=["nested groups", "empty groups", "unknown fields", "empty addresses", "huge length"],
)
def test_A34_hostile_protobuf_costs_little(data: bytes) -> None:
    def work() -> None:
        try:
            decode_identify(data)
        except DecodeError:
            pass

    assert quickest(work) < 0.05


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_our_error(data: bytes) -> None:
    try:
        read(data)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize("told", ["addresses", "one address", "record"])
def test_attack_5_the_longest_addresses_are_no_more_than_a_turn(told: str) -> None:
    """500 that were made of forty protocols took 22 ms, with each identification and each push."""
    long = "/ip4/1.2.3.4" + 40 * "/tcp/1"
    addresses = [Multiaddr.parse(f"{long}/tcp/{number}") for number in range(500)]
    if told == "record":
        record = PeerRecord(peer(1), 1, tuple(addresses[:450])).seal(key(1))
        assert 0 < len(open_peer_record(record).addresses) <= ADDRESSES_BYTES_MAX // len(bytes(addresses[0]))
        assert quickest(lambda: open_peer_record(record)) < 0.012
        return
    if told == "one address":
        message = identify_pb2.Identify(observed_addr=20_000 * b"\x06\x00\x01").SerializeToString()
        assert decode_identify(message).observed_address is None
    else:
        message = Identify(listen_addresses=tuple(addresses)).encode()
        assert 0 < len(decode_identify(message).listen_addresses) <= ADDRESSES_BYTES_MAX // len(bytes(addresses[0]))
    assert quickest(lambda: decode_identify(message)) < 0.01
