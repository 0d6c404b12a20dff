"""Directories as Kubo 0.42 imports, lists and resolves them (`unixfs-dirs.json`)."""

import hashlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stack.dag import dag_pb
from stack.dag.unixfs.builder import FileBuilder, leaf_block
from stack.dag.unixfs.chunkers import parse_chunker
from stack.dag.unixfs.data import NodeKind, UnixTime
from stack.dag.unixfs.directory import Entry, build_directory, symlink_block
from stack.dag.unixfs.options import ImportOptions, import_options
from stack.dag.unixfs.reader import LinkNotFound, decode_node, list_directory, resolve
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from stack.multiformats.multihash import IDENTITY

Record = dict[str, Any]
Result = TypeVar("Result")

FILE = json.loads((Path(__file__).parent / "unixfs-dirs.json").read_text())
TREES: dict[str, Record] = FILE["trees"]
VECTORS: list[Record] = FILE["vectors"]


class Importer:
    """What `stack.files` does with a disk, on the trees of the vectors."""

    def __init__(self, options: ImportOptions) -> None:
        self.options = options
        self.blocks: dict[Cid, bytes] = {}

    def attributes(self, record: Record) -> tuple[int | None, UnixTime | None]:
        return self.options.attributes(int(record.get("mode", "0"), 8), UnixTime(*record.get("mtime", (0, 0))))

    def file(self, record: Record) -> Entry:
        data = (
            record["text"].encode()
            if "text" in record
            else hashlib.shake_256(record["shake256"].encode()).digest(record["size"])
        )
        mode, mtime = self.attributes(record)
        chunker = parse_chunker(self.options.chunker)
        lengths = chunker.feed(data) + chunker.finish()
        whole = len(lengths) == 1 and not self.options.trickle and not self.options.raw_leaves
        builder = FileBuilder(self.options)
        position = 0
        for length in lengths:
            payload = data[position : position + length]
            position += length
            if whole:
                cid, prefix, suffix = leaf_block(self.options, payload, mode=mode, mtime=mtime)
            else:
                cid, prefix, suffix = leaf_block(self.options, payload)
            self.blocks[cid] = prefix + payload + suffix
            builder.add_leaf(cid, length, len(self.blocks[cid]), whole_file=whole)
        root = builder.finish(mode=mode, mtime=mtime)
        while block := builder.next_block():
            self.blocks[block[0]] = block[1]
        return Entry("", root.cid, root.dag_size)

    def symlink(self, record: Record) -> Entry:
        cid, block = symlink_block(self.options, record["target"], mtime=self.attributes(record)[1])
        self.blocks[cid] = block
        return Entry("", cid, len(block))

    def directory(self, tree: dict[str, Record], meta: Record, *, attributes: bool = True) -> Entry:
        entries = []
        for name, record in tree.items():
            if name.startswith(".") and not self.options.hidden:
                continue
            if record["type"] == "dir":
                if not record["below"] and not self.options.empty_directories:
                    continue
                entry = self.directory(record["below"], record)
            else:
                entry = self.symlink(record) if record["type"] == "symlink" else self.file(record)
            entries.append(entry._replace(name=name))
        return self.listing(entries, *self.attributes(meta) if attributes else (None, None))

    def listing(self, entries: list[Entry], mode: int | None, mtime: UnixTime | None) -> Entry:
        building = build_directory(self.options, entries, mode=mode, mtime=mtime)
        while True:
            try:
                cid, block = next(building)
            except StopIteration as stop:
                return Entry("", stop.value.cid, stop.value.dag_size)
            self.blocks[cid] = block

    def block(self, cid: Cid) -> bytes:
        return cid.digest if cid.hash_code == IDENTITY else self.blocks[cid]

    def run(self, reading: Generator[Cid, bytes, Result]) -> Result:
        try:
            cid = next(reading)
            while True:
                cid = reading.send(self.blocks[cid])
        except StopIteration as stop:
            result: Result = stop.value
            return result


def tree_of(record: Record) -> dict[str, Record]:
    """Nested: name to record, directories with what is `below`."""
    entries: list[Record] = list(record.get("entries", []))
    if "generate" in record:
        recipe = record["generate"]
        for i in range(recipe["count"]):
            entries.append({"path": recipe["name"].format(i=i), "type": "file", "text": recipe["text"].format(i=i)})
        entries += recipe.get("extra", [])
    root: dict[str, Record] = {}
    for entry in entries:
        *above, name = entry["path"].split("/")
        here = root
        for directory in above:
            here = here.setdefault(directory, {"type": "dir", "below": {}})["below"]
        here[name] = {**entry, "below": {}}
    return root


def test_there_are_as_many_records_as_were_made() -> None:
    assert len(VECTORS) == 60


@pytest.mark.parametrize("record", VECTORS, ids=[f"{record['id']}-{record['tree']}" for record in VECTORS])
def test_the_same_tree_and_options_give_the_same_dag_as_kubo(record: Record) -> None:
    options = import_options(record["options"]["profile"], record["options"]["args"])
    importer = Importer(options)
    tree = TREES[record["tree"]]
    root = importer.directory(tree_of(tree), tree.get("root_meta", {}))
    if options.wrap:
        root = importer.listing([root._replace(name="root")], None, None)

    assert str(root.cid) == record["root"]
    assert root.dag_size == record["kubo_stat"]["cumulativesize"]
    block = importer.block(root.cid)
    assert len(block) == record["root_block_len"]
    assert hashlib.sha256(block).hexdigest() == record["root_block_sha256"]
    assert block.hex() == record.get("root_block_hex", block.hex())

    node = decode_node(root.cid, block)
    assert (node.kind is NodeKind.HAMT_SHARD) == record["hamt"]
    # Go adds a bit of its own for directories.
    assert int(record["kubo_stat"].get("mode", "0"), 8) & 0o7777 == (node.mode or 0)
    assert record["kubo_stat"].get("mtime") == (node.mtime.seconds if node.mtime else None)
    assert record["kubo_stat"]["blocks"] == len(node.links)
    if shard := record.get("root_shard"):
        assert len(node.links) == shard["links"]
        assert [link.name for link in node.links][:3] == shard["first_link_names"]
        assert dag_pb.decode(block).data == bytes.fromhex(shard["unixfs_data_hex"])

    refs = []
    waiting = [root.cid]
    while waiting:
        cid = waiting.pop()
        refs.append(str(cid))
        if cid.codec != RAW:
            waiting.extend(reversed(dag_pb.links(importer.block(cid))))
    assert len(refs) == record["nodes_visited"]
    assert len(set(refs)) == record["unique_blocks"]
    assert hashlib.sha256(("\n".join(refs) + "\n").encode()).hexdigest() == record["refs_sha256"]
    assert refs == record.get("refs", refs)

    names = sorted((entry.name for entry in importer.run(list_directory(node))), key=str.encode)
    assert len(names) == record["ls_count"]
    assert names[:3] == record["ls_first"]
    assert hashlib.sha256(("\n".join(names) + "\n").encode()).hexdigest() == record["ls_order_sha256"]

    for wanted in record.get("resolve", []):
        check_path(importer, root.cid, wanted)


def check_path(importer: Importer, root: Cid, wanted: Record) -> None:
    if "error" in wanted:
        with pytest.raises(LinkNotFound):
            importer.run(resolve(root, wanted["path"]))
        return
    cid = importer.run(resolve(root, wanted["path"]))
    assert str(cid) == wanted["cid"]
    node = decode_node(cid, importer.block(cid))
    assert wanted["type"] == ("directory" if node.is_directory else "file")
    assert wanted["size"] == (len(node.payload) if node.kind is NodeKind.SYMLINK else node.file_size)
    if "mode" in wanted and node.mode is not None:
        assert int(wanted["mode"], 8) & 0o7777 == node.mode
    if "mtime" in wanted:
        seconds, nanoseconds = wanted["mtime"] if isinstance(wanted["mtime"], list) else (wanted["mtime"], 0)
        assert node.mtime == UnixTime(seconds, nanoseconds)
