"""The control protocol, with a node that is made up."""

import errno
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import anyio.abc
import pytest

from stack.control import server, serving
from stack.control.client import ControlClient
from stack.control.errors import NodeUnreachable
from stack.control.frames import CONTROL_VERSION, FrameStream
from stack.control.server import ControlServer
from stack.errors import NoProvider
from stack.multiformats.cid import Cid
from stack.node.api import (
    Api,
    BlockInfo,
    BlockPut,
    Cat,
    GetIdentity,
    ListPins,
    ListShares,
    NodeInfo,
    Pin,
    Ping,
    PingReply,
    RepoStat,
    Stay,
)
from stack.node.exit_codes import BUG, NO_DAEMON, NOT_FOUND
from stack.node.exits import NodeError, exit_code
from stack.node.home import ControlAddress, Home
from stack.pb.control_pb2 import Call, Frame, Hello
from tests.turns import turns_measured

pytestmark = pytest.mark.anyio

CID = Cid.parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
INFO = NodeInfo(peer_id="me", addresses=(), agent="stack/test", protocols=(), home=None, role="daemon", pid=1)


class MadeUpNode:
    """Answers a few requests, fails others, and remembers what was cancelled."""

    def __init__(self) -> None:
        self.cancelled = anyio.Event()

    async def ask(self, request: object) -> object:
        if isinstance(request, GetIdentity):
            return INFO
        if isinstance(request, ListPins):
            return (Pin(cid=CID, name="a", kind="pin"),)
        if isinstance(request, RepoStat):
            raise AssertionError
        raise NoProvider("nobody has it")

    @asynccontextmanager
    async def watch(self, request: Ping | Stay) -> AsyncIterator[AsyncIterator[PingReply]]:
        async def replies() -> AsyncGenerator[PingReply, None]:
            if isinstance(request, Stay):
                await anyio.sleep_forever()
            for number in range(request.count):
                yield PingReply(peer_id=request.target, sequence=number, seconds=0.5)
            if request.target == "forever":
                try:
                    await anyio.sleep_forever()
                finally:
                    self.cancelled.set()
            if request.target == "bug":
                raise ValueError("oops")

        async with aclosing(replies()) as events:
            yield events

    @asynccontextmanager
    async def read(self, request: Cat) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"x" * 1_000_000
            yield b"y"

        yield pieces()

    async def write(self, request: object, data: AsyncIterator[bytes]) -> BlockInfo:
        total = 0
        async for piece in data:
            total += len(piece)
            if total > 2_000_000:
                raise NoProvider("too much")
        return BlockInfo(cid=CID, size=total)


@asynccontextmanager
async def control(path: Path, token: bytes | None = None) -> AsyncIterator[tuple[ControlClient, MadeUpNode]]:
    """A server on a unix socket, and a client of it."""
    node = MadeUpNode()
    server = ControlServer(cast(Api, node), "stack/test", token)
    listener = await anyio.create_unix_listener(path)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        yield ControlClient(ControlAddress(str(path), token=b"secret")), node
        tasks.cancel_scope.cancel()


async def test_one_question_has_one_answer(tmp_path: Path) -> None:
    async with control(tmp_path / "s") as (client, _):
        assert await client.ask(GetIdentity()) == INFO
        assert await client.ask(ListPins()) == (Pin(cid=CID, name="a", kind="pin"),)


async def test_events_come_one_by_one(tmp_path: Path) -> None:
    async with control(tmp_path / "s") as (client, _), client.watch(Ping(target="x", count=3)) as replies:
        assert [reply.sequence async for reply in replies] == [0, 1, 2]


async def test_leaving_the_context_ends_the_work_in_the_node(tmp_path: Path) -> None:
    async with control(tmp_path / "s") as (client, node):
        async with client.watch(Ping(target="forever", count=1)) as replies:
            await anext(replies)
        with anyio.fail_after(5):
            await node.cancelled.wait()


async def test_byte_streams_flow_both_ways(tmp_path: Path) -> None:
    async def data() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"z" * 100_000

    async with control(tmp_path / "s") as (client, _):
        async with client.read(Cat(source="x")) as pieces:
            assert b"".join([piece async for piece in pieces]) == b"x" * 1_000_000 + b"y"
        assert (await client.write(BlockPut(), data())).size == 1_000_000


async def test_an_error_keeps_its_words_and_its_exit_code(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"z" * 100_000

    async with control(tmp_path / "s") as (client, _):
        with pytest.raises(NodeError, match="nobody has it") as raised:
            await client.ask(ListShares())
        assert exit_code(raised.value) == NOT_FOUND
        with pytest.raises(NodeError, match="too much"):
            await client.write(BlockPut(), endless())


async def test_a_bug_in_the_node_is_told_and_the_node_lives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with control(tmp_path / "s") as (client, _):
        with pytest.raises(NodeError, match="internal error") as raised:
            async with client.watch(Ping(target="bug", count=0)) as replies:
                async for _reply in replies:
                    raise AssertionError
        assert exit_code(raised.value) == BUG
        assert await client.ask(GetIdentity()) == INFO
    assert "oops" in caplog.text


async def test_nobody_at_the_address_is_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable) as raised:
        await ControlClient(ControlAddress(str(tmp_path / "nothing"))).ask(GetIdentity())
    assert exit_code(raised.value) == NO_DAEMON


async def test_another_version_is_told_clearly(tmp_path: Path) -> None:
    async def old(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await FrameStream(stream).send(Frame(hello=Hello(version=99, agent="stack/9.9")))

    listener = await anyio.create_unix_listener(tmp_path / "s")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, old)
        with pytest.raises(NodeUnreachable, match="speaks version 99"):
            await ControlClient(ControlAddress(str(tmp_path / "s"))).ask(GetIdentity())
        tasks.cancel_scope.cancel()


async def _words() -> AsyncIterator[bytes]:
    yield b"x"


async def test_a_node_that_goes_away_is_told_whatever_was_asked(tmp_path: Path) -> None:
    async def goes(stream: anyio.abc.ByteStream) -> None:
        frames = FrameStream(stream)
        await frames.send(Frame(hello=Hello(version=CONTROL_VERSION)))
        await frames.receive()
        await frames.receive()
        await stream.aclose()

    path = str(tmp_path / "socket")
    client = ControlClient(ControlAddress(path))

    async def watch() -> None:
        async with client.watch(Ping(target="x")) as events:
            assert not [event async for event in events]

    async def read() -> None:
        async with client.read(Cat(source=str(CID))) as pieces:
            assert not [piece async for piece in pieces]

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, goes)
        for call in (lambda: client.ask(GetIdentity()), watch, read, lambda: client.write(BlockPut(), _words())):
            with pytest.raises(NodeUnreachable):
                await call()  # type: ignore[operator]
        tasks.cancel_scope.cancel()


async def test_a_wrong_token_gets_nothing(tmp_path: Path) -> None:
    async with control(tmp_path / "s", token=b"other") as (client, _):
        with pytest.raises(NodeUnreachable):
            await client.ask(GetIdentity())
    async with control(tmp_path / "t", token=b"secret") as (client, _):
        assert await client.ask(GetIdentity()) == INFO


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 100, b"\x05hello", Frame(call=Call(request=b"{")).SerializeToString(), b"\xff\xff\xff\xff\x7f"],
)
async def test_garbage_on_the_socket_harms_nobody(tmp_path: Path, garbage: bytes) -> None:
    async with control(tmp_path / "s") as (client, _):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(tmp_path / "s"))
            raw.send(garbage)
        assert await client.ask(GetIdentity()) == INFO


async def test_a_request_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    async with control(tmp_path / "s"), await anyio.connect_unix(tmp_path / "s") as stream:
        frames = FrameStream(stream)
        await frames.receive()
        await frames.send(Frame(hello=Hello(version=1)))
        await frames.send(Frame(call=Call(request=b'["x"]')))
        assert (await frames.receive()).failed.exit_code == 2


@asynccontextmanager
async def greeted(path: Path) -> AsyncIterator[FrameStream]:
    """A client of our own that has said hello."""
    async with await anyio.connect_unix(path) as stream:
        frames = FrameStream(stream)
        await frames.receive()
        await frames.send(Frame(hello=Hello(version=1)))
        yield frames


@pytest.mark.parametrize(
    "request_bytes",
    [
        b'{"class": "ListShares", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"class": "Fetch", "source": "x", "directory": "/", "timeout": 1' + b"0" * 400 + b"}",
        b'{"class": "Cat", "source": "x", "offset": 1e999}',
        b'{"class": 7}',
        b"[" * 100_000,
        b"[" * 900 + b"]" * 900,
        b"\xff\xfe",
        b"",
    ],
)
async def test_a_bad_request_is_an_error_for_who_made_it_and_for_nobody_else(
    request_bytes: bytes, tmp_path: Path
) -> None:
    """Finding 21: an integer beyond 64 bits ended the node."""
    async with control(tmp_path / "s") as (client, _):
        with anyio.fail_after(5):
            async with greeted(tmp_path / "s") as frames:
                await frames.send(Frame(call=Call(request=request_bytes)))
                assert (await frames.receive()).WhichOneof("kind") == "failed"
            assert await client.ask(GetIdentity()) == INFO


async def test_any_fault_while_a_request_is_read_is_told_to_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 21, whatever else a reader of foreign bytes may raise."""

    def fault(call: Call) -> object:
        raise ZeroDivisionError("oops")

    async with control(tmp_path / "s") as (client, _):
        with monkeypatch.context() as patched:
            patched.setattr("stack.control.server._request", fault)
            with pytest.raises(NodeError, match="oops"):
                await client.ask(GetIdentity())
        assert await client.ask(GetIdentity()) == INFO


async def test_finding_34_a_long_list_is_written_beside_the_loop() -> None:
    """Its kind: `stack pin ls` in a home with many pins kept all others waiting."""
    pins = tuple(Pin(cid=Cid.of(b"%d" % number), name="", kind="pin") for number in range(4000))
    async with turns_measured("a list of pins", 0.02):
        frame = await server._item(pins)
    assert frame.item.value.count(b'"pin"') == 4000


async def test_who_says_hello_and_then_nothing_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding 21: the wait for the call had no limit."""
    monkeypatch.setattr("stack.control.server.HELLO_SECONDS", 0.05)
    async with control(tmp_path / "s"), greeted(tmp_path / "s") as frames:
        with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
            await frames.receive()


class Scarce:
    """A listener that runs out of descriptors now and then."""

    def __init__(self, listener: anyio.abc.SocketListener, errors: list[OSError]) -> None:
        self._listener = listener
        self._errors = errors

    async def accept(self) -> object:
        if self._errors:
            raise self._errors.pop(0)
        return await self._listener.accept()

    async def __aenter__(self) -> "Scarce":
        return self

    async def __aexit__(self, *arguments: object) -> None:
        await self._listener.aclose()


async def test_the_control_socket_outlives_a_lack_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 3: anyio's own loop ended with the first EMFILE, and the node with it."""
    monkeypatch.setattr("stack.streams.accepting.PAUSE_SECONDS", 0.001)
    numbers = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED, errno.ENOMEM)
    listener = await anyio.create_unix_listener(tmp_path / "s")
    scarce = Scarce(listener, [OSError(number, "injected") for number in numbers])

    async def listen(home: Home) -> tuple[object, ControlAddress]:
        return scarce, ControlAddress(str(tmp_path / "s"))

    monkeypatch.setattr(serving, "_listen", listen)
    home = Home(tmp_path / "home")
    assert home.acquire()
    async with serving.serve_control(cast(Api, MadeUpNode()), home):
        with anyio.fail_after(5):
            assert await ControlClient(ControlAddress(str(tmp_path / "s"))).ask(GetIdentity()) == INFO
    home.release()
