"""bitswap messages as boxo writes and reads them (wire/bitswap.json)."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.bitswap.messages import (
    MESSAGE_BYTES_MAX,
    BlockPrefix,
    OutgoingMessage,
    Presence,
    Want,
    WantKind,
    decode_message,
    decode_prefix,
    encode_message,
)
from stack.errors import RemoteProtocolError
from stack.multiformats.cid import Cid
from stack.sansio.delimited import DelimitedReader

VECTORS = json.loads((Path(__file__).parent / "wire" / "bitswap.json").read_text())
Record = dict[str, Any]


def name_of(record: Record) -> str:
    return str(record["name"])


def only_message(wire: bytes) -> bytes:
    """The one message on the wire, without its length."""
    reader = DelimitedReader(MESSAGE_BYTES_MAX)
    reader.receive_data(wire)
    message = reader.next_message()
    if message is None:
        raise RemoteProtocolError("the message is cut short")
    assert reader.take_rest() == b""
    return message


def wants_of(meaning: Record) -> tuple[Want, ...]:
    return tuple(
        Want(
            Cid.decode(bytes.fromhex(entry["block"])),
            WantKind.HAVE if entry.get("wantType") == "Have" else WantKind.BLOCK,
            entry.get("priority", 0),
            entry.get("cancel", False),
            entry.get("sendDontHave", False),
        )
        for entry in meaning["wantlist"].get("entries", [])
    )


def presences_of(meaning: Record) -> tuple[Presence, ...]:
    return tuple(
        Presence(Cid.decode(bytes.fromhex(presence["cid"])), presence.get("type") != "DontHave")
        for presence in meaning.get("blockPresences", [])
    )


def blocks_of(meaning: Record) -> list[tuple[bytes, bytes]]:
    """(prefix, data) of each block; bare blocks of 1.0 have the prefix of CIDv0."""
    bare = [(b"\x00\x70\x12\x20", bytes.fromhex(data)) for data in meaning.get("blocks", [])]
    whole = [(bytes.fromhex(block["prefix"]), bytes.fromhex(block["data"])) for block in meaning.get("payload", [])]
    return bare + whole


@pytest.mark.parametrize("record", VECTORS["messages"], ids=name_of)
def test_messages_of_boxo_are_read_as_they_were_meant(record: Record) -> None:
    message = decode_message(memoryview(only_message(bytes.fromhex(record["wire_hex"]))))
    meaning = record["meaning"]
    assert message.wants == wants_of(meaning)
    assert message.full == meaning["wantlist"].get("full", False)
    assert message.presences == presences_of(meaning)
    assert message.pending_bytes == meaning.get("pendingBytes", 0)
    assert [(block.prefix, bytes(block.data)) for block in message.blocks] == [
        (decode_prefix(prefix), data) for prefix, data in blocks_of(meaning)
    ]
    hashed = {block.prefix.multihash_of(block.data) for block in message.blocks}
    assert hashed == {Cid.parse(text).multihash for text in record["decoded_by_boxo"]["block_cids"] or ()}


@pytest.mark.parametrize("record", VECTORS["messages"], ids=name_of)
def test_messages_are_written_byte_by_byte_as_boxo_does(record: Record) -> None:
    meaning = record["meaning"]
    message = OutgoingMessage(
        wants=wants_of(meaning),
        full=meaning["wantlist"].get("full", False),
        blocks=[(Cid.from_prefix(prefix, data), data) for prefix, data in blocks_of(meaning)],
        presences=presences_of(meaning),
        pending_bytes=meaning.get("pendingBytes", 0),
    )
    assert b"".join(encode_message(message, protocol=record["protocol"])).hex() == record["wire_hex"]


@pytest.mark.parametrize("record", VECTORS["malformed"], ids=name_of)
def test_what_boxo_refuses_is_refused(record: Record) -> None:
    wire = bytes.fromhex(record["wire_hex"])
    if record["ok"]:
        assert decode_message(memoryview(only_message(wire))).wants == ()
        return
    with pytest.raises(RemoteProtocolError):
        decode_message(memoryview(only_message(wire)))


def test_prefixes_name_version_codec_and_hash() -> None:
    assert decode_prefix(bytes.fromhex("01711e20")) == BlockPrefix(1, 0x71, 0x1E, 32)
