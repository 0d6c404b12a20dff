"""dag-pb, dag-cbor and dag-json against the reference implementations (ipld.json, ipld-codec-fixtures.json)."""

import json
from pathlib import Path
from typing import Any

import pytest

from stack.dag import CODECS, codec, dag_json, dag_pb
from stack.dag.model import Codec, EncodeError, Value
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, code_of

HERE = Path(__file__).parent
IPLD = json.loads((HERE / "ipld.json").read_text())
FIXTURES = json.loads((HERE / "ipld-codec-fixtures.json").read_text())
Record = dict[str, Any]

BINDING = [record for record in IPLD["strictness"] if record["strict"] in ("ok", "error")]
FREE = [record for record in IPLD["strictness"] if record["strict"] not in ("ok", "error")]
DECODE_NEGATIVES = [record for record in FIXTURES["negatives"] if record["phase"] == "decode"]
ENCODE_NEGATIVES = [record for record in FIXTURES["negatives"] if record["phase"] == "encode"]


def label(record: Record) -> str:
    return str(record.get("case") or record.get("name") or record["text"])[:40]


def codec_named(name: str) -> Codec:
    return codec(code_of(name))


def check_forms(value: Value, forms: dict[str, Record]) -> None:
    """Each form decodes to `value`, `value` encodes to each form, and its CID is the recorded one."""
    for name, form in forms.items():
        block = bytes.fromhex(form["hex"])
        assert codec_named(name).decode(block) == value, name
        assert codec_named(name).encode(value) == block, name
        assert str(Cid.of(block, code_of(name))) == form["cid"], name


def without_nulls(value: Value) -> Value:
    """go-ipld-prime prints absent optional fields as null; the logical format leaves them out."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def test_all_records_are_here() -> None:
    assert len(IPLD["same_data"]) == 21
    assert len(IPLD["dag_pb"]) == 10
    assert (len(BINDING), len(FREE)) == (102, 3)
    assert (len(FIXTURES["fixtures"]), len(DECODE_NEGATIVES), len(ENCODE_NEGATIVES)) == (128, 11, 78)
    assert {record["codec"] for record in BINDING} == {codec(code).name for code in CODECS}


@pytest.mark.parametrize("record", IPLD["same_data"], ids=label)
def test_loosely_written_text_has_the_recorded_forms(record: Record) -> None:
    check_forms(dag_json.decode(record["text"].encode()), record["forms"])


@pytest.mark.parametrize("record", IPLD["dag_pb"], ids=label)
def test_a_dag_pb_node_decodes_and_encodes_as_recorded(record: Record) -> None:
    block = bytes.fromhex(record["hex"])
    node = dag_pb.decode(block)
    assert dag_pb.to_value(node) == without_nulls(dag_json.decode(record["dag_json"].encode()))
    assert dag_pb.encode(node).hex() == record["reencodes_to_hex"]
    assert str(Cid.of(block, DAG_PB)) == record["cid"]
    assert str(Cid.of(block, DAG_PB, version=0)) == record["cid_v0"]


@pytest.mark.parametrize("record", BINDING, ids=label)
def test_the_verdict_of_the_specification_is_ours(record: Record) -> None:
    block = bytes.fromhex(record["hex"])
    if record["strict"] == "ok":
        found = codec_named(record["codec"])
        assert found.encode(found.decode(block)) == block
    else:
        with pytest.raises(DecodeError):
            codec_named(record["codec"]).decode(block)


@pytest.mark.parametrize("record", FREE, ids=label)
def test_what_the_specification_leaves_open_is_read_or_refused(record: Record) -> None:
    try:
        codec_named(record["codec"]).decode(bytes.fromhex(record["hex"]))
    except DecodeError:
        assert record["case"] == "padded base64"


@pytest.mark.parametrize("record", FIXTURES["fixtures"], ids=label)
def test_each_form_of_a_codec_fixture_gives_all_the_others(record: Record) -> None:
    check_forms(dag_json.decode(bytes.fromhex(record["forms"]["dag-json"]["hex"])), record["forms"])


@pytest.mark.parametrize("record", DECODE_NEGATIVES, ids=label)
def test_bad_blocks_of_the_codec_fixtures_are_refused(record: Record) -> None:
    with pytest.raises(DecodeError):
        codec_named(record["codec"]).decode(bytes.fromhex(record["hex"]))


@pytest.mark.parametrize("record", ENCODE_NEGATIVES, ids=label)
def test_values_without_a_form_are_refused(record: Record) -> None:
    value = dag_json.decode(json.dumps(record["dag-json"]).encode())
    with pytest.raises(EncodeError):
        codec_named(record["codec"]).encode(value)
