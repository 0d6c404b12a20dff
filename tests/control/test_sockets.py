"""The control socket as a byte stream."""

import asyncio
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import stack
from stack.control import sockets
from stack.control.client import ControlClient
from stack.control.errors import NodeUnreachable
from stack.control.sockets import LocalListener, LocalStream, connect_local
from stack.node.api import GetIdentity
from stack.node.home import ControlAddress

pytestmark = pytest.mark.anyio


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user for a moment")
async def test_attack_11_nothing_is_said_to_another_user_who_listens_where_a_node_did() -> None:
    """A home with a long path has its socket below /tmp; when /tmp is cleared under a node that was killed, anybody may listen there."""
    place = Path(tempfile.mkdtemp(prefix="stack-"))
    place.chmod(0o777)
    path = str(place / "node.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            os.seteuid(65534)
            listening.bind(path)
            listening.listen()
        finally:
            os.seteuid(0)
        with pytest.raises(NodeUnreachable, match="another user of this computer listens"):
            await ControlClient(ControlAddress(path)).ask(GetIdentity())
        with listening.accept()[0] as connection:
            assert connection.recv(1000) == b""
    shutil.rmtree(place)


async def test_who_listens_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "s")
    listener = LocalListener(path)
    stream = await connect_local(path)
    assert sockets.listening_user(stream._connection) == os.getuid()
    await stream.aclose()
    monkeypatch.setattr(sockets, "listening_user", lambda connection: os.getuid() + 1)
    with pytest.raises(PermissionError, match="another user"):
        await connect_local(path)
    await listener.aclose()


def pair() -> tuple[LocalStream, socket.socket]:
    """A stream, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    return LocalStream(ours), theirs


async def cancelled_as_it_comes(wait: Callable[[], Awaitable[object]], come: Callable[[], object]) -> list[object]:
    """Cancel a wait in the turn of the event loop in which what it waits for has come. What asyncio complains of."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            come()
            # This task is in the queue of the next turn before the selector is asked, and so comes first in it.
            await asyncio.sleep(0)
            tasks.cancel_scope.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    return complaints


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_request_that_is_over_as_the_client_hangs_up_is_no_surprise() -> None:
    """The node that serves watches its client, and stops when it has answered."""
    ours, theirs = pair()
    with theirs:
        assert await cancelled_as_it_comes(ours.receive, theirs.close) == []
    await ours.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_node_that_stops_as_somebody_connects_is_no_surprise(tmp_path: Path) -> None:
    listener = LocalListener(str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as client:
        assert await cancelled_as_it_comes(listener.accept, lambda: client.connect(str(tmp_path / "s"))) == []
    await listener.aclose()


def test_nothing_waits_for_a_local_socket_in_another_way() -> None:
    kinds = re.compile(r"anyio\.(connect_unix|create_unix_\w+)|add_(reader|writer)\(")
    found = [path.name for path in Path(stack.__file__).parent.rglob("*.py") if kinds.search(path.read_text())]
    assert found == []


async def test_bytes_go_both_ways_to_the_end(tmp_path: Path) -> None:
    listener = LocalListener(str(tmp_path / "s"))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    received = b""

    async def serve() -> None:
        async with await listener.accept() as stream:
            async for piece in stream:
                await stream.send(piece)

    async with anyio.create_task_group() as tasks, await connect_local(str(tmp_path / "s")) as stream:
        tasks.start_soon(serve)
        tasks.start_soon(stream.send, bytes(1_000_000))
        while len(received) < 1_000_000:
            received += await stream.receive()
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await stream.send_eof()
    await listener.aclose()
    await listener.aclose()


async def test_who_waits_for_commands_is_told_when_no_more_are_taken(tmp_path: Path) -> None:
    listener = LocalListener(str(tmp_path / "s"))
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await listener.accept()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await listener.aclose()


async def test_a_command_waits_for_a_node_whose_backlog_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "BACKLOG", 0)
    monkeypatch.setattr(sockets, "BUSY_SECONDS", 0.02)
    listener = LocalListener(str(tmp_path / "s"))
    first = await connect_local(str(tmp_path / "s"))
    connected: list[LocalStream] = []

    async def connect() -> None:
        connected.append(await connect_local(str(tmp_path / "s")))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.wait_all_tasks_blocked()
            assert not connected
            accepted = [await listener.accept(), await listener.accept()]
    for stream in (first, *connected, *accepted):
        await stream.aclose()
    await listener.aclose()


async def test_a_place_that_cannot_be_used_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LocalListener(str(tmp_path / "missing" / "s"))
    with pytest.raises(OSError, match="No such file"):
        await connect_local(str(tmp_path / "missing"))
