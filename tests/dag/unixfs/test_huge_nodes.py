"""Nodes as large as a block may be."""

from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, encode_data, encode_uvarint
from stack.dag.unixfs.reader import decode_node
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.dag.unixfs.trees import read


def test_A57_a_node_of_a_million_links_is_read_where_it_is_wanted() -> None:
    count = 1_000_000
    link = dag_pb.encode(dag_pb.Node(None, (dag_pb.Link(None, None, Cid.decode(b"\x01\x55\x00\x01x")),)))
    data = encode_data(NodeKind.FILE, file_size=count, block_sizes=[1] * count)
    block = link * count + b"\x0a" + encode_uvarint(len(data)) + data
    root = decode_node(Cid.of(block, DAG_PB), block)
    assert root.file_size == count
    assert read(root, {}, count - 3) == (b"xxx", [])
