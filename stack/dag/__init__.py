"""The formats of blocks that hold links, one module each, and what a DAG travels in.

A codec is a file here and a row in `CODECS`, resolved when it is first used.
"""

from functools import cache
from importlib import import_module

from stack.dag.model import Codec
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_CBOR, DAG_JSON, DAG_PB
from stack.sansio.interfaces import Buffer

CODECS: dict[int, str] = {
    DAG_PB: "stack.dag.dag_pb:CODEC",
    DAG_CBOR: "stack.dag.dag_cbor:CODEC",
    DAG_JSON: "stack.dag.dag_json:CODEC",
}
"""By code of the multicodec table. A codec that is not here, like raw, has no links."""


@cache
def codec(code: int) -> Codec:
    """The codec of a row. Raises KeyError when there is none."""
    module, _, name = CODECS[code].partition(":")
    found: Codec = getattr(import_module(module), name)
    return found


def links(cid: Cid, data: Buffer) -> list[Cid]:
    """The links in the block `data` of `cid`, in order, duplicates kept; none when its codec has no row.

    Nothing is hashed here. Raises DecodeError when the bytes are not of that codec.
    """
    return codec(cid.codec).links(data) if cid.codec in CODECS else []
