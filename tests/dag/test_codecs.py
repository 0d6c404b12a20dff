"""The table of codecs and `links`."""

import pytest

from stack.dag import CODECS, codec, dag_cbor, dag_json, dag_pb, links
from stack.errors import DecodeError
from stack.multiformats import multicodec
from stack.multiformats.cid import Cid

LEAVES = [Cid.of(b"one"), Cid.of(b"two", multicodec.DAG_PB, version=0), Cid.of(b"one")]


@pytest.mark.parametrize("code", CODECS)
def test_a_row_is_the_codec_of_its_code(code: int) -> None:
    found = codec(code)
    assert found.name == multicodec.name_of(code)
    assert found.decode(found.encode({"Links": []})) == {"Links": []}


def test_links_are_those_of_the_codec_of_the_cid() -> None:
    node = dag_pb.encode(dag_pb.Node(None, tuple(dag_pb.Link(None, None, cid) for cid in LEAVES)))
    assert links(Cid.of(node, multicodec.DAG_PB, version=0), node) == LEAVES
    for module, code in ((dag_cbor, multicodec.DAG_CBOR), (dag_json, multicodec.DAG_JSON)):
        block = module.encode([*LEAVES])
        assert links(Cid.of(block, code), block) == LEAVES
        assert links(Cid.of(block), block) == []
        assert links(Cid.of(block, 0x300000), block) == []


def test_bytes_that_are_not_of_the_codec_are_an_error() -> None:
    for code in CODECS:
        with pytest.raises(DecodeError):
            links(Cid.of(b"\xff", code), b"\xff")


def test_a_code_without_row_has_no_codec() -> None:
    with pytest.raises(KeyError):
        codec(multicodec.RAW)
