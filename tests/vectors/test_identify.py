"""Every identify message of `wire/identify.json` (made by go-libp2p), both ways, byte by byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.identity.keys import decode_public
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import open_peer_record
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.identify.messages import Identify, IdentifyReader, decode_identify
from stack.sansio.delimited import encode_delimited

RECORDS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "wire" / "identify.json").read_text())["messages"]
IDS = [record["name"] for record in RECORDS]


def from_meaning(meaning: dict[str, Any]) -> Identify:
    """The message that the record describes."""

    def optional(name: str) -> bytes | None:
        return bytes.fromhex(meaning[name]) if name in meaning else None

    observed = optional("observedAddr")
    return Identify(
        public_key=optional("publicKey"),
        listen_addresses=tuple(Multiaddr.decode(bytes.fromhex(text)) for text in meaning.get("listenAddrs", [])),
        protocols=tuple(meaning.get("protocols", [])),
        observed_address=Multiaddr.decode(observed) if observed else None,
        protocol_version=meaning.get("protocolVersion"),
        agent_version=meaning.get("agentVersion"),
        signed_peer_record=optional("signedPeerRecord"),
    )


def test_there_are_records() -> None:
    assert len(RECORDS) >= 1


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_a_record_decodes_to_its_meaning(record: dict[str, Any]) -> None:
    assert decode_identify(bytes.fromhex(record["pb_hex"])) == from_meaning(record["meaning"])


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_a_meaning_encodes_to_the_same_bytes(record: dict[str, Any]) -> None:
    encoded = from_meaning(record["meaning"]).encode()
    assert encoded.hex() == record["pb_hex"]
    assert encode_delimited(encoded).hex() == record["wire_hex"]


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_the_wire_form_is_read_at_every_split(record: dict[str, Any]) -> None:
    wire = bytes.fromhex(record["wire_hex"])
    for split in range(0, len(wire), 7):
        reader = IdentifyReader()
        reader.receive_data(wire[:split])
        reader.receive_data(wire[split:])
        assert reader.finish() == from_meaning(record["meaning"])


@pytest.mark.parametrize("record", [r for r in RECORDS if "signedPeerRecord" in r["meaning"]], ids=lambda r: r["name"])
def test_the_key_and_the_record_belong_to_one_peer(record: dict[str, Any]) -> None:
    message = from_meaning(record["meaning"])
    assert message.public_key is not None
    assert message.signed_peer_record is not None
    peer = PeerId.of(decode_public(message.public_key))
    assert message.is_of(peer)
    assert open_peer_record(message.signed_peer_record).peer_id == peer
