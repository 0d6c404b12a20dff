"""The control socket of a home, for as long as a node holds it."""

import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
from anyio import to_thread
from anyio.abc import ByteStream, SocketListener

from stack.blocks.ending import let_go_with
from stack.control.sockets import LocalListener
from stack.errors import Refused
from stack.node.api import Api
from stack.node.home import ControlAddress, Home, new_token
from stack.protocols.identify.messages import AGENT_VERSION
from stack.streams.accepting import AcceptFaults
from stack.streams.supervision import Supervisor, supervised

if TYPE_CHECKING:
    from stack.control.server import ControlServer

ControlListener = LocalListener | SocketListener
"""Where other commands come in: by TCP on systems without Unix sockets."""

STAY_SECONDS = 10.0
"""Who stays and asks nothing for so long is stopped, or waits for somebody: perhaps for the end of this very process."""

POLL_SECONDS = 0.1

PREPARED_SECONDS = 1.0
"""Most commands are over by then, and nobody has come."""


class ControlSocket:
    """Serves the requests of other commands; after `hand_over` only short ones. `drain` returns when none is running and nobody is let
    in any more: he would be broken off."""

    def __init__(self, listener: ControlListener, api: Api, token: bytes | None) -> None:
        self._listener = listener
        self._api = api
        self._token = token
        self._server: ControlServer | None = None
        self._handed_over = False
        self._beginning = threading.Lock()
        self._active = 0
        self._asked_at = anyio.current_time()
        """When a request last came or was over, or this process has become ready to end."""
        self._idle = anyio.Event()
        self._idle.set()

    @property
    def active(self) -> int:
        """Requests that are being served."""
        return self._active

    def hand_over(self) -> None:
        """See `ControlServer.hand_over`."""
        self._handed_over = True
        self._asked_at = anyio.current_time()
        if self._server is not None:
            self._server.hand_over()

    async def drain(self) -> None:
        """Wait until no request is running: a command that ends must not take others down with it. Who comes then is hung up on, and
        looks for the next holder. Who only stays, and asks nothing, is waited for STAY_SECONDS."""
        while self._active:
            with anyio.move_on_after(POLL_SECONDS):
                await self._idle.wait()
            silent = anyio.current_time() >= self._asked_at + STAY_SECONDS
            if silent and self._server is not None and self._active == self._server.staying:
                self._server.part()
        await self._listener.aclose()

    async def accept(self, tasks: Supervisor) -> None:
        """Take in requests until the listener is closed. anyio's own `serve` ends, and all requests with it, at the first descriptor that
        is not to be had."""
        faults = AcceptFaults("the control socket")
        while True:
            try:
                stream = await self._listener.accept()
            except anyio.ClosedResourceError:
                return
            except OSError as error:
                await faults.survive(error)
            else:
                self._count(1)
                tasks.start(self._serve, stream, owner="a request of another command")

    async def _serve(self, stream: ByteStream) -> None:
        try:
            async with stream:
                await self._begun().serve(stream)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self._active += more
        self._asked_at = anyio.current_time()
        if not self._active:
            self._idle.set()
        elif self._idle.is_set():
            self._idle = anyio.Event()

    async def prepare(self, seconds: float) -> None:
        """Load what any request needs, after so long: in a process that lasts its files may be replaced, or no more to be opened."""
        await anyio.sleep(seconds)
        await to_thread.run_sync(self._begun)
        await to_thread.run_sync(_load_handlers)

    def _begun(self) -> "ControlServer":
        """The server, which is loaded for the first that comes: to most commands nobody does."""
        with self._beginning:
            if self._server is None:
                from stack.control.server import ControlServer

                self._server = ControlServer(self._api, AGENT_VERSION, self._token)
                if self._handed_over:
                    self._server.hand_over()
            return self._server


def _load_handlers() -> None:
    from stack.node.handlers import load_all

    load_all()


@asynccontextmanager
async def serve_control(api: Api, home: Home, *, lasts: bool = False) -> AsyncIterator[ControlSocket]:
    """Listen, and tell other commands where; whether the process `lasts` is known at once of a daemon only. Raises Refused when no socket
    can be made."""
    listener, address = await _listen(home)
    control = ControlSocket(listener, api, address.token or None)
    async with listener, supervised() as tasks:
        tasks.keep(control.accept, tasks, owner="the control socket")
        if lasts:
            await control.prepare(0.0)
        else:
            tasks.start(control.prepare, PREPARED_SECONDS, owner="what requests need")
        await to_thread.run_sync(home.announce_address, address)
        try:
            yield control
        finally:
            await let_go_with(_withdraw, home, address)


def _withdraw(home: Home, address: ControlAddress) -> None:
    home.withdraw_address()
    if address.path is not None:
        with suppress(OSError):
            os.unlink(address.path)


def _socket_path(home: Home) -> str:
    """Where the socket will be; what an earlier holder left there is removed. Raises Refused, OSError."""
    path = home.socket_path()
    Path(path).unlink(missing_ok=True)
    return path


async def _listen(home: Home) -> tuple[ControlListener, ControlAddress]:
    try:
        if hasattr(socket, "AF_UNIX"):
            path = await to_thread.run_sync(_socket_path, home)
            return await to_thread.run_sync(LocalListener, path), ControlAddress(path)
        token = new_token()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        return listener.listeners[0], ControlAddress(None, "127.0.0.1", port, token)  # type: ignore[return-value]
    except OSError as error:
        raise Refused(f"the control socket of {home.path} cannot be made: {error.strerror}") from error
