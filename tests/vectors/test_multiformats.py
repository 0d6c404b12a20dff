"""Every record of multiformats.json (the Go libraries) and multibase-spec.json (multibase's own tables)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from stack.errors import DecodeError
from stack.multiformats import multibase, multihash, varint
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.multiformats.multiaddr_protocols import BY_CODE, VARIABLE

FOLDER = Path(__file__).parent
VECTORS: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "multiformats.json").read_text())
TABLES: list[dict[str, Any]] = json.loads((FOLDER / "multibase-spec.json").read_text())["tables"]

Record = dict[str, Any]


def records(section: str) -> Any:
    """One parameter a record, named by its place."""
    return pytest.mark.parametrize("record", [pytest.param(r, id=str(n)) for n, r in enumerate(VECTORS[section])])


def must(record: Record) -> bool:
    """Whether the verdict binds; where Go is laxer than the specification either answer passes."""
    return bool(record.get("binding", True))


@records("varint")
def test_varints_are_read_as_go_reads_them_and_written_minimally(record: Record) -> None:
    data = bytes.fromhex(record["hex"])
    if not record["ok"]:
        with pytest.raises(DecodeError):
            varint.decode(data)
        return
    consumed = record.get("consumed", len(data))
    assert varint.decode(data) == (record["value"], consumed)
    assert varint.encode(record["value"]) == data[:consumed]


@records("multibase")
def test_multibase_texts_are_read_and_written_as_go_does(record: Record) -> None:
    if record["ok"] and ("note" not in record or "read back" in record["note"]):
        assert multibase.encode(record["base"], bytes.fromhex(record["hex"])) == record["text"]
    try:
        result = multibase.decode(record["text"])
    except DecodeError:
        assert not must(record) or not record["ok"]
    else:
        assert not must(record) or (record["ok"] and result == (record["base"], bytes.fromhex(record["hex"])))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: Path(table["file"]).stem)
def test_the_tables_of_the_multibase_specification_hold(table: Record) -> None:
    encoding, text = table["header"]
    data = text.encode().decode("unicode_escape").encode("latin-1")
    for base, written in table["rows"]:
        assert multibase.decode(written) == (base, data)
        if encoding == "encoding":
            assert multibase.encode(base, data) == written


@records("multihash_sum")
def test_multihashes_are_computed_as_go_does(record: Record) -> None:
    if "input_hex" in record:
        data = bytes.fromhex(record["input_hex"])
    else:
        seed = f"libp2p-py/public/{record['input_label']}".encode()
        data = hashlib.shake_256(seed).digest(record["input_size"])
    expected = bytes.fromhex(record["multihash_hex"])
    code, digest = multihash.decode(expected)
    assert code == record["code"]
    assert multihash.code_of(record["function"]) == code
    assert multihash.name_of(code) == record["function"]
    assert multibase.encode_base58(expected) == record["base58"]
    if record["function"] == "murmur3-x64-64":
        # The hash of directory shards; it names no blocks and stands with them.
        with pytest.raises(DecodeError):
            multihash.digest(code, data)
        return
    assert multihash.digest(record["function"], data, len(digest)) == expected
    if len(multihash.hasher(code)(data)) == len(digest):
        assert multihash.digest(code, data) == expected


@records("multihash_decode")
def test_multihashes_are_read_as_go_reads_them(record: Record) -> None:
    data = bytes.fromhex(record["hex"])
    if not record["ok"]:
        with pytest.raises(DecodeError):
            multihash.decode(data)
        return
    digest = bytes.fromhex(record["digest_hex"])
    assert multihash.decode(data) == (record["code"], digest)
    assert multihash.encode(record["code"], digest) == data


@records("cid")
def test_cids_are_read_and_written_as_go_does(record: Record) -> None:
    try:
        cid = Cid.decode(bytes.fromhex(record["bytes_hex"])) if "op" in record else Cid.parse(record["text"])
    except DecodeError:
        assert not must(record) or not record["ok"]
        return
    assert not must(record) or record["ok"]
    assert bytes(cid).hex() == record["bytes_hex"]
    assert Cid.decode(bytes(cid)) == cid
    assert str(cid) == record.get("canonical", record.get("text"))
    if "codec" in record:
        assert (cid.version, cid.codec, cid.multihash.hex()) == (
            record["version"],
            record["codec"],
            record["multihash_hex"],
        )
        assert cid.prefix.hex() == record["prefix_hex"]
    if "as_v1" in record:
        assert str(cid.to_v1()) == record["as_v1"]
    for base, text in record.get("texts", {}).items():
        assert cid.encode(base) == text
        assert Cid.parse(text) == cid


@records("multiaddr_text")
def test_multiaddr_texts_are_read_and_written_as_go_does(record: Record) -> None:
    try:
        address = Multiaddr.parse(record["text"])
    except DecodeError:
        assert not must(record) or not record["ok"]
        return
    assert not must(record) or record["ok"]
    assert bytes(address).hex() == record["hex"]
    assert str(address) == record.get("canonical", record["text"])
    assert list(address.protocols) == [protocol["name"] for protocol in record["protocols"]]
    assert Multiaddr.decode(bytes(address)) == address


@records("multiaddr_bytes")
def test_multiaddr_bytes_are_read_as_go_reads_them(record: Record) -> None:
    data = bytes.fromhex(record["hex"])
    if not record["ok"]:
        with pytest.raises(DecodeError):
            Multiaddr.decode(data)
        return
    assert str(Multiaddr.decode(data)) == record["text"]
    assert bytes(Multiaddr.parse(record["text"])) == data


@records("multiaddr_protocols")
def test_the_protocol_table_is_that_of_go_multiaddr(record: Record) -> None:
    protocol = BY_CODE[record["code"]]
    size = VARIABLE if record["size_bits"] < 0 else record["size_bits"] // 8
    assert (protocol.name, protocol.size, protocol.is_path) == (record["name"], size, record["path"])
    assert varint.encode(protocol.code).hex() == record["varint_hex"]


def test_every_section_of_the_vectors_has_a_test() -> None:
    counts = {section: len(rows) for section, rows in VECTORS.items() if section != "header"}
    print(counts)
    assert counts == {
        "varint": 35,
        "multibase": 156,
        "multihash_sum": 84,
        "multihash_decode": 14,
        "cid": 78,
        "multiaddr_text": 125,
        "multiaddr_bytes": 27,
        "multiaddr_protocols": 38,
    }
