"""One form for programs: the same calls on a node in memory, a node with a home, and a node of another process."""

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from stack import (
    AnyNode,
    BlockNotFound,
    Cid,
    Config,
    Node,
    NodeClosed,
    RunningNode,
    StackError,
    SyncNode,
)
from stack.blocks.interfaces import BLOCK_SIZE_MAX, BlockMismatch
from stack.dag.model import EncodeError
from stack.dag.unixfs.reader import LinkNotFound
from stack.errors import LimitExceeded, LocalProtocolError, Refused
from stack.net.addresses import host_and_port
from stack.node import groups, sync_groups
from stack.node.groups import Blocks, Dag, Peers, Pins
from stack.node.sync_groups import SyncBlocks, SyncDag, SyncPeers, SyncPins
from tests.net.hosts import settled

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


async def program(node: AnyNode) -> None:
    """Twenty lines with blocks and pins, as in docs/library.md."""
    data = b"any bytes"
    cid = await node.blocks.put(data)
    assert cid == Cid.of(data)
    assert await node.blocks.has(cid) and await node.blocks.get(cid) == data
    root = await node.dag.put({"name": "zebra", "data": cid, "list": [1, {"deep": "yes"}]})
    assert await node.dag.get(f"{root}/list/1/deep") == "yes"
    assert await node.dag.get(f"{root}/data") == data
    await node.pins.add(root, "my pin")
    assert [(pin.cid, pin.name) for pin in await node.pins.ls()] == [(root, "my pin")]
    loose = await node.blocks.put(b"nobody needs this")
    report = await node.gc()
    assert report.blocks == 1 and not await node.blocks.has(loose)
    assert await node.blocks.has(cid) and await node.blocks.has(root)
    assert await node.pins.rm(root) and not await node.pins.rm(root)
    assert await node.blocks.delete(cid) and not await node.blocks.delete(cid)
    try:
        await node.blocks.get(cid, timeout=0.3)
    except BlockNotFound as error:
        assert error.cid == cid
    else:
        raise AssertionError("nobody has it")


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[AnyNode]:
    async with Node.open(Config(home=home, listen=LOOPBACK)), RunningNode.open(home) as node:
        yield node


KINDS: dict[str, Callable[[Path], AbstractAsyncContextManager[AnyNode]]] = {
    "memory": lambda home: Node.open(),
    "home": lambda home: Node.open(Config(home=home, listen=LOOPBACK)),
    "running": running,
}
"""How a program comes by each kind of node."""


@pytest.fixture(params=KINDS)
def open_node(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[AnyNode]]:
    """Each kind of node."""
    return lambda: KINDS[request.param](tmp_path / "home")


OpenNode = Callable[[], AbstractAsyncContextManager[AnyNode]]


@pytest.mark.anyio
async def test_the_same_program_runs_against_every_kind_of_node(open_node: OpenNode) -> None:
    async with open_node() as node:
        await program(node)


@pytest.mark.anyio
async def test_files_are_shared_listed_fetched_and_unshared_on_every_kind_of_node(
    open_node: OpenNode, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / "tree" / name).write_text(name)
    async with open_node() as node, Node.open() as other:
        ticket = await node.share(tmp_path / "tree")
        (share,) = await node.shares()
        assert share.ticket == ticket and share.name == "tree"
        assert [(entry.name, entry.size) for entry in await node.ls(share.cid)] == [
            ("a.txt", 5),
            ("b.txt", 5),
            ("c.md", 4),
        ]
        assert await node.cat(f"{share.cid}/a.txt") == b"a.txt"
        with pytest.raises(Refused, match="shared"):
            await node.blocks.delete(share.cid)
        target = await other.get(ticket, tmp_path / "there", include=["*.txt", "c*"], exclude=["c.md"])
        assert sorted(path.name for path in target.iterdir()) == ["a.txt", "b.txt"]
        assert await other.get(ticket, tmp_path / "there", out=".") == tmp_path / "there"
        assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["a.txt", "b.txt", "c.md", "tree"]
        with pytest.raises(Refused, match="goes with an update"):
            await other.get(ticket, tmp_path / "there", delete=True)
        (tmp_path / "tree" / "a.txt").write_text("another")
        newer = await node.share(tmp_path / "tree")
        again = await other.get(newer, tmp_path / "there", out="tree", update=True, timeout=10)
        assert again == target and (target / "a.txt").read_text() == "another" and (target / "c.md").exists()
        assert [ended.name for ended in await node.unshare(share.cid)] == ["tree"]
        assert [ended.name for ended in await node.unshare(tmp_path / "tree")] == ["tree"]
        assert await node.shares() == () == await node.unshare("tree")


@pytest.mark.anyio
async def test_what_a_program_raises_while_it_follows_something_is_its_own(open_node: OpenNode) -> None:
    """A time limit of the program's own was told as a node that does not answer."""
    async with open_node() as node:
        for error in (TimeoutError("mine"), anyio.EndOfStream("mine"), anyio.BrokenResourceError("mine")):
            with pytest.raises(type(error), match="mine"):
                async with node.subscribe("news"):
                    raise error
        async with node.subscribe("news") as messages:
            with pytest.raises(TimeoutError), anyio.fail_after(0.05):
                await anext(messages)


@pytest.mark.anyio
async def test_names_that_can_be_none_are_refused_by_every_kind_of_node(open_node: OpenNode) -> None:
    async with open_node() as node:
        for paths in ((), ("\0",), ("",)):
            with pytest.raises(Refused, match=r"was named|an empty name"):
                await node.add(*paths)
            with pytest.raises(Refused, match=r"was named|an empty name"):
                await node.share(*paths)
        with pytest.raises(Refused, match="an empty name"):  # it ended the share of the current directory
            await node.unshare("")
        await node.pins.add(await node.blocks.put(b"x"), "\udcff")
        assert [pin.name for pin in await node.pins.ls()] == ["\ufffd"]
        with pytest.raises(LocalProtocolError, match="is text"):
            await node.publish("\udcff", b"x")


@pytest.mark.anyio
async def test_peers_and_blocks_of_peers_on_every_kind_of_node(open_node: OpenNode) -> None:
    async with open_node() as node, Node.open() as other:
        data = b"of another"
        cid = await other.blocks.put(data)
        assert await node.peers.connect(other.addresses()[0]) == other.peer_id
        assert [peer.peer_id for peer in await node.peers.ls()] == [str(other.peer_id)]
        assert await node.connect(host_and_port(other.addresses()[0])) == other.peer_id
        async with node.session(cid) as session:
            assert await session.get(cid) == data
            nowhere = Cid.of(b"nowhere")
            with pytest.raises(BlockNotFound, match=nowhere.text) as raised:
                await session.get(nowhere, timeout=0.2)
            assert raised.value.cid == nowhere
        assert await node.peers.disconnect(other.peer_id) and not await node.peers.disconnect(str(other.peer_id))
        second = await other.blocks.put(b"asked by address")
        assert await node.blocks.get(second, providers=other.addresses()[:1]) == b"asked by address"
        assert (await node.identity()).peer_id == str(node.peer_id) and node.addresses()


@pytest.mark.anyio
async def test_blocks_over_the_limit_or_with_other_bytes_are_refused_by_every_kind_of_node(open_node: OpenNode) -> None:
    large = bytes(BLOCK_SIZE_MAX + 1)
    async with open_node() as node:
        for put in (node.blocks.put(large), node.put([(Cid.of(large), large)]), node.dag.put(large)):
            with pytest.raises(LimitExceeded, match="2097152"):
                await put
        with pytest.raises(BlockMismatch):
            await node.blocks.put([(Cid.of(b"one"), b"other")])
        whole = await node.blocks.put(bytes(BLOCK_SIZE_MAX))
        assert await node.blocks.has([whole, Cid.of(large)]) == [True, False]
        many = [(Cid.of(bytes([number]), codec=0x71), bytes([number])) for number in range(20)]
        await node.blocks.put(many)
        assert all(await node.blocks.has([cid for cid, _ in many]))


@pytest.mark.anyio
async def test_values_of_all_codecs_and_paths_through_them(open_node: OpenNode) -> None:
    async with open_node() as node:
        leaf = await node.dag.put(b"\x01\x02", codec="dag-json")
        directory = await node.dag.put({"Links": [{"Hash": leaf, "Name": "leaf", "Tsize": 3}]}, codec="dag-pb")
        root = await node.dag.put([{"there": directory}, leaf])
        assert await node.dag.get(root) == [{"there": directory}, leaf]
        assert await node.dag.get(f"{root}/0/there/leaf") == b"\x01\x02"
        assert await node.dag.get(f"{root}/0/there/Links/0/Name") == "leaf"
        assert await node.dag.get(f"{root}/1") == b"\x01\x02"
        bare = await node.dag.put(leaf)
        assert await node.dag.get(bare) == leaf
        for path in ("2", "x", "0/there/other", "0/there/leaf/more", "-1", "0/there/Links/0/Name/0"):
            with pytest.raises(LinkNotFound):
                await node.dag.get(f"{root}/{path}")
        with pytest.raises(EncodeError):
            await node.dag.put(2**70)
        with pytest.raises(EncodeError, match="dag-cbor"):
            await node.dag.put(b"", codec="raw")


@pytest.mark.anyio
async def test_what_is_pinned_below_a_root_stays_when_a_node_in_memory_collects(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(b"x" * 3_000_000 + bytes(3_000_000))
    async with Node.open() as node:
        root = await node.add(tmp_path / "f.bin", copy=True)
        ticket = await node.share(tmp_path / "f.bin", open=True)
        loose = await node.blocks.put(b"loose")
        assert (await node.gc(dry_run=True)).blocks == 1 and await node.blocks.has(loose)
        assert (await node.gc()).blocks == 1
        assert len(await node.cat(root)) == 6_000_000
        with pytest.raises(Refused, match="pinned"):
            await node.blocks.delete(root)
        await node.pins.rm(root)
        assert (await node.gc()).blocks == 0, "it is shared"
        await node.unshare(ticket and root)
        assert (await node.gc()).kept == 0


@pytest.mark.anyio
async def test_a_closed_node_says_so(open_node: OpenNode, tmp_path: Path) -> None:
    async with open_node() as node:
        cid = await node.blocks.put(b"x")
    calls: list[Callable[[], Awaitable[object]]] = [
        node.identity,
        node.gc,
        node.shares,
        lambda: node.blocks.get(cid),
        lambda: node.blocks.put(b"y"),
        lambda: node.put([(cid, b"x")]),
        lambda: node.dag.get(cid),
        lambda: node.pins.ls(),
        lambda: node.get(cid, tmp_path),
        lambda: node.cat(cid),
        lambda: node.publish("news", b"x"),
        lambda: AsyncExitStack().enter_async_context(node.find("zebra")),
    ]
    for call in calls:
        with pytest.raises(NodeClosed, match="this node is closed"):
            await call()


@pytest.mark.anyio
async def test_calls_that_wait_end_when_their_node_is_closed(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    nowhere = Cid.of(b"nowhere")

    async def session_get(node: Node) -> object:
        async with node.session(nowhere) as session:
            return await session.get(nowhere)

    async def expect(call: Callable[[Node], Awaitable[object]], node: Node) -> None:
        try:
            await call(node)
        except StackError as error:
            failures.append(error)

    calls: list[Callable[[Node], Awaitable[object]]] = [
        session_get,
        lambda node: node.blocks.get(nowhere),
        lambda node: node.get(nowhere, tmp_path),
        lambda node: node.pins.add(nowhere),
    ]
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, Node.open() as node:
            for call in calls:
                tasks.start_soon(expect, call, node)
            await settled(lambda: len(node.exchange.sessions) == len(calls))
    assert [type(error) for error in failures] == [NodeClosed] * len(calls)


@pytest.mark.anyio
async def test_a_home_without_a_node_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"no node runs in .*: start `stack daemon`"):
        async with RunningNode.open(tmp_path):
            raise AssertionError


GROUPS = {Blocks: SyncBlocks, Pins: SyncPins, Peers: SyncPeers, Dag: SyncDag, AnyNode: SyncNode}
FOR_REQUESTS = {"ask", "watch", "read", "write", "is_elsewhere"}
"""What commands use, and programs need not."""


def surface(kind: type) -> dict[str, list[tuple[str, object, object]]]:
    """Public names with their parameters: name, kind and default of each."""
    return {
        name: [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in inspect.signature(member).parameters.values()
        ]
        if inspect.isfunction(member)
        else []
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("kind", GROUPS, ids=lambda kind: kind.__name__)
def test_every_call_has_the_same_name_and_parameters_without_await(kind: type) -> None:
    plain, sync = surface(kind), surface(GROUPS[kind])
    for name in ("blocks", "pins", "peers", "dag"):  # properties here, attributes of the instance there
        plain.pop(name, None)
    for name in FOR_REQUESTS:
        plain.pop(name, None)
    for name in ("open", "running"):
        sync.pop(name, None)
    assert plain == sync


@pytest.mark.parametrize("kind", [Node, RunningNode])
def test_every_kind_of_node_takes_the_same_parameters(kind: type[AnyNode]) -> None:
    ours = surface(kind)
    for name, parameters in surface(AnyNode).items():
        assert ours[name] == parameters, name


def test_every_group_of_calls_is_compared() -> None:
    defined = {
        value for value in vars(groups).values() if inspect.isclass(value) and value.__module__ == groups.__name__
    }
    assert defined - {groups.StoredBlocks} == set(GROUPS) - {AnyNode}  # which has no calls of its own
    assert {sync.__module__ for sync in GROUPS.values()} == {sync_groups.__name__, SyncNode.__module__}


def test_a_script_uses_blocks_pins_and_values(tmp_path: Path) -> None:
    with SyncNode.open() as one, SyncNode.open(backend="trio") as two:
        cid = one.blocks.put(b"a block")
        root = one.dag.put({"link": cid})
        two.peers.connect(one.addresses()[0])
        assert [peer.peer_id for peer in two.peers.ls()] == [str(one.peer_id)]
        two.pins.add(root, timeout=10)
        assert two.blocks.has([cid, root]) == [True, True] and two.dag.get(f"{root}/link") == b"a block"
        assert [pin.cid for pin in two.pins.ls()] == [root] and two.pins.rm(root)
        assert two.gc().blocks == 2 and two.shares() == () and two.unshare("x") == ()
        with two.session(cid) as session:
            assert session.get(cid, timeout=10) == b"a block"
            with pytest.raises(BlockNotFound):
                session.get(Cid.of(b"nowhere"), timeout=0.1)
        assert two.peers.disconnect(one.peer_id) and two.blocks.delete(cid)
        two.put([(cid, b"a block")])
        assert two.identity().peer_id == str(two.peer_id)
    for call in (two.gc, two.pins.ls, lambda: two.blocks.get(cid), two.addresses, lambda: two.session(cid).__enter__()):
        with pytest.raises(NodeClosed):
            call()


INTERRUPTED = """
import sys
from stack import Cid, Config, SyncNode
with SyncNode.open(backend=sys.argv[2]) as node, SyncNode.open() as other:
    node.connect(other.addresses()[0])
    nowhere = Cid.of(b"nobody has this")
    print("waiting", flush=True)
    if sys.argv[1] == "get":
        node.get(nowhere, "there")
    else:
        with node.fetch(nowhere, "there") as events:
            for event in events:
                pass
"""


@pytest.mark.parametrize(("call", "backend"), [("get", "asyncio"), ("fetch", "trio")])
@pytest.mark.timeout(150)
@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_ends_a_script_that_waits_for_nobody_within_two_seconds(call: str, backend: str, tmp_path: Path) -> None:
    """Point 41: it took 26 seconds. The bound here is ten times what is promised, for machines that are busy."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, call, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)  # it has begun to wait
            process.send_signal(signal.SIGINT)
            process.wait(20)
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read().rstrip().endswith("KeyboardInterrupt")
