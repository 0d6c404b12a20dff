"""Every record of identity.json (go-libp2p) and the keys and peer ids of libp2p-spec.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.errors import DecodeError
from stack.identity.envelope import Envelope
from stack.identity.keys import BadSignature, decode_private, decode_public
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.identity.peer_record import PeerRecord, open_peer_record
from stack.multiformats.multiaddr import Multiaddr

FOLDER = Path(__file__).parent
VECTORS: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "identity.json").read_text())
SPECIFICATION: dict[str, Any] = json.loads((FOLDER / "libp2p-spec.json").read_text())

Record = dict[str, Any]


def records(section: str) -> Any:
    """One parameter a record, named by its place."""
    return pytest.mark.parametrize("record", [pytest.param(r, id=str(n)) for n, r in enumerate(VECTORS[section])])


def must(record: Record) -> bool:
    """Whether the verdict binds; where Go is laxer than the specification either answer passes."""
    return bool(record.get("binding", True))


@records("keys")
def test_keys_give_the_peer_ids_and_signatures_of_go(record: Record) -> None:
    key = decode_private(bytes.fromhex(record["private_key_pb_hex"]))
    assert key.kind == record["type"].lower()
    assert key.encode().hex() == record["private_key_pb_hex"]
    assert key.public.encode().hex() == record["public_key_pb_hex"]
    assert key.public.data.hex() == record["public_key_raw_hex"]
    assert decode_public(key.public.encode()) == key.public
    peer = PeerId.of(key.public)
    assert (str(peer), bytes(peer).hex()) == (record["peer_id"], record["peer_id_bytes_hex"])
    assert str(peer.cid) == record["peer_id_cid_base32"]
    assert peer.cid.encode("base36") == record["peer_id_cid_base36"]
    assert peer.public_key() == (key.public if record["key_inlined"] else None)
    for row in record["signatures"]:
        message, signature = bytes.fromhex(row["message_hex"]), bytes.fromhex(row["signature_hex"])
        key.public.verify(message, signature)
        made = key.sign(message)
        key.public.verify(message, made)
        if record["type"] in ("Ed25519", "RSA"):
            assert made == signature


@records("verify")
def test_signatures_are_judged_as_go_judges_them(record: Record) -> None:
    key = decode_public(bytes.fromhex(record["public_key_pb_hex"]))
    try:
        key.verify(bytes.fromhex(record["message_hex"]), bytes.fromhex(record["signature_hex"]))
        valid = True
    except BadSignature:
        valid = False
    assert valid == record["valid"] or not must(record)


@records("parse_keys")
def test_keys_are_read_as_go_reads_them(record: Record) -> None:
    data = bytes.fromhex(record["hex"])
    try:
        key = decode_public(data) if record["kind"] == "public" else decode_private(data).public
    except DecodeError:
        assert not record["ok"] or not must(record)
        return
    assert record["ok"] or not must(record)
    assert str(PeerId.of(key)) == record["peer_id"]
    assert key.kind == record["type"].lower()


@records("peer_id_text")
def test_peer_ids_are_read_as_go_reads_them(record: Record) -> None:
    try:
        peer = PeerId.parse(record["text"])
    except DecodeError:
        assert not record["ok"] or not must(record)
        return
    assert record["ok"] or not must(record)
    assert (str(peer), bytes(peer).hex()) == (record["peer_id"], record["bytes_hex"])
    assert (str(peer.cid), peer.cid.encode("base36")) == (record["cid_base32"], record["cid_base36"])


@records("envelopes")
def test_envelopes_and_peer_records_are_judged_as_go_judges_them(record: Record) -> None:
    data = bytes.fromhex(record["hex"])
    if not record["valid"]:
        with pytest.raises((DecodeError, BadSignature)):
            Envelope.open(data, record["domain"])
        return
    envelope = Envelope.open(data, record["domain"])
    assert envelope.payload.hex() == record["payload_hex"]
    assert envelope.payload_type.hex() == record["payload_type_hex"]
    assert str(PeerId.of(envelope.public_key)) == record["signer"]
    assert envelope.encode() == data
    about = record["record"]
    expected = PeerRecord(PeerId.parse(about["peer_id"]), about["seq"], tuple(map(Multiaddr.parse, about["addrs"])))
    assert expected.encode().hex() == record["payload_hex"]
    if record["record_matches_signer"]:
        assert open_peer_record(data) == expected
    else:
        with pytest.raises(PeerIdMismatch):
            open_peer_record(data)


@pytest.mark.parametrize("record", SPECIFICATION["keys"], ids=lambda record: record["type"])
def test_the_keys_of_the_specification_belong_together(record: Record) -> None:
    key = decode_private(bytes.fromhex(record["private_key_pb_hex"]))
    assert key.public.encode().hex() == record["public_key_pb_hex"]


@pytest.mark.parametrize("record", SPECIFICATION["peer_id_examples"], ids=lambda record: record["text"][:8])
def test_the_peer_ids_of_the_specification_are_read(record: Record) -> None:
    peer = PeerId.parse(record["text"])
    assert record["text"] in (str(peer), str(peer.cid))


def test_every_section_of_the_vectors_has_a_test() -> None:
    counts = {section: len(rows) for section, rows in VECTORS.items() if section != "header"}
    print(counts)
    assert counts == {"keys": 11, "verify": 33, "parse_keys": 48, "peer_id_text": 39, "envelopes": 18}
