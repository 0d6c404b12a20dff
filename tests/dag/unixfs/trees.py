"""Build and read whole files and directories in memory: what the shells do with disks and peers."""

from collections.abc import Generator, Iterable, Mapping
from typing import TypeVar

from stack.dag import dag_pb
from stack.dag.unixfs.builder import FileBuilder, FileRoot, leaf_block
from stack.dag.unixfs.data import NodeKind, UnixTime, encode_data
from stack.dag.unixfs.directory import DirectoryRoot, Entry, build_directory
from stack.dag.unixfs.options import ImportOptions
from stack.dag.unixfs.reader import UnixFSNode, decode_node, read_file
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from stack.multiformats.multihash import IDENTITY

Result = TypeVar("Result")
Blocks = dict[Cid, bytes]


def build_file(
    options: ImportOptions,
    pieces: Iterable[bytes],
    blocks: Blocks,
    *,
    mode: int | None = None,
    mtime: UnixTime | None = None,
) -> FileRoot:
    """A file of these leaves."""
    pieces = list(pieces)
    whole = len(pieces) == 1 and not options.raw_leaves and not options.trickle
    builder = FileBuilder(options)
    for piece in pieces:
        cid, prefix, suffix = (
            leaf_block(options, piece, mode=mode, mtime=mtime) if whole else leaf_block(options, piece)
        )
        blocks[cid] = prefix + piece + suffix
        builder.add_leaf(cid, len(piece), len(blocks[cid]), whole_file=whole)
    root = builder.finish(mode=mode, mtime=mtime)
    while block := builder.next_block():
        blocks[block[0]] = block[1]
    return root


def build_entries(options: ImportOptions, entries: Iterable[Entry], blocks: Blocks) -> DirectoryRoot:
    """A directory of these entries."""
    building = build_directory(options, entries)
    while True:
        try:
            cid, block = next(building)
        except StopIteration as stop:
            root: DirectoryRoot = stop.value
            return root
        blocks[cid] = block


def run(reading: Generator[Cid, bytes, Result], blocks: Mapping[Cid, bytes]) -> Result:
    """The result of a reader, its blocks taken from here."""
    try:
        cid = next(reading)
        while True:
            cid = reading.send(blocks[cid])
    except StopIteration as stop:
        result: Result = stop.value
        return result


def read(
    root: UnixFSNode, blocks: Mapping[Cid, bytes], offset: int = 0, length: int | None = None
) -> tuple[bytes, list[Cid]]:
    """Bytes of a file, and which blocks were asked for."""
    reading = read_file(root, offset) if length is None else read_file(root, offset, length)
    found: list[bytes] = []
    asked: list[Cid] = []
    answer: bytes | None = None
    while True:
        try:
            wanted = reading.send(answer)
        except StopIteration:
            return b"".join(found), asked
        answer = None
        if isinstance(wanted, Cid):
            asked.append(wanted)
            answer = blocks[wanted]
        else:
            found.append(bytes(wanted))


def node_of(cid: Cid, blocks: Mapping[Cid, bytes]) -> UnixFSNode:
    return decode_node(cid, cid.digest if cid.hash_code == IDENTITY else blocks[cid])


def put(blocks: Blocks, block: bytes, codec: int = DAG_PB) -> Cid:
    cid = Cid.of(block, codec)
    blocks[cid] = block
    return cid


def put_file(
    blocks: Blocks, children: Iterable[tuple[Cid, int]], *, payload: bytes = b"", file_size: int | None = None
) -> Cid:
    """A file node by hand, honest unless `file_size` says otherwise."""
    children = list(children)
    total = len(payload) + sum(size for _, size in children)
    data = encode_data(
        NodeKind.FILE,
        payload=payload,
        file_size=total if file_size is None else file_size,
        block_sizes=[size for _, size in children],
    )
    return put(blocks, dag_pb.encode(dag_pb.Node(data, tuple(dag_pb.Link(None, None, cid) for cid, _ in children))))


def put_raw(blocks: Blocks, data: bytes) -> Cid:
    return put(blocks, data, RAW)


def put_shard(blocks: Blocks, links: Iterable[tuple[str, Cid]], *, fanout: int = 256, bits: int | None = None) -> Cid:
    """A shard by hand; its bit field tells its links unless `bits` says otherwise."""
    links = list(links)
    width = len(f"{fanout - 1:X}")
    if bits is None:
        bits = sum({1 << int(name[:width], 16) for name, _ in links})
    data = encode_data(
        NodeKind.HAMT_SHARD,
        payload=bits.to_bytes((bits.bit_length() + 7) // 8, "big"),
        hash_type=0x22,
        fanout=fanout,
    )
    return put(blocks, dag_pb.encode(dag_pb.Node(data, tuple(dag_pb.Link(name, 1, cid) for name, cid in links))))
