"""The largest nodes a stranger can make keep nobody else waiting (attack 5's kind), whatever is done with them."""

from pathlib import Path

import pytest

from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.blocks.memory import MemoryStore
from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, encode_data
from stack.files.car_io import export_car
from stack.files.read import list_entries, look_at, open_content
from stack.files.totals import count_below
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW
from tests.files.conftest import FakeExchange
from tests.files.test_fetch_tree import get
from tests.files.test_read import session_of
from tests.turns import turns_measured

LINKS = 20_000
LEAF = Cid.of(b"x")
INLINE = Cid.v1(RAW, b"\x00\x01x")


def directory(cid: Cid, *, alike: bool = False) -> bytes:
    """Of `LINKS` entries with a name each, or one for all."""
    names = ("a" if alike else f"{number:05}" for number in range(LINKS))
    return dag_pb.encode(
        dag_pb.Node(encode_data(NodeKind.DIRECTORY), tuple(dag_pb.Link(name, 1, cid) for name in names))
    )


def file(size: int) -> bytes:
    """Of `LINKS` parts of this size."""
    data = encode_data(NodeKind.FILE, file_size=size * LINKS, block_sizes=(size,) * LINKS)
    return dag_pb.encode(dag_pb.Node(data, (dag_pb.Link("", size, LEAF),) * LINKS))


async def do(what: str, exchange: FakeExchange, root: Cid, here: Path) -> None:
    store = MemoryStore()
    async with session_of(exchange) as session:
        match what:
            case "list":
                assert len([entry async for entry in list_entries(session, store, root)]) == LINKS
            case "look at":
                assert (await look_at(session, store, root, "")).type in ("directory", "file")
            case "find":
                assert (await look_at(session, store, root, f"{LINKS - 1}")).type == "file"
            case "count":
                assert (await count_below(session, store, root)).files == LINKS
            case "read":
                async with open_content(session, store, root) as pieces:
                    assert len([piece async for piece in pieces]) == LINKS
            case "export":
                assert [piece async for piece in export_car(session, store, root)]
            case "get a directory" | "get a file":
                await get(store, exchange, root, here)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "what", ["list", "look at", "find", "count", "export", "read", "get a directory", "get a file"]
)
async def test_attack_5_others_have_their_turns_whatever_a_node_is_full_of(
    what: str, exchange: FakeExchange, tmp_path: Path
) -> None:
    """A listing took 390 ms of the loop at a time."""
    match what:
        case "read" | "get a file":
            block = file(1 if what == "read" else 0)
        case "get a directory":
            block = directory(LEAF, alike=True)
        case _:
            block = directory(INLINE if what == "export" else LEAF)
    assert len(block) <= BLOCK_SIZE_MAX
    root = Cid.of(block, codec=DAG_PB)
    exchange.blocks |= {root.multihash: block, LEAF.multihash: b"x"}
    async with turns_measured(what, 0.03):
        await do(what, exchange, root, tmp_path)
