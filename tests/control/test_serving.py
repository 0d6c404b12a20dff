"""The control socket of a process that lasts, and of one that is about to end."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import anyio.lowlevel
import pytest

from stack.control import serving
from stack.control.client import ControlClient
from stack.control.errors import NodeGone
from stack.control.serving import ControlSocket
from stack.node.api import Api, GetIdentity, Ping
from stack.node.home import ControlAddress, Home
from tests.control.test_control import INFO, MadeUpNode

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def held(tmp_path: Path, *, lasts: bool = False) -> AsyncIterator[tuple[ControlSocket, ControlClient]]:
    """A home that is held, and who may ask its holder."""
    home = Home(tmp_path / "home")
    assert home.acquire()
    async with serving.serve_control(cast(Api, MadeUpNode()), home, lasts=lasts) as control:
        address = home.address()
        assert address is not None
        yield control, ControlClient(address)
    home.release()


async def drained(control: ControlSocket) -> bool:
    """Whether nobody is waited for."""
    with anyio.move_on_after(0.1) as waiting:
        await control.drain()
    return not waiting.cancelled_caught


async def test_who_stays_may_ask_one_thing_after_the_other_while_the_holder_wants_to_end(tmp_path: Path) -> None:
    """`stack ls` printed all names, asked for their number, and ended with "cannot be reached"."""
    async with held(tmp_path) as (control, client):
        async with client.staying():
            control.hand_over()
            assert not await drained(control)
            assert await client.ask(GetIdentity()) == INFO
            assert await client.ask(GetIdentity()) == INFO
            assert not await drained(control)
        with anyio.fail_after(5):
            await control.drain()
        with pytest.raises(NodeGone):
            await client.ask(GetIdentity())


async def test_who_stays_and_asks_nothing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `pubsub sub` that was stopped by Ctrl-Z kept the `get` beside it from its end."""
    monkeypatch.setattr(serving, "STAY_SECONDS", 0.3)
    async with held(tmp_path) as (control, client), client.staying():
        control.hand_over()
        assert not await drained(control)
        with anyio.fail_after(5):
            await control.drain()
        with pytest.raises(NodeGone):
            await client.ask(GetIdentity())


async def test_who_stays_is_waited_for_while_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STAY_SECONDS", 0.3)
    async with held(tmp_path) as (control, client), client.staying():
        async with client.watch(Ping(target="forever", count=0)):
            control.hand_over()
            with anyio.move_on_after(1.0):
                await control.drain()
            assert await client.ask(GetIdentity()) == INFO
        with anyio.fail_after(5):
            await control.drain()


async def test_who_stays_and_asks_now_and_then_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question was over before it was looked for."""
    monkeypatch.setattr(serving, "STAY_SECONDS", 0.6)
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.25)
    async with held(tmp_path) as (control, client), client.staying(), anyio.create_task_group() as tasks:
        control.hand_over()
        tasks.start_soon(control.drain)
        for _ in range(8):
            assert await client.ask(GetIdentity()) == INFO
            await anyio.sleep(0.2)
        tasks.cancel_scope.cancel()


async def test_who_was_let_in_is_waited_for_before_he_is_served(tmp_path: Path) -> None:
    async with held(tmp_path) as (control, client):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(client._address.path))
        while not control.active:
            await anyio.lowlevel.checkpoint()
        assert not await drained(control)
        connection.close()
        with anyio.fail_after(5):
            await control.drain()


async def test_a_server_that_cannot_be_loaded_hangs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client waited for five seconds."""

    def refused(_: ControlSocket) -> None:
        raise OSError(errno.EMFILE, "injected")

    async with held(tmp_path) as (_, client):
        monkeypatch.setattr(ControlSocket, "_begun", refused)
        with anyio.fail_after(2), pytest.raises(NodeGone):
            await client.ask(GetIdentity())


async def test_what_requests_need_is_loaded_before_its_files_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon whose package was updated could not even be told to stop."""
    loaded: list[str] = []
    monkeypatch.setattr(serving, "PREPARED_SECONDS", 0.05)
    monkeypatch.setattr(serving, "_load_handlers", lambda: loaded.append("all"))
    async with held(tmp_path / "daemon", lasts=True) as (control, _):
        assert loaded and control._server is not None
    async with held(tmp_path / "share") as (control, _):
        assert len(loaded) == 1 and control._server is None
        with anyio.fail_after(5):
            while len(loaded) < 2:
                await anyio.sleep(0.01)
        assert control._server is not None


async def test_nobody_behind_a_port_has_gone() -> None:
    """On systems without Unix sockets; anyio's error is of no kind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NodeGone):
        await ControlClient(ControlAddress(None, "127.0.0.1", port, b"token")).ask(GetIdentity())
