"""Files as Kubo 0.42 imports them: the same bytes and options give the same root, tree and sizes (`unixfs-import.json`)."""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from stack.dag import dag_pb
from stack.dag.unixfs.builder import FileBuilder, FileRoot, leaf_block
from stack.dag.unixfs.chunkers import parse_chunker
from stack.dag.unixfs.options import ImportOptions, import_options
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY

Record = dict[str, Any]

VECTORS: list[Record] = json.loads((Path(__file__).parent / "unixfs-import.json").read_text())["vectors"]

FEED = 3 * 1024 * 1024 + 7


@lru_cache(maxsize=1)
def content(recipe: str) -> bytes:
    record = json.loads(recipe)
    size: int = record["size"]
    if record["kind"] == "shake256":
        return hashlib.shake_256(record["seed"].encode()).digest(size)
    assert record["kind"] == "repeat"
    unit = bytes.fromhex(record["unit_hex"])
    return (unit * (size // len(unit) + 1))[:size]


def chunks(options: ImportOptions, data: bytes) -> Iterator[memoryview]:
    chunker = parse_chunker(options.chunker)
    lengths = [length for start in range(0, len(data), FEED) for length in chunker.feed(data[start : start + FEED])]
    position = 0
    for length in lengths + chunker.finish():
        yield memoryview(data)[position : position + length]
        position += length
    assert position == len(data)


def build(
    options: ImportOptions, data: bytes
) -> tuple[FileRoot, dict[Cid, bytes], dict[Cid, tuple[bytes, memoryview, bytes]]]:
    """The root, the nodes that the builder gave out, the leaves as prefix, payload, suffix."""
    builder = FileBuilder(options)
    nodes: dict[Cid, bytes] = {}
    leaves: dict[Cid, tuple[bytes, memoryview, bytes]] = {}
    pieces = list(chunks(options, data))
    whole = len(pieces) == 1 and not options.raw_leaves and not options.trickle
    mode, mtime = options.mode, options.mtime
    for piece in pieces:
        cid, prefix, suffix = (
            leaf_block(options, piece, mode=mode, mtime=mtime) if whole else leaf_block(options, piece)
        )
        leaves[cid] = prefix, piece, suffix
        builder.add_leaf(cid, len(piece), len(prefix) + len(piece) + len(suffix), whole_file=whole)
        while block := builder.next_block():
            nodes[block[0]] = block[1]
    root = builder.finish(mode=mode, mtime=mtime)
    while block := builder.next_block():
        nodes[block[0]] = block[1]
    return root, nodes, leaves


def test_there_are_as_many_records_as_were_made() -> None:
    assert len(VECTORS) == 246


@pytest.mark.parametrize("record", VECTORS, ids=[record["id"] for record in VECTORS])
def test_the_same_bytes_and_options_give_the_same_dag_as_kubo(record: Record) -> None:
    options = import_options(record["options"]["profile"], record["options"]["args"])
    root, nodes, leaves = build(options, content(json.dumps(record["input"], sort_keys=True)))
    assert str(root.cid) == record["root"]
    assert root.size == record["size"]
    assert root.dag_size == record["kubo_stat"]["cumulativesize"]

    def block_of(cid: Cid) -> bytes:
        if cid in leaves:
            return b"".join(leaves[cid])
        return cid.digest if cid.hash_code == IDENTITY else nodes[cid]

    refs: list[str] = []
    waiting = [root.cid]
    while waiting:
        cid = waiting.pop()
        refs.append(str(cid))
        if cid not in leaves and cid.codec != 0x55:
            waiting.extend(reversed(dag_pb.links(block_of(cid))))
    assert len(refs) == record["nodes_visited"]
    assert hashlib.sha256(("\n".join(refs) + "\n").encode()).hexdigest() == record["refs_sha256"]
    assert "refs" not in record or refs == record["refs"]

    unique = {Cid.parse(text) for text in set(refs)}
    assert len(unique) == record["unique_blocks"]
    size = sum(sum(map(len, leaves[cid])) if cid in leaves else len(block_of(cid)) for cid in unique)
    assert size == record.get("unique_block_bytes", size)

    root_block = block_of(root.cid)
    assert hashlib.sha256(root_block).hexdigest() == record["root_block_sha256"]
    assert "root_block_hex" not in record or root_block.hex() == record["root_block_hex"]
    for text, block in record.get("blocks", {}).items():
        assert block_of(Cid.parse(text)).hex() == block
