"""A router that opens ports, as a machine and on a socket."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import anyio
import anyio.abc

MAPPED = bytes(10) + b"\xff\xff"


@dataclass
class Router:
    """Speaks `versions`; `opened` has each port and for how many seconds it was asked for last."""

    versions: tuple[int, ...] = (0, 2)
    result: int = 0
    address: str = "9.1.1.1"
    external: int = 4002
    seconds: int = 600
    is_silent_of_others: bool = False
    opened: dict[int, int] = field(default_factory=dict)

    def answer(self, data: bytes) -> bytes | None:
        version, operation = data[0], data[1]
        if version not in self.versions:
            return None if self.is_silent_of_others else bytes([0, operation | 128, 0, 1, 0, 0, 0, 7])
        if version == 0 and operation == 0:
            return bytes([0, 128, 0, 0, 0, 0, 0, 7]) + IPv4Address(self.address).packed
        port = int.from_bytes(data[4:6] if version == 0 else data[40:42])
        wanted = int.from_bytes(data[8:12] if version == 0 else data[4:8])
        if not self.result:
            self.opened[port] = wanted
        granted = min(wanted, self.seconds).to_bytes(4)
        outside = self.external.to_bytes(2)
        if version == 0:
            return bytes([0, operation | 128]) + self.result.to_bytes(2) + bytes(4) + data[4:6] + outside + granted
        head = bytes([2, 129, 0, self.result]) + granted + bytes(16)
        return head + data[24:42] + outside + MAPPED + IPv4Address(self.address).packed


@asynccontextmanager
async def listening(router: Router) -> AsyncIterator[int]:
    """The router on a port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.setblocking(False)
        place.bind(("127.0.0.1", 0))

        async def serve() -> None:
            while True:
                await anyio.wait_readable(place)
                data, sender = place.recvfrom(2000)
                if (answer := router.answer(data)) is not None:
                    place.sendto(answer, sender)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            yield place.getsockname()[1]
            with anyio.move_on_after(0.05):  # for what was said last
                await anyio.sleep_forever()
            tasks.cancel_scope.cancel()


@dataclass
class UpnpRouter:
    """A router that speaks UPnP on loopback; `said` has each call, by its action."""

    refuses: str = ""
    """The number of an error that is answered to whoever wants a port."""
    taken: tuple[int, ...] = ()
    """Ports outside that are another computer's."""
    gives: int = 0
    """The port outside that it gives, if it speaks version 2."""
    address: str = "9.1.1.1"
    describes: bytes = (
        b"<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
        b"<controlURL>/ctl</controlURL></service>"
    )
    said: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    """Those outside that it was asked for, or to shut."""
    ponders: float = 0.0
    """Seconds before each page."""
    holds_on: bool = False
    """The connection stays open after an answer."""

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await self._answer(stream, await stream.receive())
            if self.holds_on:
                with suppress(anyio.EndOfStream):
                    await stream.receive()

    async def _answer(self, stream: anyio.abc.ByteStream, request: bytes) -> None:
        await anyio.sleep(self.ponders)
        action = re.search(rb"<u:(\w+)", request)
        if action is None:
            length = len(self.describes)
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, self.describes))
            return
        self.said.append(action[1].decode())
        outside = re.search(rb"<NewExternalPort>(\d+)<", request)
        self.ports += [int(outside[1])] if outside is not None else []
        refuses = self.refuses or ("718" if self.ports and self.ports[-1] in self.taken else "")
        if refuses and self.said[-1] == "AddPortMapping":
            body = f"<errorCode>{refuses}</errorCode>"
            await stream.send(f"HTTP/1.1 500 No\r\n\r\n{body}".encode())
        else:
            body = f"<NewExternalIPAddress>{self.address}</NewExternalIPAddress><NewReservedPort>{self.gives}</NewReservedPort>"
            await stream.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())


@asynccontextmanager
async def speaking_upnp(router: UpnpRouter) -> AsyncIterator[tuple[str, int]]:
    """Where it is searched for."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as pages, anyio.create_task_group() as tasks:
        port = pages.extra(anyio.abc.SocketAttribute.local_port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
            place.setblocking(False)
            place.bind(("127.0.0.1", 0))

            async def answer() -> None:
                while True:
                    await anyio.wait_readable(place)
                    sender = place.recvfrom(2000)[1]
                    place.sendto(b"nonsense", sender)
                    place.sendto(f"HTTP/1.1 200 OK\r\nLOCATION: http://127.0.0.1:{port}/d\r\n\r\n".encode(), sender)

            tasks.start_soon(answer)
            tasks.start_soon(pages.serve, router.serve)
            yield place.getsockname()
            tasks.cancel_scope.cancel()
