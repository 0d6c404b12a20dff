"""The Noise handshake as a pure machine."""

import hashlib

import pytest
from noise.connection import Keypair, NoiseConnection

from stack.errors import NegotiationError, SecurityError
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.security.noise.handshake import (
    MESSAGE_BYTES_MAX,
    HandshakeFinished,
    NoiseHandshake,
    decode_payload,
    encode_payload,
    static_public_key,
)
from stack.testing.pair import BytePair

YAMUX = "/yamux/1.0.0"
FIRST = generate()
SECOND = generate()


def key(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


def handshake(
    identity: PrivateKey, *, outbound: bool, muxers: tuple[str, ...] = (), expected: PeerId | None = None
) -> NoiseHandshake:
    static = key(f"static {outbound}")
    return NoiseHandshake(
        outbound=outbound,
        static_key=static,
        ephemeral_key=key(f"ephemeral {outbound}"),
        payload=encode_payload(identity, static_public_key(static), muxers),
        muxers=muxers,
        expected=expected,
    )


def pair(
    *,
    muxers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    expected: tuple[PeerId | None, PeerId | None] = (None, None),
    step: int | None = None,
) -> BytePair[HandshakeFinished, HandshakeFinished]:
    return BytePair(
        handshake(FIRST, outbound=True, muxers=muxers[0], expected=expected[0]),
        handshake(SECOND, outbound=False, muxers=muxers[1], expected=expected[1]),
        cut=lambda data: [data] if step is None else [data[i : i + step] for i in range(0, len(data), step)],
    )


@pytest.mark.parametrize("step", [None, 1, 3, 33])
def test_both_ends_learn_who_the_other_is_however_the_bytes_are_cut(step: int | None) -> None:
    link = pair(step=step)
    link.run()
    (first,), (second,) = link.first_events, link.second_events
    assert (first.remote_peer, second.remote_peer) == (PeerId.of(SECOND.public), PeerId.of(FIRST.public))
    assert (first.remote_key, second.remote_key) == (SECOND.public, FIRST.public)
    assert first.handshake_hash == second.handshake_hash
    assert first.muxer is None and second.muxer is None


def test_the_sessions_of_both_ends_fit() -> None:
    link = pair()
    link.run()
    for sender, receiver in ((link.first_events, link.second_events), (link.second_events, link.first_events)):
        frame = memoryview(bytearray(2 + 5 + 16))
        frame[2:7] = b"hello"
        assert sender[0].session.seal(frame, 5) == 23
        opened = receiver[0].session.open(frame)
        assert opened is not None
        assert (opened[0], bytes(opened[1])) == (23, b"hello")


def test_the_expected_peer_is_accepted_at_both_ends() -> None:
    link = pair(expected=(PeerId.of(SECOND.public), PeerId.of(FIRST.public)))
    link.run()
    assert link.first_events and link.second_events


def test_A18_another_peer_than_the_expected_is_refused_with_both_ids_before_we_show_our_own() -> None:
    link = pair(expected=(PeerId.of(FIRST.public), None))
    with pytest.raises(PeerIdMismatch) as caught:
        link.run()
    assert caught.value.expected == PeerId.of(FIRST.public)
    assert caught.value.actual == PeerId.of(SECOND.public)
    assert link.first.data_to_send() == b""


def test_A18_the_listener_may_expect_a_peer_too() -> None:
    with pytest.raises(PeerIdMismatch):
        pair(expected=(None, PeerId.of(SECOND.public))).run()


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        ((YAMUX,), (YAMUX,), YAMUX),
        ((YAMUX, "/b"), ("/b", YAMUX), YAMUX),
        (("/b", YAMUX), (YAMUX, "/b"), "/b"),
        (("/c", YAMUX), (YAMUX, "/b"), YAMUX),
        ((YAMUX,), (), None),
        ((), (YAMUX,), None),
    ],
)
def test_the_muxer_is_the_dialler_s_first_that_both_have(
    ours: tuple[str, ...], theirs: tuple[str, ...], agreed: str | None
) -> None:
    link = pair(muxers=(ours, theirs))
    link.run()
    assert link.first_events[0].muxer == link.second_events[0].muxer == agreed


def test_no_common_muxer_ends_the_handshake() -> None:
    with pytest.raises(NegotiationError, match="no muxer in common"):
        pair(muxers=((YAMUX,), ("/mplex/6.7.0",))).run()


def test_a_peer_that_closes_in_the_middle_is_reported() -> None:
    machine = handshake(FIRST, outbound=True)
    with pytest.raises(SecurityError, match="closed during"):
        machine.receive_data(b"", 0.0)


def test_an_announced_message_over_4_KiB_is_refused_before_it_arrives() -> None:
    machine = handshake(FIRST, outbound=False)
    with pytest.raises(SecurityError, match="4097 bytes"):
        machine.receive_data((MESSAGE_BYTES_MAX + 1).to_bytes(2, "big"), 0.0)


def test_an_announced_message_of_4_KiB_is_waited_for() -> None:
    machine = handshake(FIRST, outbound=False)
    machine.receive_data(MESSAGE_BYTES_MAX.to_bytes(2, "big") + bytes(100), 0.0)
    assert machine.next_event() is None


def test_a_failed_handshake_refuses_everything_after() -> None:
    machine = handshake(FIRST, outbound=False)
    with pytest.raises(SecurityError):
        machine.receive_data(b"\x00\x01x", 0.0)
    with pytest.raises(SecurityError, match="failed before"):
        machine.receive_data(b"\x00", 0.0)


def test_a_point_of_small_order_is_refused() -> None:
    machine = handshake(FIRST, outbound=False)
    with pytest.raises(SecurityError):
        machine.receive_data(b"\x00\x20" + bytes(32), 0.0)


def test_every_flipped_byte_of_every_message_is_refused() -> None:
    link = pair()
    link.run()
    second_message = link.second_sent
    third_message = link.first_sent[34:]
    for message, outbound in ((second_message, True), (third_message, False)):
        for index in range(2, len(message), 7):
            machine = handshake(FIRST if outbound else SECOND, outbound=outbound)
            if not outbound:
                machine.receive_data(link.first_sent[:34], 0.0)
            forged = bytearray(message)
            forged[index] ^= 1
            with pytest.raises(SecurityError):
                machine.receive_data(bytes(forged), 0.0)
            assert machine.next_event() is None


def test_bytes_behind_the_handshake_are_handed_on() -> None:
    link = pair()
    link.run()
    machine = handshake(SECOND, outbound=False)
    machine.receive_data(link.first_sent[:34], 0.0)
    machine.receive_data(link.first_sent[34:] + b"rest", 0.0)
    assert machine.next_event() is not None
    assert machine.next_event() is None
    assert machine.leftover == b"rest"
    machine.receive_data(b"more", 0.0)
    assert machine.leftover == b"restmore"


def test_a_payload_that_is_no_protobuf_is_refused() -> None:
    with pytest.raises(SecurityError, match="damaged"):
        decode_payload(b"\xff\xff", key("static"))


def test_a_long_list_of_muxers_is_cut() -> None:
    static = key("static")
    data = encode_payload(FIRST, static_public_key(static), [f"/{n}" for n in range(100)])
    assert len(decode_payload(data, static_public_key(static))[1]) == 32


def test_a_handshake_has_no_deadline_of_its_own_and_shows_no_key() -> None:
    machine = handshake(FIRST, outbound=True)
    assert machine.next_timeout() is None
    machine.handle_timeout(0.0)
    assert repr(machine) == "<NoiseHandshake outbound, 1 messages to come>"


def test_the_package_still_has_the_private_attributes_we_use() -> None:
    noise = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
    noise.set_as_initiator()
    noise.set_keypair_from_private_bytes(Keypair.STATIC, key("static"))
    noise.start_handshake()
    protocol = noise.noise_protocol
    for name in ("handshake_state", "handshake_hash", "cipher_state_encrypt", "cipher_state_decrypt"):
        assert hasattr(protocol, name)
    assert hasattr(protocol.handshake_state, "e") and hasattr(protocol.handshake_state, "rs")
