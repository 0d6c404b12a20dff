"""gossipsub RPCs and signed messages as go-libp2p-pubsub writes and judges them (wire/gossipsub.json)."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.gossipsub.decoding import decode_rpc
from stack.gossipsub.messages import (
    RPC_BYTES_MAX,
    Control,
    IHave,
    Message,
    PeerInfo,
    Prune,
    Rpc,
    encode_message,
    encode_rpc,
    signed_fields,
)
from stack.gossipsub.signing import SIGN_PREFIX, author_and_seqno, is_authentic
from stack.sansio.delimited import DelimitedReader

VECTORS = json.loads((Path(__file__).parent / "wire" / "gossipsub.json").read_text())
Record = dict[str, Any]


def name_of(record: Record) -> str:
    return str(record["name"])


def only_rpc(wire: bytes) -> Rpc:
    """The one RPC on the wire."""
    reader = DelimitedReader(RPC_BYTES_MAX)
    reader.receive_data(wire)
    data = reader.next_message()
    assert data is not None
    assert reader.take_rest() == b""
    return decode_rpc(data)


def hex_of(meaning: Record, name: str) -> bytes | None:
    return bytes.fromhex(meaning[name]) if name in meaning else None


def message_of(meaning: Record) -> Message:
    return Message(
        meaning["topic"],
        *(hex_of(meaning, name) for name in ("data", "from", "seqno", "signature", "key")),
    )


def ids_of(entries: list[Record]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(message_id) for entry in entries for message_id in entry["messageIDs"])


def prune_of(meaning: Record) -> Prune:
    peers = tuple(
        PeerInfo(bytes.fromhex(peer["peerID"]), hex_of(peer, "signedPeerRecord")) for peer in meaning.get("peers", ())
    )
    return Prune(meaning["topicID"], peers, meaning.get("backoff"))


def rpc_of(meaning: Record) -> Rpc:
    control = None
    if "control" in meaning:
        parts = meaning["control"]
        control = Control(
            ihave=tuple(IHave(entry["topicID"], ids_of([entry])) for entry in parts.get("ihave", ())),
            iwant=ids_of(parts.get("iwant", [])),
            graft=tuple(entry["topicID"] for entry in parts.get("graft", ())),
            prune=tuple(prune_of(entry) for entry in parts.get("prune", ())),
            idontwant=ids_of(parts.get("idontwant", [])),
        )
    return Rpc(
        subscriptions=tuple((entry["subscribe"], entry["topicid"]) for entry in meaning.get("subscriptions", ())),
        publish=tuple(message_of(entry) for entry in meaning.get("publish", ())),
        control=control,
    )


@pytest.mark.parametrize("record", VECTORS["rpcs"], ids=name_of)
def test_rpcs_of_go_are_read_as_they_were_meant(record: Record) -> None:
    assert only_rpc(bytes.fromhex(record["wire_hex"])) == rpc_of(record["meaning"])


@pytest.mark.parametrize("record", VECTORS["rpcs"], ids=name_of)
def test_rpcs_are_written_byte_by_byte_as_go_does(record: Record) -> None:
    rpc = rpc_of(record["meaning"])
    if record["name"] == "prune":
        # go writes no back-off to a 1.0 peer, and neither do we.
        assert rpc.control is not None
        assert rpc.control.prune[0].backoff is None
    assert encode_rpc(rpc).hex() == record["pb_hex"]


@pytest.mark.parametrize("record", VECTORS["publishes"], ids=name_of)
def test_signed_messages_are_judged_as_go_does(record: Record) -> None:
    (message,) = only_rpc(bytes.fromhex(record["rpc_wire_hex"])).publish
    assert message == message_of(record["meaning"])
    assert encode_message(message).hex() == record["message_pb_hex"]
    assert (SIGN_PREFIX + signed_fields(message)).hex() == record["signed_bytes_hex"]
    assert author_and_seqno(message).hex() == record["message_id_hex"]
    assert is_authentic(message) is record["accepted"]
