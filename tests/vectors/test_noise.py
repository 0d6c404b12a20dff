"""Noise payloads and whole handshakes with fixed keys, made by go-libp2p and flynn/noise."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.errors import SecurityError
from stack.identity.keys import decode_public
from stack.identity.peer_id import PeerId
from stack.pb.noise_pb2 import NoiseHandshakePayload
from stack.security.noise.frames import NoiseSession
from stack.security.noise.handshake import (
    SIGNATURE_PREFIX,
    HandshakeFinished,
    NoiseHandshake,
    decode_payload,
    static_public_key,
)

VECTORS = json.loads((Path(__file__).parent / "wire" / "noise.json").read_text())
HANDSHAKES = {record["name"]: record for record in VECTORS["handshakes"]}


def named(record: Any) -> str:
    return str(record["name"])


def machine(record: Any, *, outbound: bool) -> NoiseHandshake:
    end = record["initiator" if outbound else "responder"]
    return NoiseHandshake(
        outbound=outbound,
        static_key=bytes.fromhex(end["static_private_hex"]),
        ephemeral_key=bytes.fromhex(end["ephemeral_private_hex"]),
        payload=bytes.fromhex(end["payload_hex"]),
        prologue=bytes.fromhex(record["prologue_hex"]),
    )


def frames(record: Any) -> list[bytes]:
    return [bytes.fromhex(record["frames"][name]) for name in ("1_i_to_r_hex", "2_r_to_i_hex", "3_i_to_r_hex")]


def finished(handshake: NoiseHandshake) -> HandshakeFinished:
    event = handshake.next_event()
    assert event is not None
    return event


@pytest.mark.parametrize("record", VECTORS["payloads"], ids=named)
def test_a_payload_is_read_and_its_signature_holds(record: Any) -> None:
    data = bytes.fromhex(record["pb_hex"])
    if "signed_bytes_hex" in record:
        assert bytes.fromhex(record["signed_bytes_hex"]) == SIGNATURE_PREFIX + bytes.fromhex(
            record["static_public_hex"]
        )
    assert static_public_key(bytes.fromhex(record["static_private_hex"])).hex() == record["static_public_hex"]
    key, muxers = decode_payload(data, bytes.fromhex(record["static_public_hex"]))
    assert str(PeerId.of(key)) == record["peer_id"]
    assert key.encode().hex() == record["meaning"]["identity_key"]
    assert muxers == record["meaning"].get("extensions", {}).get("stream_muxers", [])
    assert NoiseHandshakePayload.FromString(data).SerializeToString() == data


@pytest.mark.parametrize("record", VECTORS["handshakes"], ids=named)
def test_a_whole_handshake_equals_byte_for_byte(record: Any) -> None:
    one, two, three = frames(record)
    initiator, responder = machine(record, outbound=True), machine(record, outbound=False)
    assert initiator.data_to_send() == one
    responder.receive_data(one, 0.0)
    assert responder.data_to_send() == two
    initiator.receive_data(two, 0.0)
    assert initiator.data_to_send() == three
    responder.receive_data(three, 0.0)
    first, second = finished(initiator), finished(responder)
    assert first.handshake_hash.hex() == second.handshake_hash.hex() == record["handshake_hash_hex"]
    assert str(first.remote_peer) == record["responder"]["peer_id"]
    assert str(second.remote_peer) == record["initiator"]["peer_id"]
    # The vectors count their messages over both directions; each direction counts for itself.
    for message in record["transport"]:
        sender, receiver = (first, second) if message["direction"] == "i->r" else (second, first)
        check_transport(message, sender.session, receiver.session)


def check_transport(message: Any, sender: NoiseSession, receiver: NoiseSession) -> None:
    plaintext = bytes.fromhex(message["plaintext_hex"])
    frame = memoryview(bytearray(len(plaintext) + 18))
    frame[2 : 2 + len(plaintext)] = plaintext
    sender.seal(frame, len(plaintext))
    assert frame.hex() == message["frame_hex"]
    opened = receiver.open(frame)
    assert opened is not None
    assert (opened[0], bytes(opened[1])) == (len(frame), plaintext)


@pytest.mark.parametrize("record", VECTORS["bad_frames"], ids=named)
def test_a_bad_frame_is_refused(record: Any) -> None:
    handshake = HANDSHAKES[record["handshake"]]
    one, _, _ = frames(handshake)
    outbound = "initiator must fail" in record["name"]
    end = machine(handshake, outbound=outbound)
    if "frame 3" in record["name"]:
        end.receive_data(one, 0.0)
    with pytest.raises(SecurityError):
        end.receive_data(bytes.fromhex(record["frame_hex"]), 0.0)
    assert end.next_event() is None


@pytest.mark.parametrize("record", VECTORS["bad_payloads"], ids=named)
def test_a_bad_payload_is_refused(record: Any) -> None:
    with pytest.raises(SecurityError):
        decode_payload(bytes.fromhex(record["pb_hex"]), bytes.fromhex(record["static_public_hex"]))


def test_the_good_part_of_the_bad_payloads_is_good() -> None:
    for record in VECTORS["bad_payloads"]:
        key = NoiseHandshakePayload.FromString(bytes.fromhex(record["pb_hex"])).identity_key
        if key:
            decode_public(key)
