import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.identity.envelope import ENVELOPE_BYTES_MAX, Envelope
from stack.identity.keys import KEY_TYPES, BadSignature, generate
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.identity.peer_record import ADDRESSES_MAX, DOMAIN, PAYLOAD_TYPE, PeerRecord, open_peer_record
from stack.multiformats.multiaddr import Multiaddr
from stack.pb import peer_record_pb2
from tests.flooding import quickest

KEY = generate()
PEER = PeerId.of(KEY.public)
ADDRESSES = (Multiaddr.parse("/ip4/127.0.0.1/tcp/4001"), Multiaddr.parse("/ip6/::1/udp/4001/quic-v1"))
RECORD = PeerRecord(PEER, 7, ADDRESSES)


def sealed(payload: bytes, payload_type: bytes = PAYLOAD_TYPE) -> bytes:
    """Any payload in an envelope that verifies."""
    return Envelope.seal(KEY, DOMAIN, payload_type, payload).encode()


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_a_record_comes_back_from_its_envelope(kind: str) -> None:
    key = generate(kind)
    record = PeerRecord(PeerId.of(key.public), 2**64 - 1, ADDRESSES)
    assert open_peer_record(record.seal(key)) == record


@given(st.text(max_size=20), st.binary(max_size=8), st.binary(max_size=50))
def test_an_envelope_comes_back_for_its_domain_only(domain: str, payload_type: bytes, payload: bytes) -> None:
    envelope = Envelope.seal(KEY, domain, payload_type, payload)
    assert Envelope.open(envelope.encode(), domain) == envelope
    with pytest.raises(BadSignature):
        Envelope.open(envelope.encode(), domain + "x")


@given(st.data())
def test_an_envelope_with_a_changed_byte_is_refused_or_says_the_same(data: st.DataObject) -> None:
    encoded = bytearray(RECORD.seal(KEY))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        record = open_peer_record(bytes(encoded))
    except (DecodeError, BadSignature, PeerIdMismatch):
        return
    assert record == RECORD


def test_A06_a_record_about_another_peer_is_refused() -> None:
    other = PeerRecord(PeerId.of(generate().public), 1, ADDRESSES)
    with pytest.raises(PeerIdMismatch) as caught:
        open_peer_record(sealed(other.encode()))
    assert (caught.value.expected, caught.value.actual) == (other.peer_id, PEER)
    with pytest.raises(PeerIdMismatch):
        other.seal(KEY)


def test_a_payload_of_another_type_is_no_record() -> None:
    with pytest.raises(DecodeError, match="0302"):
        open_peer_record(sealed(RECORD.encode(), b"\x03\x02"))


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x0a\x02\x12\x20", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_a_payload_that_is_no_record_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        open_peer_record(sealed(payload))


def test_addresses_that_are_not_understood_are_left_out() -> None:
    message = peer_record_pb2.PeerRecord(peer_id=bytes(PEER), seq=1)
    for data in (bytes(ADDRESSES[0]), b"", b"\xff\xff\x7f", b"\x04\x7f", bytes(ADDRESSES[1])):
        message.addresses.add(multiaddr=data)
    assert open_peer_record(sealed(message.SerializeToString())).addresses == ADDRESSES


def test_addresses_over_the_bound_are_not_looked_at() -> None:
    many = PeerRecord(PEER, 1, ADDRESSES[:1] * (ADDRESSES_MAX + 100))
    assert len(open_peer_record(many.seal(KEY)).addresses) == ADDRESSES_MAX


def test_a_record_without_addresses_is_one() -> None:
    empty = PeerRecord(PEER, 0, ())
    assert empty.encode() == b"\x0a" + bytes([len(bytes(PEER))]) + bytes(PEER)
    assert open_peer_record(empty.seal(KEY)) == empty


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b" * 20_000,  # groups in groups
        b"\x3a\x00" * 30_000,  # unknown empty fields
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # 2**63 - 1 bytes announced
        b"\x0a" + b"\xff" * 9 + b"\x01",  # 2**64 - 1 bytes announced
        b"\x0a\x00" * (ENVELOPE_BYTES_MAX // 2),
        bytes(ENVELOPE_BYTES_MAX + 1),
        b"\x1a\x00" * 1_000_000,
    ],
    ids=["groups", "unknown fields", "2**63", "2**64", "repeated keys", "too long", "million"],
)
def test_A34_a_hostile_envelope_is_refused_quickly(data: bytes) -> None:
    def work() -> None:
        with pytest.raises(DecodeError):
            Envelope.open(data, DOMAIN)

    assert quickest(work) < 0.05


def test_A34_a_hostile_record_in_a_good_envelope_is_refused_or_read_quickly() -> None:
    payloads = [b"\x0b" * 60_000, b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x1a\x00" * 30_000]
    envelopes = [sealed(payload) for payload in payloads]

    def work() -> None:
        for data in envelopes:
            with pytest.raises(DecodeError):
                open_peer_record(data)

    assert quickest(work) < 0.05
    crowd = sealed(RECORD.encode() + b"\x1a\x00" * 30_000)

    def crowded() -> None:
        assert open_peer_record(crowd).addresses == ADDRESSES

    assert quickest(crowded) < 0.05
